"""The data: generated sets by name, and files."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench import data
from bench.ann.peers.library import Vectors

GENERATED = re.compile(r"(\d+)-(l2|cosine|ip)")
STANDARD = ("128-l2", "768-cosine")


@dataclass(frozen=True)
class Set:
    name: str
    metric: str
    base: Vectors
    queries: Vectors


def add_arguments(parser: argparse.ArgumentParser, *, n: int, queries: int) -> None:
    """What `load` takes, of programs that measure one set; n and queries are the defaults."""
    parser.add_argument("set", nargs="?", default="128-l2", help="as python -m bench.ann takes it")
    parser.add_argument("--n", type=int, default=n, help="vectors to generate, or at most to read")
    parser.add_argument("--metric", choices=("cosine", "l2", "ip"), help="of files")
    parser.add_argument("--queries", type=int, default=queries)


def load(source: str, n: int, queries: int, metric: str | None, seed: int) -> Set:
    """`source` is a dimension and metric, as in 128-l2, of which n vectors are generated; or a file, of which n are
    taken at most. `metric` is the file's; by default what an .hdf5 file says, else cosine. Queries are an .hdf5 file's
    own; elsewhere they are drawn from the rows, and left out of them.
    """
    named = GENERATED.fullmatch(source)
    if named:
        dim, metric = int(named[1]), named[2]
        made = data.clustered(n, dim, queries=queries, unit=metric == "cosine", seed=seed)
        return Set(f"{source}-{_count(n)}", metric, made.base, made.queries)
    path = Path(source)
    if path.suffix == ".hdf5":
        base, asked, said = _hdf5(path, n, queries)
        return _of(path, metric or said, base, asked)
    rows = data.read(path)
    rows = rows[np.random.default_rng(seed).permutation(len(rows))[: n + queries]]
    return _of(path, metric or "cosine", rows[queries:], rows[:queries])


def _of(path: Path, metric: str, base: Vectors, queries: Vectors) -> Set:
    rows, asked = (np.ascontiguousarray(vectors, np.float32) for vectors in (base, queries))
    return Set(f"{path.stem}-{metric}-{_count(len(rows))}", metric, rows, asked)


def _count(n: int) -> str:
    return f"{n / 1e6:g}m" if n >= 1_000_000 else f"{n / 1000:g}k"


def _hdf5(path: Path, n: int, queries: int) -> tuple[Vectors, Vectors, str]:
    """A file as ann-benchmarks has them: train, test, and the attribute distance."""
    import h5py

    with h5py.File(path) as file:
        said = {"euclidean": "l2", "angular": "cosine", "dot": "ip"}[file.attrs.get("distance", "angular")]
        return file["train"][:n], file["test"][:queries], said
