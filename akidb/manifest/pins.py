"""Manifests: what HEAD said at a snapshot, as an object that is never changed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from uuid import UUID

from akidb.codec.frame import KIND_MANIFEST
from akidb.errors import CorruptionError
from akidb.manifest.codec import decode_head, encode_head, pins_bytes
from akidb.manifest.model import Head, Pin
from akidb.manifest.names import MANIFESTS, object_key
from akidb.storage.object_store import ObjectStore

PINS_MAX, PINS_BYTES_MAX = 1000, 56 << 10
"""Snapshots of a shard, and what they may take of HEAD, which every change of the shard writes anew."""


def has_room(pins: Iterable[Pin], name: str) -> bool:
    """Whether a snapshot called `name` may be added."""
    present = list(pins)
    room = pins_bytes([*present, Pin(name, UUID(int=0), 0)]) <= PINS_BYTES_MAX
    return len(present) < PINS_MAX and room


class Manifests:
    """The manifest objects of one shard. Those that were read are remembered."""

    def __init__(self, store: ObjectStore, prefix: str, shard: UUID) -> None:
        self._store = store
        self._prefix = prefix
        self._shard = shard
        self._keys: dict[UUID, frozenset[str]] = {}

    async def put(self, head: Head, name: str, uuid: UUID, *, clone: bool = False) -> Pin:
        """Writes what `head` says of points into object `uuid` of its epoch; returns the pin, for HEAD to name.

        Which requests were made is not the points' matter: a revert does not make them undone.
        """
        pin = Pin(name, uuid, head.folded - 1, 0, head.live_count, head.gc_epoch, clone)
        key = pin.key(self._prefix)
        manifest = replace(head, recent=(), requests=(), pins=(), collected=0, settled=0)
        await self._store.put(key, encode_head(manifest, shard=self._shard, kind=KIND_MANIFEST))
        written = (await self._store.head(key)).last_modified
        return replace(pin, created=int(written or 0))

    async def read(self, uuid: UUID, epoch: int) -> Head:
        """What HEAD said when manifest `uuid` was made. Raises CorruptionError naming the object, UnavailableError."""
        key = object_key(self._prefix, MANIFESTS, epoch, uuid)
        reply = await self._store.get(key)
        if not reply.ok:
            raise CorruptionError("a snapshot is kept in it, the store does not have it", key=key)
        return decode_head(reply.body, shard=self._shard, name=key, kind=KIND_MANIFEST)

    async def keys(self, head: Head) -> set[str]:
        """Keys of all that `head` keeps: what it names, and what its snapshots and those of clones do."""
        known, found = self._keys, dict[UUID, frozenset[str]]()
        for pin in head.pins:
            there = known.get(pin.uuid)
            found[pin.uuid] = (await self.read(pin.uuid, pin.epoch)).object_keys if there is None else there
        self._keys = found  # whole: another call may be at it meanwhile
        kept = set(head.object_keys).union(*found.values())
        kept |= {ref.key(self._prefix) for ref in head.requests}
        kept |= {pin.key(self._prefix) for pin in head.pins}
        return kept

    def is_own(self, key: str) -> bool:
        """Whether the object is of this shard, and not one of a shard that it was cloned from."""
        return key.startswith(f"{self._prefix}/")

    async def borrowed(self, head: Head) -> set[str]:
        """Keys of what `head` keeps of the shard that it was cloned from. There are never more than before: what is
        named for the first time is of this shard."""
        return {key for key in await self.keys(head) if not self.is_own(key)}
