"""docs/python.md has every public call of the Python surface with its parameters, and its example runs."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import akidb
from akidb import errors
from akidb.surface import SEARCH_OPTIONS

DOCUMENT = (Path(__file__).parents[2] / "docs" / "python.md").read_text()
NAMED = set(re.findall(r"[A-Za-z_]\w*", " ".join(re.findall(r"`([^`\n]+)`", DOCUMENT))))


def signatures() -> list[str]:
    """What stands in backquotes with arguments, such as `delete(ids)`."""
    return re.findall(r"`((?:akidb\.)?\w+\([^`\n]*\))`", DOCUMENT)


def parameters(name: str) -> list[set[str]]:
    """The parameters of each time that a call is shown with its arguments."""
    shown = [text for text in signatures() if text.startswith(f"{name}(")]
    return [set(re.findall(r"(?:^|[(,])\s*\**([a-z_]\w*)", text.removeprefix(name))) for text in shown]


@pytest.mark.parametrize("kind", [akidb.Connection, akidb.Collection])
def test_every_method_is_there_with_its_parameters(kind: type) -> None:
    for name, value in inspect.getmembers(kind):
        if name.startswith("_"):
            continue
        assert name in NAMED, name
        if inspect.isfunction(value):
            taken = set(inspect.signature(value).parameters) - {"self", "timeout_ms", "consistency"}
            assert any(taken <= shown for shown in parameters(name)) or not taken, (name, taken, parameters(name))


def test_connect_has_its_arguments() -> None:
    assert set(inspect.signature(akidb.connect).parameters) in parameters("akidb.connect")


def test_every_option_of_a_search_is_explained() -> None:
    rows = set(re.findall(r"^\| `(\w+)` \|", DOCUMENT, re.M))
    assert rows >= {*SEARCH_OPTIONS, "timeout_ms", "consistency"}


@pytest.mark.parametrize("kind", [akidb.HnswIndex, akidb.FlatIndex])
def test_the_indexes_are_there(kind: type) -> None:
    public = {name for name, _ in inspect.getmembers(kind) if not name.startswith("_")}
    taken = {name for name in inspect.signature(kind.__init__).parameters if name != "self"}
    assert public | taken | set(inspect.signature(kind.search).parameters) - {"self"} <= NAMED


def test_every_error_and_every_exported_name_is_there() -> None:
    kinds = {name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, Exception)}
    assert kinds <= NAMED
    assert set(akidb.__all__) - {"Collection", "Connection", "Point", "ScoredPoint"} <= NAMED
    assert {"Collection", "Connection"} <= set(re.findall(r"^## (\w+)$", DOCUMENT, re.M))


@pytest.mark.parametrize("example", re.findall(r"^```python\n(.*?)^```", DOCUMENT, re.M | re.S))
def test_the_examples_run(example: str) -> None:
    ran = subprocess.run([sys.executable, "-W", "error", "-c", example], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
