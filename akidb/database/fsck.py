"""Compares every object of a store with its checksums, and with what names it. Reads only; nothing is mended.

A store may be in use meanwhile: what was deleted since it was listed is no fault, and a HEAD that names what was not
listed is read again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from uuid import UUID

import numpy as np

from akidb.codec.frame import KIND_CATALOGUE_HEAD, KIND_CATALOGUE_SLOT, KIND_HEAD
from akidb.collection import shard_uuid
from akidb.collection.requests import open_requests
from akidb.database.catalogue import TENANT, Catalogue, catalogue_prefix, shard_prefix
from akidb.database.format import ensure_format
from akidb.database.objects import GoneError, compare, lsn_in, place_of
from akidb.errors import CorruptionError
from akidb.manifest import Head, HeadStore, SegmentRef
from akidb.segment import decode_deletes
from akidb.storage.keys import PROBE_FOLDER
from akidb.storage.object_store import ObjectInfo, ObjectStore
from akidb.wal import Log, Slot
from akidb.wal.log import slot_key

AT_ONCE = 16
"""Objects that are read at a time."""

HEADS_MAX = 4
"""How often a HEAD is read again because it changed while what it names was looked for."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with an object, or that it is missing; `collection` is whose it is, where that is known."""

    key: str
    fault: str
    collection: str | None = None


@dataclass(slots=True)
class Checked:
    """What was looked at, and what is sound of it."""

    objects: int = 0
    bytes: int = 0
    faults: list[Fault] = field(default_factory=list)


@dataclass(slots=True)
class _Shard:
    """A log with its HEAD: a collection's shard, or (no collection) the catalogue. Slots are None where they are there
    and can't be read."""

    prefix: str
    uuid: UUID
    collection: UUID | None
    slots: dict[int, Slot | None] = field(default_factory=dict)


class Fsck:
    """One run over `store`, whose stack must not have a cache in it: what is asked is what the store has."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._shards: dict[str, _Shard] = {}
        self._names: dict[UUID, str] = {}
        self._sizes: dict[str, int] = {}
        self._told: set[str] = set()
        self.checked = Checked()

    async def run(self) -> AsyncIterator[Fault]:
        """The faults, as they are found, one of each object.

        Raises:
            NotFoundError: there is no AkiDB database.
            ConfigurationError: its format is newer.
            UnavailableError: the store is away.
        """
        with suppress(CorruptionError):  # told with the object's name below
            await ensure_format(self._store, create=False)
        listed = [info async for info in self._store.list_from("") if not info.key.startswith(f"{PROBE_FOLDER}/")]
        self._sizes = {info.key: info.size for info in listed}
        await self._read_catalogue()
        for at in range(0, len(listed), AT_ONCE):
            for fault in await asyncio.gather(*map(self._object, listed[at : at + AT_ONCE])):
                if fault is not None and self._is_new(fault):
                    yield fault
        for shard in list(self._shards.values()):
            for fault in await self._references(shard):
                if self._is_new(fault):
                    yield fault

    def _is_new(self, fault: Fault) -> bool:
        """Whether its object was not told of before; notes it."""
        if fault.key in self._told:
            return False
        self._told.add(fault.key)
        self.checked.faults.append(fault)
        return True

    async def _read_catalogue(self) -> None:
        """Which collections there are, as far as its log can be read; its faults are told with those of all objects."""
        found, prefix = Catalogue(), catalogue_prefix(TENANT)
        self._shards[prefix] = _Shard(prefix, TENANT, None)
        with suppress(CorruptionError):
            async for slot in Log(self._store, prefix, TENANT, kind=KIND_CATALOGUE_SLOT).read_from(1):
                await found.apply(slot)
        for name, created in found.collections.items():
            self._names[created.uuid] = name
            for number in range(created.shard_count):
                prefix = shard_prefix(TENANT, created.uuid, number)
                self._shards[prefix] = _Shard(prefix, shard_uuid(created.uuid, number), created.uuid)

    async def _object(self, info: ObjectInfo) -> Fault | None:
        """What is wrong with one object, its references apart."""
        place = place_of(info.key)
        shard = None if place is None or place.folder != "wal" else self._shards.get(place.prefix)
        try:
            if shard is not None:
                shard.slots[lsn_in(info.key)] = None
            slot = await compare(self._store, info)
            if shard is not None:
                shard.slots[lsn_in(info.key)] = slot
        except GoneError:
            return None
        except CorruptionError as damage:
            return Fault(info.key, str(damage), self._collection(info.key))
        self.checked.objects += 1
        self.checked.bytes += info.size
        return None

    def _collection(self, key: str) -> str | None:
        place = place_of(key)
        return None if place is None or place.collection is None else self._names.get(place.collection)

    async def _references(self, shard: _Shard) -> list[Fault]:
        """What HEAD and log of a shard name and the store does not have, or has otherwise."""
        key = f"{shard.prefix}/head"
        kind = KIND_CATALOGUE_HEAD if shard.collection is None else KIND_HEAD
        heads = HeadStore(self._store, shard.prefix, shard.uuid, kind=kind)
        faults: list[Fault] = []
        version = -1
        for _ in range(HEADS_MAX):
            try:
                head, _ = await heads.read()
            except CorruptionError as damage:
                return [Fault(key, str(damage), self._collection(key))]
            if head.version == version:
                break
            version = head.version
            faults = [fault async for fault in self._named(shard, head)]
            faults += [Fault(slot, told, self._collection(slot)) for slot, told in _broken_log(shard, head)]
            if not faults:
                break
        return faults

    async def _named(self, shard: _Shard, head: Head) -> AsyncIterator[Fault]:
        """Of the objects that HEAD and its snapshots name."""
        for ref in head.segments:
            size = await self._size(ref.key)
            if size != ref.bytes:
                there = "the store does not have it" if size is None else f"it has {size} bytes"
                told = f"object {ref.key}: HEAD says that it has {ref.bytes} bytes, {there}"
                yield Fault(ref.key, told, self._collection(ref.key))
            if ref.deletes_key is not None:
                try:
                    await self._deletes(ref.deletes_key, ref)
                except CorruptionError as damage:
                    yield Fault(ref.deletes_key, str(damage), self._collection(ref.deletes_key))
        for requests in head.requests:
            try:
                await open_requests(self._store, shard.prefix, [requests], {})
            except CorruptionError as damage:
                yield Fault(requests.key(shard.prefix), str(damage), self._collection(shard.prefix + "/req"))
        manifests = HeadStore(self._store, shard.prefix, shard.uuid).manifests
        for pin in head.pins:
            try:
                kept = await manifests.read(pin.uuid, pin.epoch)
            except CorruptionError as damage:
                yield Fault(pin.key(shard.prefix), str(damage), self._collection(pin.key(shard.prefix)))
                continue
            for key in kept.object_keys:
                if await self._size(key) is None:
                    told = f"object {key}: snapshot {pin.name!r} needs it, the store does not have it"
                    yield Fault(key, told, self._collection(key))

    async def _deletes(self, key: str, ref: SegmentRef) -> None:
        reply = await self._store.get(key)
        if not reply.ok:
            raise CorruptionError("HEAD names these deletes, the store does not have them", key=key)
        live = int(np.count_nonzero(decode_deletes(reply.body, rows=ref.rows, name=key, segment=ref.uuid)))
        if live != ref.live:
            raise CorruptionError(f"it leaves {live} rows, HEAD says {ref.live}", key=key)

    async def _size(self, key: str) -> int | None:
        """None: there is no such object. One that was not listed may be younger."""
        if key not in self._sizes:
            async for info in self._store.list_from(key):
                return info.size if info.key == key else None
        return self._sizes.get(key)


def _broken_log(shard: _Shard, head: Head) -> Iterator[tuple[str, str]]:
    """Slots from HEAD's `folded` on that are missing, or do not continue the one before: keys and what to say."""
    chain: bytes | None = head.chain
    for lsn in range(head.folded, max(shard.slots, default=0) + 1):
        key, slot = slot_key(shard.prefix, lsn), shard.slots.get(lsn)
        if lsn not in shard.slots:
            yield key, f"object {key}: the slot is missing, though later ones are there"
        elif slot is not None and chain is not None and slot.prev_hash != chain:
            yield key, f"object {key}: it continues another slot than the one before it"
        chain = None if slot is None else slot.digest
