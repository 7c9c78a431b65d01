"""Segments and memtables from seeded rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest

from akidb.segment import MemTable, Segment, Source, write_segment
from akidb.types import CollectionSpec, IndexParams, Metric, VectorArray


@dataclass
class Made:
    """A segment and what went into it."""

    segment: Segment
    path: Path
    ids: list[str]
    vectors: VectorArray
    payloads: list[bytes | None]


def table_of(
    spec: CollectionSpec, ids: Sequence[str], payloads: Sequence[bytes | None], *, seed: int = 0, lsn: int = 1
) -> MemTable:
    """A memtable of normal vectors, one slot per row from `lsn` on."""
    vectors = np.random.default_rng(seed).normal(size=(len(ids), spec.dim)).astype(np.float32)
    table = MemTable(spec)
    for i, id_ in enumerate(ids):
        table.apply_upsert([id_], vectors[i : i + 1], [payloads[i]], lsn + i)
    return table


@pytest.fixture
def spec() -> CollectionSpec:
    return CollectionSpec("points", 8, Metric.COSINE, IndexParams())


@pytest.fixture
def make(tmp_path: Path, spec: CollectionSpec) -> Callable[..., Made]:
    """make(rows, spec=…): a segment of rows "id-0", "id-1", … of which every third has no payload."""
    made = 0

    def make(rows: int, spec: CollectionSpec = spec, graph: bytes | None = None) -> Made:
        nonlocal made
        made += 1
        ids = [f"id-{made}-{i}" for i in range(rows)]
        payloads = [None if i % 3 == 2 else b'{"n":%d,"text":"%s"}' % (i, b"x" * (i % 700)) for i in range(rows)]
        view = table_of(spec, ids, payloads, seed=made).snapshot()
        path = tmp_path / f"segment-{made}"
        write_segment(path, uuid=UUID(int=made), spec=spec, sources=[Source(view)], graph=graph)
        return Made(Segment.open(path, name=f"seg/{made}"), path, ids, np.array(view.vectors), payloads)

    return make
