"""The protocol keeps its rules in every reachable state, and each of its steps is needed: without it one breaks."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("model.cc")


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    assert compiler is not None, "a C++ compiler is needed, as for AkiDB itself"
    built = tmp_path_factory.mktemp("model") / "model"
    subprocess.run([compiler, "-std=c++20", "-O2", "-o", str(built), str(SOURCE)], check=True)
    return built


def _run(model: Path, variant: str, first: int, second: int, mutant: str = "") -> tuple[int, str]:
    done = subprocess.run(
        [model, variant, str(first), str(second), mutant], capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1), done.stderr
    return done.returncode, done.stdout.strip().partition(": ")[2]


@pytest.mark.parametrize(
    ("variant", "first", "second"),
    [
        ("s3", 1, 1),
        ("local", 1, 1),
        ("local", 2, 1),
        pytest.param("s3", 2, 1, marks=pytest.mark.slow),
    ],
)
def test_every_rule_holds_in_every_state(model: Path, variant: str, first: int, second: int) -> None:
    assert _run(model, variant, first, second) == (0, "every rule holds")


@pytest.mark.parametrize(
    ("variant", "mutant", "rule"),
    [
        ("s3", "no uuid compare", "no double commit"),
        ("s3", "412 is success", "nothing acknowledged is lost"),
        ("s3", "ack before put", "nothing acknowledged is lost"),
        ("s3", "next slot while unknown", "no gap"),
        ("s3", "pipelined slots", "no gap"),
        ("s3", "no answer means not written", "nothing was written means never"),
        ("s3", "unknown is refused", "nothing was written means never"),
        ("s3", "reader stops before the 404", "no stale strong read"),
        ("s3", "fold beyond applied", "fold is the log"),
        ("local", "fold without compare", "what may be gone is folded"),
        ("local", "reader trusts every 404", "no stale strong read"),
        ("local", "delete before raising garbage", "no stale strong read"),
        ("local", "gc without lock", "a folded slot was created again"),
        ("local", "put outlives its lock", "a folded slot was created again"),
        ("local", "no check of garbage before a put", "a folded slot was created again"),
        ("local", "again after gone while unknown", "no double commit"),
    ],
)
def test_without_one_of_its_steps_a_rule_breaks(model: Path, variant: str, mutant: str, rule: str) -> None:
    assert _run(model, variant, 2, 1, mutant) == (1, rule)


def test_an_unknown_mutant_would_be_the_protocol_itself(model: Path) -> None:
    """So a misspelt name above can't pass: it would find every rule kept."""
    assert _run(model, "s3", 1, 1, "no such mutant") == (0, "every rule holds")
