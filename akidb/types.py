"""The words every layer shares. Nothing here does I/O or knows a format."""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from akidb.errors import Fault, InvalidInputError

Lsn: TypeAlias = int
"""Log sequence number of a collection shard: 1 is the first slot, 0 is before all."""

VectorArray: TypeAlias = npt.NDArray[np.float32]

POINT_ID_BYTES_MAX = 512
M_MIN, M_MAX = 2, 512
EF_MAX = 10_000
"""What settings, collections and searches may ask of a graph."""

BOUNDED_MS_MAX = 86_400_000

SHARDS_MAX = 256
"""A strong read asks the store once for each shard, and a shard of few points has little to gain from a graph."""


class Metric(enum.Enum):
    """How near two vectors are. The value is the word on the wire; `native` is the word inside.

    Inside, smaller is nearer: 1 - cosine, squared L2, -dot. Users see `score`: cosine, Euclidean distance, dot product.
    """

    COSINE = "Cosine"
    EUCLIDEAN = "Euclidean"
    DOT = "Dot"

    @property
    def native(self) -> Literal["cosine", "l2", "ip"]:
        return _NATIVE[self]

    @classmethod
    def parse(cls, word: str | Metric) -> Metric:
        """Accepts the wire word and the native one, in any case; raises InvalidInputError otherwise."""
        if isinstance(word, Metric):
            return word
        for metric in cls:
            if isinstance(word, str) and word.lower() in (metric.value.lower(), metric.native):
                return metric
        raise InvalidInputError(f"distance is {word!r}, expected Cosine, Euclidean or Dot", code="invalid_distance")

    @property
    def square_max(self) -> float:
        """The largest square of a vector's length with which no distance to another overflows float32."""
        most = float(np.finfo(np.float32).max)
        return most / (4.001 if self is Metric.EUCLIDEAN else 1.01)  # two may lie on opposite sides; sums are rounded

    @property
    def square_min(self) -> float:
        """The smallest square of a vector's length whose products with others keep their digits, as a cosine needs."""
        return 1e-30 if self is Metric.COSINE else 0.0

    def scores(self, distances: VectorArray) -> VectorArray:
        """User-facing scores of internal distances, same shape and order."""
        if self is Metric.COSINE:
            return np.asarray(1.0 - distances, np.float32)
        if self is Metric.DOT:
            return -distances
        return np.sqrt(np.maximum(distances, 0.0))


_NATIVE: dict[Metric, Literal["cosine", "l2", "ip"]] = {
    Metric.COSINE: "cosine",
    Metric.EUCLIDEAN: "l2",
    Metric.DOT: "ip",
}


INDEX_FIELDS = ("type", "m", "ef_construction", "ef_search", "quantization")
"""What a caller may say of a collection's index."""


CODE_BITS: Mapping[str, Literal["auto", 0, 4, 8]] = {"auto": "auto", "none": 0, "sq4": 4, "sq8": 8}


@dataclass(frozen=True, slots=True)
class IndexParams:
    """Malkov and Yashunin's parameters. `type` auto lets each segment choose between a graph and an exact scan.

    `quantization` says what a walk compares: codes of 4 bits a dimension (sq4) or 8 (sq8), the vectors themselves
    (none), or the shortest that cost no more than a hundredth of recall (auto). Scores are exact always.
    """

    type: Literal["auto", "hnsw", "flat"] = "auto"
    m: int = 16
    ef_construction: int = 400
    ef_search: int = 200
    min_vectors_threshold: int = 100
    quantization: Literal["auto", "none", "sq4", "sq8"] = "auto"

    @property
    def code_bits(self) -> Literal["auto", 0, 4, 8]:
        """The native word for `quantization`."""
        return CODE_BITS[self.quantization]

    def wants_graph(self, rows: int) -> bool:
        """Whether so many points in one place are to be in a graph."""
        return self.type != "flat" and rows >= max(1, self.min_vectors_threshold)

    @classmethod
    def parse(cls, given: IndexParams | Mapping[str, Any] | None, default: IndexParams) -> IndexParams:
        """Accepts what REST accepts as well, an object of some of the fields; `default` has the others.

        Raises:
            InvalidInputError: `invalid_collection` naming a field there is not. Values are judged with the rest.
        """
        if given is None or isinstance(given, IndexParams):
            return given or default
        if not isinstance(given, Mapping):
            msg = f"is {type(given).__name__}, expected IndexParams or a dict of {', '.join(INDEX_FIELDS)}"
            raise InvalidInputError(f"index: {msg}", code="invalid_collection", faults=[Fault(("index",), msg)])
        for name in given:
            if name not in INDEX_FIELDS:
                msg = f"is unknown, expected {', '.join(INDEX_FIELDS)}"
                fault = Fault(("index", str(name)), msg)
                raise InvalidInputError(f"index.{name}: {msg}", code="invalid_collection", faults=[fault])
        return replace(default, **given)


@dataclass(frozen=True, slots=True)
class CollectionSpec:
    """What a collection is from its creation on; `index` alone may change."""

    name: str
    dim: int
    metric: Metric = Metric.COSINE
    index: IndexParams = field(default_factory=IndexParams)
    payload_schema: Mapping[str, Any] | None = None
    shard_count: int = 1


@dataclass(frozen=True, slots=True)
class Point:
    """A stored point. `payload_json` is the JSON text as sent, or None; `vector` is float32 of shape (dim,) or None.

    `version` is the log position of the write that made it what it is.
    """

    id: str
    vector: VectorArray | None = None
    payload_json: bytes | None = None
    version: Lsn = 0

    @property
    def payload(self) -> Any:
        return None if self.payload_json is None else json.loads(self.payload_json)

    def __repr__(self) -> str:
        vector = "" if self.vector is None else f", vector=<{len(self.vector)} float32>"
        return f"Point(id={self.id!r}, version={self.version}, payload={self.payload!r}{vector})"


@dataclass(frozen=True, slots=True)
class ScoredPoint:
    """One answer. `score` is the metric's own value: cosine similarity, dot product or Euclidean distance."""

    id: str
    score: float
    payload_json: bytes | None = None
    vector: VectorArray | None = None

    @property
    def payload(self) -> Any:
        return None if self.payload_json is None else json.loads(self.payload_json)

    def __repr__(self) -> str:
        vector = "" if self.vector is None else f", vector=<{len(self.vector)} float32>"
        return f"ScoredPoint(id={self.id!r}, score={self.score:.6g}, payload={self.payload!r}{vector})"


@dataclass(frozen=True, slots=True)
class IndexState:
    """How far graph building has come: points in graphs, and points that are searched by exact scan, or by a graph of
    former parameters, until theirs is built.
    """

    state: Literal["ready", "building"]
    indexed: int
    pending: int

    @classmethod
    def of(cls, shards: Sequence[IndexState]) -> IndexState:
        """Of all shards of a collection."""
        building = any(each.state == "building" for each in shards)
        return cls(
            "building" if building else "ready",
            sum(each.indexed for each in shards),
            sum(each.pending for each in shards),
        )


@dataclass(frozen=True, slots=True)
class CompactionState:
    """What is to be merged: how many segments, their points, and of a merge under way on this node the share that is
    done, 0 to 1.
    """

    state: Literal["idle", "pending", "merging"] = "idle"
    segments: int = 0
    points: int = 0
    progress: float = 0.0

    @classmethod
    def of(cls, shards: Sequence[CompactionState]) -> CompactionState:
        """Of all shards of a collection: of what some are merging, or else of what all have to merge."""
        chosen = [each for each in shards if each.state == "merging"] or [
            each for each in shards if each.state == "pending"
        ]
        if not chosen:
            return cls()
        points = sum(each.points for each in chosen)
        progress = sum(each.progress * each.points for each in chosen) / max(points, 1)
        return cls(chosen[0].state, sum(each.segments for each in chosen), points, round(progress, 3))


@dataclass(frozen=True, slots=True)
class CacheState:
    """How many bytes of a collection's segments this machine holds, of how many, and whether it keeps them."""

    pinned: bool = False
    cached_bytes: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    """What GET /collections/{name} shows. `lsn` is the figures' log position (of several
    shards the largest), `tail_points` those of the points that are in no segment yet, `bytes` what segments and tail
    hold, `damaged` the objects whose bytes fail their checks: who needs one of them is refused."""

    spec: CollectionSpec
    count: int
    segments: int
    bytes: int
    lsn: Lsn
    index: IndexState
    version: int
    compaction: CompactionState = CompactionState()
    cache: CacheState = CacheState()
    damaged: tuple[str, ...] = ()
    tail_points: int = 0


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """A named point in time: `points` as they were after the write at log position `lsn`, of several shards the
    largest. `created` is by the store's clock, None where it told none. Not `complete`: some shards have no part of it.
    """

    name: str
    lsn: Lsn
    points: int
    created: datetime | None = None
    complete: bool = True


@dataclass(frozen=True, slots=True)
class RevertInfo:
    """A revert: the log position it was written at, of several shards the largest, and the snapshot that keeps what
    there was before."""

    lsn: Lsn
    before: str


@dataclass(frozen=True, slots=True)
class Consistency:
    """Which writes a read must see.

    strong: all acknowledged by any node before the call. session: at least those that `token` knows of, which a
    collection's `token` or the header X-AkiDB-Token gave. bounded: state no older than `bounded_ms`. eventual: what
    this node has. `as_of` names a snapshot to read instead of the present points, or is a time (RFC 3339, with a zone):
    the newest snapshot made by then is read. The mode then says which snapshots must be known.
    """

    mode: Literal["strong", "session", "bounded", "eventual"] = "strong"
    token: str = ""
    bounded_ms: int = 0
    as_of: str | None = None

    @classmethod
    def parse(cls, given: AnyConsistency, as_of: str | None = None) -> Consistency | None:
        """Accepts what REST accepts as well: "strong", "eventual", {"session": token}, {"bounded_ms": n}.

        Raises:
            InvalidInputError: `invalid_consistency`, `invalid_snapshot`.
        """
        if as_of is not None:
            if not isinstance(as_of, str):
                msg = f"is {as_of!r:.80}, expected the name of a snapshot, or a time as text"
                raise InvalidInputError(f"as_of: {msg}", code="invalid_snapshot", faults=[Fault(("as_of",), msg)])
            return replace(cls.parse(given) or STRONG, as_of=as_of)
        if given is None or isinstance(given, Consistency):
            return given
        if isinstance(given, str) and given in ("strong", "eventual"):
            return cls(given)  # type: ignore[arg-type]  # mypy does not narrow by a tuple
        match given:
            case {"session": str(token), **rest} if not rest:
                return cls("session", token=token)
            case {"bounded_ms": int(age), **rest} if not rest and type(age) is int and 0 <= age <= BOUNDED_MS_MAX:
                return cls("bounded", bounded_ms=age)
        expected = f'"strong", "eventual", {{"session": token}} or {{"bounded_ms": 0 to {BOUNDED_MS_MAX}}}'
        msg = f"is {given!r:.80}, expected {expected}"
        raise InvalidInputError(
            f"consistency: {msg}", code="invalid_consistency", faults=[Fault(("consistency",), msg)]
        )


IfVersion: TypeAlias = int | Sequence[int | None] | None
"""What writes take as a condition: one version for all points, or one per point where None is any; 0 is "not there"."""

AnyConsistency: TypeAlias = "Consistency | str | Mapping[str, Any] | None"
"""What callers may pass; None is the configured default."""

STRONG = Consistency()
EVENTUAL = Consistency("eventual")
