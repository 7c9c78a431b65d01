"""The JSON that goes in and out. The OpenAPI document is made from these types, so what it says is what is checked.

Names, units and defaults are the product's. Unknown fields are refused: a misspelled `top_k` must not silently be 10.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from akidb.types import CODE_BITS, Metric

NULL = Raw(b"null")

TimeoutMs = Annotated[int, Meta(ge=1, le=600_000, description="Milliseconds after which the answer is 504.")]
TopK = Annotated[  # the engine checks the range, so that it is told by a code of its own
    int,
    Meta(description="Most results wanted; at most api.validation.top_k_max.", extra_json_schema={"minimum": 1}),
]
Vector = Annotated[
    list[float] | str, Meta(description="Numbers, or their little-endian float32 bytes as base64 text (RFC 4648).")
]
PointId = Annotated[
    str | int, Meta(description="Text of 1 to 512 UTF-8 bytes; an integer is the same point as its decimal text.")
]
FilterObject = Annotated[
    Any,
    Meta(
        description="must / should / must_not lists, nested; leaves {field, match}, {field, range} and {exists}.",
        extra_json_schema={"type": ["object", "null"]},
    ),
]
Version = Annotated[
    int, Meta(description="A point's version: the lsn of the write that made it what it is; 0 is not there.", ge=0)
]
Payload = Annotated[
    Raw, Meta(description="A JSON object, given back as it was sent.", extra_json_schema={"type": ["object", "null"]})
]


class Weaker(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A consistency below strong: one of the two."""

    session: Annotated[str, Meta(description="A token from X-AkiDB-Token: see at least those writes.")] | UnsetType = (
        UNSET
    )
    bounded_ms: Annotated[int, Meta(ge=0, le=86_400_000, description="See a state no older than this.")] | UnsetType = (
        UNSET
    )


# Of a Literal msgspec says only that a value is none of it, so words are checked where all of them can be named.
ConsistencyObject = Annotated[str, Meta(extra_json_schema={"enum": ["strong", "eventual"]})] | Weaker | None


AS_OF = "What to {} instead of the present points: a snapshot, by its name or as the newest made by a time (RFC 3339)."

AsOf = Annotated[str | None, Meta(description=AS_OF.format("read"))]


# What is asked


class IndexRequest(Struct, forbid_unknown_fields=True):
    """How a collection is searched; what is left out comes from the settings."""

    type: Annotated[str, Meta(extra_json_schema={"enum": ["auto", "hnsw", "flat"]})] = "auto"
    m: int | None = None
    ef_construction: int | None = None
    ef_search: int | None = None
    quantization: Annotated[str | None, Meta(extra_json_schema={"enum": [*CODE_BITS, None]})] = None


class IndexChange(Struct, forbid_unknown_fields=True):
    """Index parameters that are to change; what is left out stays."""

    type: Annotated[str, Meta(extra_json_schema={"enum": ["auto", "hnsw", "flat"]})] | UnsetType = UNSET
    m: int | UnsetType = UNSET
    ef_construction: int | UnsetType = UNSET
    ef_search: int | UnsetType = UNSET
    quantization: Annotated[str, Meta(extra_json_schema={"enum": [*CODE_BITS]})] | UnsetType = UNSET


class AlterCollection(Struct, forbid_unknown_fields=True):
    """Graphs are built anew, where they need to be, in the background, and those of before answer meanwhile."""

    index: IndexChange


class CreateCollection(Struct, forbid_unknown_fields=True):
    name: str
    vector_dim: int
    distance: Annotated[str, Meta(extra_json_schema={"enum": [metric.value for metric in Metric]})] = "Cosine"
    payload_schema: dict[str, Any] | None = None
    shard_count: int = 1
    replication: int = 1
    index: IndexRequest | None = None


class CloneCollection(Struct, forbid_unknown_fields=True):
    """A collection of this name with the points of the one in the path, or of its snapshot; nothing is copied."""

    name: str
    as_of: Annotated[str | None, Meta(description=AS_OF.format("clone"))] = None


class CreateSnapshot(Struct, forbid_unknown_fields=True):
    """Keeps the points as they are now; nothing is copied."""

    name: str


class PointRequest(Struct, forbid_unknown_fields=True):
    id: PointId
    vector: Vector
    payload: Payload | UnsetType = UNSET
    if_version: Version | None = None


class Upsert(Struct, forbid_unknown_fields=True):
    """All points or none of each shard; an existing one is replaced whole. With `if_absent` only if none is there, with
    `if_version` of points only if each of these has that version."""

    vectors: list[PointRequest]
    if_absent: bool = False


class GetPoints(Struct, forbid_unknown_fields=True):
    ids: list[PointId]
    with_vector: bool = True
    with_payload: bool = True
    consistency: ConsistencyObject = None
    as_of: AsOf = None


class DeletePoints(Struct, forbid_unknown_fields=True):
    """One of the two: the points of these ids, or those that match. `if_version` goes with ids: one for all, or one
    each, null for any."""

    ids: list[PointId] | None = None
    filter: FilterObject = None
    if_version: Version | list[Version | None] | None = None


class PatchPoint(Struct, forbid_unknown_fields=True):
    payload: Annotated[
        Raw, Meta(description="Merged into the payload (RFC 7396): null removes.", extra_json_schema={"type": "object"})
    ]
    if_version: Version | None = None


class Count(Struct, forbid_unknown_fields=True):
    filter: FilterObject = None
    consistency: ConsistencyObject = None
    as_of: AsOf = None


class Scroll(Struct, forbid_unknown_fields=True):
    """Points in id order; `next` of one page is `after` of the next."""

    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    after: PointId | None = None
    filter: FilterObject = None
    with_vector: bool = False
    with_payload: bool = True
    consistency: ConsistencyObject = None
    as_of: AsOf = None


class Search(Struct, forbid_unknown_fields=True):
    """By `vector`, or by the `id` of a stored point, which is then left out of the results."""

    vector: Vector | None = None
    id: PointId | None = None
    top_k: TopK = 10
    timeout_ms: TimeoutMs = 1000
    filter: FilterObject = None
    ef_search: int | None = None
    target_recall: float | None = None
    exact: bool = False
    with_vector: bool = False
    with_payload: bool = True
    score_threshold: float | None = None
    consistency: ConsistencyObject = None
    as_of: AsOf = None


class BatchQuery(Struct, forbid_unknown_fields=True):
    """One search of a batch; `id` is a name of the caller's choice that comes back with its results."""

    vector: Vector
    id: PointId | None = None
    top_k: TopK = 10
    filter: FilterObject = None
    ef_search: int | None = None
    target_recall: float | None = None
    exact: bool = False
    with_vector: bool = False
    with_payload: bool = True
    score_threshold: float | None = None


class BatchSearch(Struct, forbid_unknown_fields=True):
    """1 to 100 searches over one state of the collection."""

    queries: list[BatchQuery]
    timeout_ms: TimeoutMs = 1000
    consistency: ConsistencyObject = None
    as_of: AsOf = None


# What is answered


class IndexDescription(Struct):
    """`indexed` points are in graphs; `pending` ones are searched exactly, or by a graph of former parameters, until
    theirs is built."""

    type: str
    m: int
    ef_construction: int
    ef_search: int
    quantization: str
    state: Literal["ready", "building"]
    indexed: int
    pending: int


class CompactionDescription(Struct):
    """The segments that are merged next, or now on the node that answers; `progress` goes from 0 to 1."""

    state: Literal["idle", "pending", "merging"]
    segments: int
    points: int
    progress: float


class CacheDescription(Struct):
    """Bytes of the segments that the answering node has on its machine, of all, and whether they are kept there."""

    pinned: bool
    cached_bytes: int
    bytes: int


class CacheAnswer(Struct):
    collection: str
    cache: CacheDescription


class CollectionDescription(Struct):
    name: str
    vector_dim: int
    distance: str
    vector_count: int
    segments: int
    bytes: int
    lsn: int
    version: int
    index: IndexDescription
    compaction: CompactionDescription
    cache: CacheDescription
    payload_schema: dict[str, Any] | None = None
    shard_count: int = 1
    replication: int = 1
    status: Literal["ok", "degraded"] = "ok"
    damaged: list[str] = []
    tail_points: int = 0


class UnopenedCollection(Struct):
    """One that this node can't describe now: an object that it needs is damaged or missing, or does not come in time.
    Why is told as by a refusal's code and detail."""

    name: str
    code: str
    detail: str


class CollectionList(Struct):
    """`count` is that of `collections`; beside them there may be some that can't be opened, or not be
    asked for now."""

    collections: list[CollectionDescription]
    count: int
    unopened: list[UnopenedCollection]


class IndexAnswer(Struct):
    collection: str
    index: IndexDescription


class SnapshotDescription(Struct):
    """`vector_count` points as they were after the write at `lsn`, of several shards the largest; `created_at` is the
    store's clock (RFC 3339), null where it told none. Not `complete`: some shards have no part of it, so it can only be
    deleted."""

    name: str
    lsn: int
    vector_count: int
    created_at: datetime | None
    complete: bool


class SnapshotList(Struct):
    """Oldest first; after them those that are not complete."""

    collection: str
    snapshots: list[SnapshotDescription]
    count: int


class Reverted(Struct):
    """The revert is durable and seen by every node. `before` is the snapshot that keeps what there was before it."""

    collection: str
    lsn: int
    before: str


class Written(Struct):
    """The write is durable. `lsn` is its position in the collection's log, and the version of what it wrote; of a
    collection with several shards it is the largest of their positions."""

    collection: str
    lsn: int


class Upserted(Struct):
    collection: str
    upserted: int
    lsn: int


class Deleted(Struct):
    """`deleted` is how many points matched the filter; null for ids, of which some may not have been there."""

    collection: str
    deleted: int | None
    lsn: int


class PointAnswer(Struct, omit_defaults=True):
    id: str
    version: Version
    payload: Payload
    vector: list[float] | UnsetType = UNSET


class Points(Struct):
    """In the order of the ids asked for, null where there is no such point."""

    collection: str
    points: list[PointAnswer | None]
    count: int


class Page(Struct):
    collection: str
    points: list[PointAnswer]
    next: str | None


class Counted(Struct):
    collection: str
    count: int


class Hit(Struct, omit_defaults=True):
    """`score` is the metric's own value: cosine similarity, dot product or Euclidean distance."""

    id: str
    score: float
    payload: Payload | UnsetType = UNSET
    vector: list[float] | UnsetType = UNSET


class SearchAnswer(Struct):
    """Best first."""

    collection: str
    results: list[Hit]
    count: int


class QueryAnswer(Struct, omit_defaults=True):
    results: list[Hit]
    count: int
    id: str | UnsetType = UNSET


class BatchAnswer(Struct):
    """One entry per query, in order."""

    collection: str
    results: list[QueryAnswer]


class ProblemError(Struct):
    loc: list[str | int]
    msg: str


class ProblemShard(Struct, omit_defaults=True):
    """A shard's part of a batch: at which `lsn` it was written, or why it was not (504: or may not have been)."""

    shard: int
    status: int
    lsn: int | UnsetType = UNSET
    code: str | UnsetType = UNSET
    detail: str | UnsetType = UNSET


class Problem(Struct, omit_defaults=True):
    """RFC 9457. `code` is a stable word; `errors` says where in the request, if that is where it went wrong;
    `limit_bytes` how large the body may be, if it was larger; `shards` what became of each part of a batch of which
    some were written."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    request_id: str
    errors: list[ProblemError] | UnsetType = UNSET
    limit_bytes: int | UnsetType = UNSET
    shards: list[ProblemShard] | UnsetType = UNSET


class Component(Struct):
    status: Literal["healthy", "unhealthy"]
    message: str


class Health(Struct):
    status: Literal["healthy", "degraded", "unhealthy"]
    version: str
    uptime_seconds: float
    components: dict[str, Component]


class State(Struct):
    status: str


class Root(Struct):
    name: str
    version: str
    documentation: str
    openapi: str
    health: str
