"""A shard in miniature: memtable, segments and live masks as a collection keeps them, and the dict that is true."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest

from akidb.index import build_graph
from akidb.query import Part, Snapshot
from akidb.segment import MemTable, Segment, Source, write_segment
from akidb.types import CollectionSpec, IndexParams, Metric, VectorArray


@dataclass
class Kept:
    segment: Segment
    live: np.ndarray[tuple[int], np.dtype[np.bool_]]


class Shard:
    """`truth` maps id to (vector, payload)."""

    def __init__(self, spec: CollectionSpec, folder: Path) -> None:
        self.spec = spec
        self.folder = folder
        self.truth: dict[str, tuple[VectorArray, bytes | None]] = {}
        self.segments: list[Kept] = []
        self.table = MemTable(spec)
        self.lsn = 0
        self.written = 0

    def upsert(self, ids: Sequence[str], vectors: VectorArray, payloads: Sequence[bytes | None]) -> None:
        self.lsn += 1
        self._kill(self.table.apply_upsert(ids, vectors, payloads, self.lsn))
        self.truth |= {id_: (vectors[i], payloads[i]) for i, id_ in enumerate(ids)}

    def delete(self, ids: Sequence[str]) -> None:
        self.lsn += 1
        self._kill(self.table.apply_delete(ids, self.lsn))
        for id_ in ids:
            self.truth.pop(id_, None)

    def fold(self, absorb: int = 0, *, graph: bool = False) -> None:
        """The memtable and the last `absorb` segments become one."""
        view = self.table.snapshot()
        taken, self.segments = (
            self.segments[len(self.segments) - absorb :],
            self.segments[: len(self.segments) - absorb],
        )
        sources = [Source(view, view.live), *(Source(kept.segment, kept.live) for kept in taken)]
        segment = self._write(sources, None)
        if graph:
            vectors, metric = segment.vectors, self.spec.metric.native
            index = self.spec.index
            made = build_graph(vectors, metric, m=index.m, ef_construction=index.ef_construction)
            segment = self._write([Source(segment)], made)
        self.segments.append(Kept(segment, np.ones(segment.rows, np.bool_)))
        self.table = MemTable(self.spec)

    def snapshot(self) -> Snapshot:
        parts = [Part(kept.segment, kept.live.copy()) for kept in self.segments]
        return Snapshot((*parts, Part(self.table.snapshot())), (self.lsn,), self.spec)

    def _write(self, sources: Sequence[Source], graph: bytes | None) -> Segment:
        self.written += 1
        path = self.folder / f"segment-{self.written}"
        write_segment(path, uuid=UUID(int=self.written), spec=self.spec, sources=sources, graph=graph)
        return Segment.open(path, name=path.name)

    def _kill(self, ids: Sequence[str]) -> None:
        for kept in self.segments:
            rows = kept.segment.find(ids)
            kept.live[rows[rows >= 0]] = False


@pytest.fixture
def shard(tmp_path: Path) -> Callable[..., Shard]:
    def make(dim: int = 4, metric: Metric = Metric.COSINE, index: IndexParams | None = None) -> Shard:
        return Shard(CollectionSpec("points", dim, metric, index or IndexParams()), tmp_path)

    return make
