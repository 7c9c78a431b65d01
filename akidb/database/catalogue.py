"""Which collections exist: a log of its own, with the same protocol and the same proof as the points' log.

The catalogue's state is small, so it is never folded: opening a store replays the whole log of creates and drops.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal
from uuid import UUID

import msgspec

from akidb.errors import CorruptionError
from akidb.types import CollectionSpec, IndexParams, Lsn, Metric
from akidb.wal import Entry, Slot


class Created(msgspec.Struct, tag="create", tag_field="op"):
    """A collection came to be; its HEAD was put before this record."""

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

    @classmethod
    def of(cls, uuid: UUID, spec: CollectionSpec) -> Created:
        index = spec.index
        schema = None if spec.payload_schema is None else dict(spec.payload_schema)
        return cls(
            uuid, spec.name, spec.dim, spec.metric.value, index.type, index.m, index.ef_construction, index.ef_search,
            index.min_vectors_threshold, schema,
        )  # fmt: skip

    def spec(self) -> CollectionSpec:
        index = IndexParams(self.index_type, self.m, self.ef_construction, self.ef_search, self.min_vectors_threshold)
        return CollectionSpec(self.name, self.dim, Metric(self.metric), index, self.payload_schema)


class Dropped(msgspec.Struct, tag="drop", tag_field="op"):
    """A collection went; its shard was sealed before this record."""

    uuid: UUID


_decoder = msgspec.json.Decoder(Created | Dropped)


def record(what: Created | Dropped) -> Entry:
    return Entry(msgspec.json.encode(what))


class Catalogue:
    """The state behind the catalogue's log. Names are unique among the living; a uuid is never used twice."""

    def __init__(self) -> None:
        self.applied: Lsn = 0
        self.chain = bytes(16)
        self._by_name: dict[str, Created] = {}
        self._by_uuid: dict[UUID, Created] = {}
        self._batches: set[UUID] = set()

    @property
    def collections(self) -> Mapping[str, Created]:
        return self._by_name

    async def apply(self, slot: Slot) -> None:
        if slot.lsn <= self.applied:
            return
        for batch in slot.batches:
            if batch.uuid in self._batches:
                continue
            self._batches.add(batch.uuid)
            for operation in batch.operations:
                if isinstance(operation, Entry):
                    self._apply(operation, slot.lsn)
        self.applied = slot.lsn
        self.chain = slot.digest

    def _apply(self, entry: Entry, lsn: Lsn) -> None:
        try:
            change = _decoder.decode(entry.json)
        except msgspec.DecodeError as error:
            raise CorruptionError(f"catalogue record in slot {lsn} can't be read: {error}") from error
        if isinstance(change, Created):
            if change.name not in self._by_name:  # the first of two racing creates is the one that exists
                self._by_name[change.name] = self._by_uuid[change.uuid] = change
        elif (gone := self._by_uuid.pop(change.uuid, None)) is not None:
            del self._by_name[gone.name]

    async def reload(self) -> None:
        raise CorruptionError("slots of the catalogue's log are missing, though it is never folded")
