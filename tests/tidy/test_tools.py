"""Layers, as `make lint` checks them, and the sample, as `make run` shows it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).parents[2]


def test_layers_hold() -> None:
    command = [
        sys.executable,
        "-c",
        "from importlinter.cli import lint_imports_command; lint_imports_command()",
        "--no-cache",
    ]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_every_package_has_its_layer() -> None:
    """import-linter's exhaustive layers miss a folder without __init__.py."""
    homeless = [
        folder.name
        for folder in sorted((ROOT / "akidb").iterdir())
        if folder.is_dir() and any(folder.rglob("*.py")) and not (folder / "__init__.py").exists()
    ]
    assert homeless == []


def embeddings(name: str) -> np.ndarray:
    column = pq.read_table(ROOT / "sample" / name)["embedding"].combine_chunks()
    return column.flatten().to_numpy().reshape(-1, column.type.list_size)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("pdf viewer", {"evince", "viewpdf.app", "dspdfviewer"}),
        ("a small web server", {"mini-httpd", "micro-httpd", "lighttpd", "nginx"}),
        ("chess game with graphics", {"gnome-chess", "dreamchess", "brutalchess"}),
    ],
)
def test_the_sample_holds_the_answers(query: str, expected: set[str]) -> None:
    packages = pq.read_table(ROOT / "sample" / "debian-packages.parquet")
    queries = pq.read_table(ROOT / "sample" / "queries.parquet")["query"].to_pylist()
    assert len(packages) == 4000
    scores = embeddings("debian-packages.parquet") @ embeddings("queries.parquet")[queries.index(query)]
    best = [packages["name"][int(row)].as_py() for row in np.argsort(-scores)[:4]]
    assert expected <= set(best)
