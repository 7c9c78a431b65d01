"""A database that is the same on every machine, and what it must answer: written on one, opened on another.

    python -m tests.compat.exchange write FOLDER         makes a database in FOLDER
    python -m tests.compat.exchange check FOLDER OURS    asks it, makes another in OURS, compares all segments' bytes

`make test-arm` writes on x86-64, checks that on an emulated ARM at each level of its instructions, and checks on x86-64
what was made there.
"""

from __future__ import annotations

import itertools
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock
from uuid import UUID

import numpy as np

import akidb
from akidb.types import VectorArray

PATIENCE_MS = 1_800_000
"""Under emulation, on a machine that has other work, a search may take seconds and a graph minutes."""


@dataclass(frozen=True)
class Written:
    """One collection: what it holds follows from this."""

    name: str
    rows: int
    dim: int
    metric: str
    quantization: str

    @property
    def ids(self) -> list[str]:
        return [f"{'ø' if i % 5 == 0 else 'p'}{i}" for i in range(self.rows)]

    @property
    def vectors(self) -> VectorArray:
        """float32 (rows, dim) around twelve centres: numbers of PCG64, the same on every machine."""
        random = np.random.default_rng(self.rows)
        centres = random.random((12, self.dim), np.float32)
        return centres[random.integers(0, 12, self.rows)] + random.random((self.rows, self.dim), np.float32) / 2

    @property
    def payloads(self) -> list[dict[str, Any] | None]:
        return [
            None
            if i % 11 == 0
            else {"n": i % 7, "x": i / 8, "tags": [f"t{i % 3}", "all"], "even": i % 2 == 0, "ö": None}
            for i in range(self.rows)
        ]

    @property
    def deleted(self) -> list[str]:
        return self.ids[3::40]

    @property
    def kept(self) -> list[int]:
        """The numbers of the points that live."""
        return [i for i in range(self.rows) if i % 40 != 3]


CODED = Written("coded", rows=150, dim=70, metric="cosine", quantization="sq4")
CALIBRATED = Written("calibrated", rows=1200, dim=33, metric="euclidean", quantization="auto")
PLAIN = Written("plain", rows=120, dim=20, metric="dot", quantization="none")
COLLECTIONS = (CODED, CALIBRATED, PLAIN)


@contextmanager
def _counted() -> Iterator[None]:
    """Segments are named 1, 2, 3, and nothing is folded but when asked for; the rest follows from the input."""
    names = (UUID(int=number) for number in itertools.count(1))
    with (
        mock.patch("akidb.collection.fold.uuid4", side_effect=names),
        mock.patch("akidb.collection.maintenance.IDLE_FOLD_SECS", 1e9),
        mock.patch("akidb.collection.maintenance.TAIL_AGE_SECS_MAX", 1e9),
    ):
        yield


def fill(folder: Path, *collections: Written) -> None:
    """Create, upsert, delete, fold and build the graph; one segment each is left."""
    with _counted(), akidb.connect(str(folder)) as database:
        for written in collections:
            index = {"m": 8, "ef_construction": 60, "quantization": written.quantization}
            collection = database.create_collection(written.name, written.dim, metric=written.metric, index=index)
            ids, vectors, payloads = written.ids, written.vectors, written.payloads
            half = written.rows // 2
            collection.upsert(ids[:half], vectors[:half] + 1, payloads[:half])
            collection.upsert(ids, vectors, payloads)
            collection.delete(written.deleted)
            collection.wait_indexed(PATIENCE_MS)


def segments(folder: Path) -> dict[str, bytes]:
    """The segment objects of a database in a folder, by the order in which they were written."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("t/*/c/*/*/seg/*"))}


def ask(folder: Path, written: Written) -> list[list[str]]:
    """Nearest points of some of the vectors, after all that must be so was asserted of the collection."""
    with akidb.connect(str(folder)) as database:
        collection = database.collection(written.name)
        info = collection.info()
        assert (collection.count(), info.index.state) == (len(written.kept), "ready"), info
        (nothing,) = collection.get(written.deleted[:1])
        assert nothing is None
        (point,) = collection.get([written.ids[4]], with_vector=True)
        assert point is not None
        assert point.payload == written.payloads[4]
        np.testing.assert_array_equal(point.vector, written.vectors[4])
        asked = written.kept[:: len(written.kept) // 10]
        found = [_ids(collection.search(written.vectors[i], 5, timeout_ms=PATIENCE_MS)) for i in asked]
        if written.metric != "dot":
            assert [ids[0] for ids in found] == [written.ids[i] for i in asked]
        wanted = {"must": [{"field": "n", "match": 3}, {"field": "tags", "match": "t1"}]}
        filtered = _ids(collection.search(written.vectors[0], 100, filter=wanted, timeout_ms=PATIENCE_MS))
        matching = {written.ids[i] for i in written.kept if i % 11 and i % 7 == 3 and i % 3 == 1}
        assert (set(filtered), len(filtered)) == (matching, len(matching))
    return [*found, filtered]


def _ids(hits: Any) -> list[str]:
    return [hit.id for hit in hits]


def write(folder: Path) -> None:
    fill(folder, *COLLECTIONS)


def check(folder: Path, ours: Path) -> None:
    theirs = [ask(folder, written) for written in COLLECTIONS]
    write(ours)
    assert [ask(ours, written) for written in COLLECTIONS] == theirs
    assert len(segments(ours)) == len(COLLECTIONS)
    assert segments(ours) == segments(folder), "the same input made other bytes on the other architecture"


def main() -> None:
    action, folders = sys.argv[1], map(Path, sys.argv[2:])
    {"write": write, "check": check}[action](*folders)
    print(f"{action} on {platform.machine()} at {akidb.simd_info()['level']}: ok")


if __name__ == "__main__":
    main()
