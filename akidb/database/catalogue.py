"""Which collections exist and how they are indexed: a log of its own, with the points' log's protocol and proof.

The catalogue's state is small, so it is never folded: opening a store replays all creates, changes and drops.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

import msgspec

from akidb.collection.requests import Written
from akidb.errors import CorruptionError
from akidb.types import CollectionSpec, IndexParams, Lsn, Metric
from akidb.wal import Entry, Slot

TENANT = UUID(int=0)
"""The one there is so far."""


def catalogue_prefix(tenant: UUID) -> str:
    """What the keys of the catalogue's log and HEAD begin with."""
    return f"t/{tenant}/cat"


def shard_prefix(tenant: UUID, collection: UUID, number: int) -> str:
    """What the keys of a shard's objects begin with."""
    return f"t/{tenant}/c/{collection}/{number:04x}"


class Created(msgspec.Struct, tag="create", tag_field="op"):
    """A collection came to be; each shard's HEAD was put before this record."""

    uuid: UUID
    name: str
    dim: int
    metric: str
    index_type: Literal["auto", "hnsw", "flat"]
    m: int
    ef_construction: int
    ef_search: int
    min_vectors_threshold: int
    payload_schema: dict[str, Any] | None = None
    quantization: Literal["auto", "none", "sq4", "sq8"] = "auto"
    shard_count: int = 1

    @classmethod
    def of(cls, uuid: UUID, spec: CollectionSpec) -> Created:
        index = spec.index
        schema = None if spec.payload_schema is None else dict(spec.payload_schema)
        return cls(
            uuid, spec.name, spec.dim, spec.metric.value, index.type, index.m, index.ef_construction, index.ef_search,
            index.min_vectors_threshold, schema, index.quantization,
            spec.shard_count,
        )  # fmt: skip

    def spec(self) -> CollectionSpec:
        index = IndexParams(
            self.index_type, self.m, self.ef_construction, self.ef_search, self.min_vectors_threshold, self.quantization
        )
        return CollectionSpec(self.name, self.dim, Metric(self.metric), index, self.payload_schema, self.shard_count)


class Dropped(msgspec.Struct, tag="drop", tag_field="op"):
    """A collection went; its shards were sealed before this record. Or it is not to come to be any more."""

    uuid: UUID


class Dropping(msgspec.Struct, tag="dropping", tag_field="op"):
    """A request asked for a drop under a key: whoever is asked again under it finishes that drop, and no other."""

    uuid: UUID


class Altered(msgspec.Struct, tag="alter", tag_field="op", omit_defaults=True):
    """Index parameters that changed; None: as before. Of two changes at once both hold, of one parameter the later."""

    uuid: UUID
    index_type: Literal["auto", "hnsw", "flat"] | None = None
    m: int | None = None
    ef_construction: int | None = None
    ef_search: int | None = None
    quantization: Literal["auto", "none", "sq4", "sq8"] | None = None

    @classmethod
    def of(cls, uuid: UUID, changes: Mapping[str, Any]) -> Altered:
        """`changes` are fields of IndexParams."""
        return cls(uuid, **{"index_type" if name == "type" else name: value for name, value in changes.items()})

    def on(self, created: Created) -> Created:
        changes = {name: value for name, value in msgspec.structs.asdict(self).items() if value is not None}
        return msgspec.structs.replace(created, **changes)


_decoder = msgspec.json.Decoder(Created | Dropped | Dropping | Altered)


def record(what: Created | Dropped | Dropping | Altered) -> Entry:
    return Entry(msgspec.json.encode(what))


@dataclass(frozen=True, slots=True)
class Asked:
    """A request under a key that is in the log: what it was, and which collection it made or dropped."""

    done: Written
    collection: UUID


class Catalogue:
    """The state behind the catalogue's log. Names are unique among the living; a uuid is never used twice."""

    def __init__(self) -> None:
        self.applied: Lsn = 0
        self.chain = bytes(16)
        self._by_name: dict[str, Created] = {}
        self._by_uuid: dict[UUID, Created] = {}
        self._batches: set[UUID] = set()
        self.dropped: dict[UUID, int] = {}
        """Collections that are gone for good, with how many shards they had; no record brings one of them back. Those
        with none never were: somebody began to make them, did not get on, and is not to go on."""
        self.requests: dict[UUID, Asked] = {}
        """Requests under a key, by the uuid that the key makes; the log is never folded, so none is forgotten."""
        self.altered: set[UUID] = set()
        """Collections that were altered; whoever tells them empties it."""

    @property
    def collections(self) -> Mapping[str, Created]:
        return self._by_name

    def named(self, uuid: UUID) -> Created | None:
        """The collection as it is now, None if it was dropped."""
        return self._by_uuid.get(uuid)

    async def apply(self, slot: Slot) -> None:
        if slot.lsn <= self.applied:
            return
        for batch in slot.batches:
            if batch.uuid in self._batches:
                continue
            self._batches.add(batch.uuid)
            for operation in batch.operations:
                if isinstance(operation, Entry):
                    collection = self._apply(operation, slot.lsn)
                    if batch.once is not None:
                        self.requests[batch.uuid] = Asked(Written.by(batch, slot.lsn), collection)
        self.applied = slot.lsn
        self.chain = slot.digest

    def _apply(self, entry: Entry, lsn: Lsn) -> UUID:
        """Takes one record; returns the collection that it is about."""
        try:
            change = _decoder.decode(entry.json)
        except msgspec.DecodeError as error:
            raise CorruptionError(f"catalogue record in slot {lsn} can't be read: {error}") from error
        if isinstance(change, Created):
            if (
                change.name not in self._by_name and change.uuid not in self.dropped
            ):  # the first of two racing creates is the one that exists
                self._by_name[change.name] = self._by_uuid[change.uuid] = change
        elif isinstance(change, Altered):
            if change.uuid in self._by_uuid:
                altered = change.on(self._by_uuid[change.uuid])
                self._by_name[altered.name] = self._by_uuid[altered.uuid] = altered
                self.altered.add(altered.uuid)
        elif isinstance(change, Dropped):
            gone = self._by_uuid.pop(change.uuid, None)
            self.dropped.setdefault(change.uuid, 0 if gone is None else gone.shard_count)
            if gone is not None:
                del self._by_name[gone.name]

        uuid: UUID = change.uuid
        return uuid

    async def reload(self) -> None:
        raise CorruptionError("slots of the catalogue's log are missing, though it is never folded")
