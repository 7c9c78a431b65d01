"""The JSON that akidb-api answers with, as far as the client reads it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

import msgspec
import numpy as np

from akidb.types import (
    INDEX_FIELDS,
    CacheState,
    CollectionInfo,
    CollectionSpec,
    CompactionState,
    IndexParams,
    IndexState,
    Metric,
    Point,
    ScoredPoint,
    SnapshotInfo,
    VectorArray,
)

_NULL = msgspec.Raw(b"null")


class Written(msgspec.Struct):
    """Answer of every write. `lsn` is its position in the log, of several shards the largest; `deleted` how many
    points a filter took."""

    lsn: int = 0
    deleted: int | None = None


class StoredPoint(msgspec.Struct):
    id: str
    vector: list[float] | None = None
    payload: msgspec.Raw = _NULL
    version: int = 0

    def point(self) -> Point:
        return Point(self.id, _vector(self.vector), _json(self.payload), self.version)


class Points(msgspec.Struct):
    points: list[StoredPoint | None]


class Page(msgspec.Struct):
    points: list[StoredPoint]


class Hit(msgspec.Struct):
    id: str
    score: float
    payload: msgspec.Raw = _NULL
    vector: list[float] | None = None

    def scored(self) -> ScoredPoint:
        return ScoredPoint(self.id, self.score, _json(self.payload), _vector(self.vector))


class Answer(msgspec.Struct):
    results: list[Hit]


class BatchAnswer(msgspec.Struct):
    results: list[Answer]


class Count(msgspec.Struct):
    count: int


class Index(msgspec.Struct):
    state: str = "ready"
    indexed: int = 0
    pending: int = 0
    type: str = "auto"
    m: int = 16
    ef_construction: int = 400
    ef_search: int = 200
    quantization: str = "auto"


class IndexAnswer(msgspec.Struct):
    index: Index


class Compaction(msgspec.Struct):
    state: Literal["idle", "pending", "merging"] = "idle"
    segments: int = 0
    points: int = 0
    progress: float = 0.0


class Cache(msgspec.Struct):
    pinned: bool = False
    cached_bytes: int = 0
    bytes: int = 0

    def state(self) -> CacheState:
        return CacheState(self.pinned, self.cached_bytes, self.bytes)


class CacheAnswer(msgspec.Struct):
    cache: Cache


class CollectionDescription(msgspec.Struct):
    name: str
    vector_dim: int
    distance: str
    vector_count: int = 0
    segments: int = 0
    bytes: int = 0
    lsn: int = 0
    version: int = 0
    index: Index = msgspec.field(default_factory=Index)
    compaction: Compaction = msgspec.field(default_factory=Compaction)
    cache: Cache = msgspec.field(default_factory=Cache)
    payload_schema: dict[str, Any] | None = None
    shard_count: int = 1
    damaged: list[str] = []
    tail_points: int = 0

    def info(self) -> CollectionInfo:
        index = IndexParams(**{name: getattr(self.index, name) for name in INDEX_FIELDS})
        return CollectionInfo(
            spec=CollectionSpec(
                self.name, self.vector_dim, Metric.parse(self.distance), index, self.payload_schema, self.shard_count
            ),
            count=self.vector_count,
            segments=self.segments,
            bytes=self.bytes,
            lsn=self.lsn,
            index=IndexState(
                "ready" if self.index.pending == 0 else "building", self.index.indexed, self.index.pending
            ),
            version=self.version,
            compaction=CompactionState(**msgspec.structs.asdict(self.compaction)),
            cache=self.cache.state(),
            damaged=tuple(self.damaged),
            tail_points=self.tail_points,
        )


class Snapshot(msgspec.Struct):
    name: str
    lsn: int = 0
    vector_count: int = 0
    created_at: datetime | None = None
    complete: bool = True

    def info(self) -> SnapshotInfo:
        return SnapshotInfo(self.name, self.lsn, self.vector_count, self.created_at, self.complete)


class Snapshots(msgspec.Struct):
    snapshots: list[Snapshot]


class Reverted(msgspec.Struct):
    lsn: int
    before: str


class Unopened(msgspec.Struct):
    name: str


class Listing(msgspec.Struct):
    collections: list[CollectionDescription]
    unopened: list[Unopened] = []


def _vector(values: list[float] | None) -> VectorArray | None:
    return None if values is None else np.asarray(values, np.float32)


def _json(raw: msgspec.Raw) -> bytes | None:
    text = bytes(raw)
    return None if text == b"null" else text
