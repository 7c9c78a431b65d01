"""HEAD: the one object of a shard that changes, by compare-and-swap. What it holds; not how it is stored."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from uuid import UUID, uuid4

from akidb.manifest.names import MANIFESTS, REQUESTS, object_key
from akidb.types import Lsn

RECENT_MAX = 64
"""Commit ids that HEAD remembers: a writer whose answer was lost finds its own among them."""


@dataclass(frozen=True, slots=True)
class SegmentRef:
    """A segment that HEAD names. `live` counts the rows that its deletes object (at `deletes_key`, if any) leaves.

    `bytes` is the object's size; `lsn_max` the last slot whose operations can be in it; `coarse_bytes` before the
    object's end begins its list directory, 0 where it has none.
    """

    uuid: UUID
    key: str
    rows: int
    live: int
    bytes: int
    lsn_max: Lsn
    has_graph: bool = False
    deletes_key: str | None = None
    coarse_bytes: int = 0


@dataclass(frozen=True, slots=True)
class RequestsRef:
    """A requests object that HEAD names: which requests the slots it was folded from told of. `written` is when, by the
    store's clock in seconds; 0 where the store did not tell."""

    uuid: UUID
    count: int
    written: int
    epoch: int = 0

    def key(self, prefix: str) -> str:
        return object_key(prefix, REQUESTS, self.epoch, self.uuid)


@dataclass(frozen=True, slots=True)
class Pin:
    """A snapshot: what HEAD said when all slots up to `lsn` were folded, kept in a manifest object.

    Attributes:
        name: the user's, unique among the shard's snapshots; of a clone's pin its collection's uuid, in hex.
        uuid: the manifest object's, and the pin's own: a name may come back, this never does. Its first half the parts
            of one snapshot in several shards have in common.
        created: seconds of the store's clock; 0 where the store did not tell.
        points: live points at `lsn`.
        clone: it belongs to a collection whose HEAD names objects of this shard (or did when it was made), and is shown
            to nobody.
    """

    name: str
    uuid: UUID
    lsn: Lsn
    created: int = 0
    points: int = 0
    epoch: int = 0
    clone: bool = False

    def key(self, prefix: str) -> str:
        return object_key(prefix, MANIFESTS, self.epoch, self.uuid)

    @property
    def whole(self) -> bytes:
        """What it has in common with the other shards' parts of its snapshot, and with no other pin."""
        return self.uuid.bytes[:8]

    @property
    def borrower(self) -> UUID:
        """The collection that a clone's pin belongs to."""
        return UUID(hex=self.name)


@dataclass(frozen=True, slots=True)
class Head:
    """The physical state of a shard: `segments` hold what the slots below `folded` say. Of a clone some of them, and of
    their deletes, lie below the prefix of the shard that it was made from.

    Attributes:
        version: 0 at creation, one more with each swap.
        commit_id: fresh with each swap, so HEAD never has the same bytes twice; `recent` ends with it.
        folded: slots below it are in the segments (F).
        garbage: slots below it may be gone from the store (G, never above F).
        chain: digest of slot folded - 1, zeros when there is none.
        live_count: live rows of all segments.
        sealed: the log ended with a seal that is folded.
        requests: where the requests of folded slots are told, oldest first, for 24 hours at least.
        pins: snapshots; what their manifests name is kept as if HEAD named it.
        gc_epoch: one more with each round of garbage collection on a store without locks.
        collected: when that was, in seconds of the store's clock; 0 for never.
        settled: at `collected` HEAD said already that slots below it may be gone.
        term, compaction_epoch, live_sum: reserved, kept as they are found.
    """

    version: int
    commit_id: UUID
    recent: tuple[UUID, ...] = ()
    segments: tuple[SegmentRef, ...] = ()
    folded: Lsn = 1
    garbage: Lsn = 1
    gc_epoch: int = 0
    term: int = 0
    compaction_epoch: int = 0
    chain: bytes = field(default=bytes(16))
    live_count: int = 0
    live_sum: bytes = field(default=bytes(16))
    sealed: bool = False
    requests: tuple[RequestsRef, ...] = ()
    pins: tuple[Pin, ...] = ()
    collected: int = 0
    settled: Lsn = 0

    @property
    def object_keys(self) -> frozenset[str]:
        """Of the segments and their deletes."""
        return frozenset(key for ref in self.segments for key in (ref.key, ref.deletes_key) if key is not None)

    @property
    def lent(self) -> tuple[Pin, ...]:
        """The pins of clones."""
        return tuple(pin for pin in self.pins if pin.clone)

    def of_clone(self) -> Head:
        """What the HEAD of a clone begins with: the same points at the same slot, from which a log of its own goes on.

        Slots below are of another log, so none of them is looked for; which requests were made was told to others.
        """
        first = uuid4()
        return Head(
            0, first, (first,), self.segments, folded=self.folded, garbage=self.folded, chain=self.chain,
            live_count=self.live_count,
        )  # fmt: skip

    def of_dropped(self) -> Head:
        """What is still needed of it once its collection is gone for good: what clones need."""
        return replace(self, segments=(), requests=(), pins=self.lent)
