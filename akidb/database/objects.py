"""Compares one object of a store, whatever its kind, with its checksums and with what its key says that it is."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, replace
from functools import partial
from uuid import UUID

from akidb.codec.frame import (
    HEADER,
    KIND_CATALOGUE_HEAD,
    KIND_CATALOGUE_SLOT,
    KIND_DELETES,
    KIND_FORMAT,
    KIND_HEAD,
    KIND_MANIFEST,
    KIND_REQUESTS,
    KIND_SEGMENT,
    KIND_SLOT,
    crc32c,
    decode,
    read_directory,
    unlike_checksum,
)
from akidb.collection import shard_uuid
from akidb.database.members import FOLDER as NODES
from akidb.database.members import decode_node
from akidb.errors import CorruptionError
from akidb.manifest import decode_head
from akidb.storage.held import decode_lease
from akidb.storage.keys import FORMAT_KEY, WRITER_KEY, is_key
from akidb.storage.object_store import ObjectInfo, ObjectStore
from akidb.wal import Slot, decode_slot
from akidb.wal.log import lsn_of

RANGE_BYTES = 4 << 20
"""Of a segment as much is read at a time; other objects are small."""

_SHARD = re.compile(r"(t/([0-9a-f-]{36})/(?:cat|c/([0-9a-f-]{36})/([0-9a-f]{4})))/([a-z]+)(?:/(.+))?")


class GoneError(Exception):
    """The object was deleted since it was listed."""


@dataclass(frozen=True, slots=True)
class Place:
    """What a key says: the log that the object belongs to, of a collection's shard or (None) the catalogue; below its
    prefix the folder, or the name of a single object; and the name in it."""

    prefix: str
    shard: UUID
    collection: UUID | None
    folder: str
    name: str

    @property
    def kinds(self) -> tuple[int, int]:
        """Of HEAD and slots."""
        return (KIND_CATALOGUE_HEAD, KIND_CATALOGUE_SLOT) if self.collection is None else (KIND_HEAD, KIND_SLOT)


def place_of(key: str) -> Place | None:
    """None for what lies below no log."""
    matched = _SHARD.fullmatch(key)
    try:
        if matched is None:
            return None
        prefix, tenant, collection, number, folder, name = matched.groups()
        uuid = None if collection is None else UUID(collection)
        shard = UUID(tenant) if uuid is None else shard_uuid(uuid, int(number, 16))
    except ValueError:
        return None
    return Place(prefix, shard, uuid, folder, name or "")


async def compare(store: ObjectStore, info: ObjectInfo) -> Slot | None:
    """Reads all of the object; of a slot it tells what it says, without the operations.

    Raises:
        CorruptionError: it is not what was put there; GoneError.
    """
    if not is_key(info.key):
        raise _foreign(info.key)
    place = place_of(info.key)
    if place is not None and place.folder == "seg":
        await _compare_segment(store, info, _uuid_in(info.key))
        return None
    reply = await store.get(info.key)
    if not reply.ok:
        raise GoneError
    key, body = info.key, reply.body
    if key == FORMAT_KEY:
        decode(body, kind=KIND_FORMAT, name=key)
        return None
    if key == WRITER_KEY:
        decode_lease(body, shard=UUID(int=0), name=key)
        return None
    if key.startswith(f"{NODES}/"):
        decode_node(body, name=key)
        return None
    match place:
        case Place(folder="head", name=""):
            decode_head(body, shard=place.shard, name=key, kind=place.kinds[0])
        case Place(folder="wal"):
            read = partial(decode_slot, body, lsn=lsn_in(key), shard=place.shard, name=key, kind=place.kinds[1])
            return replace(await asyncio.to_thread(read), batches=[])
        case Place(folder="man"):
            decode_head(body, shard=place.shard, name=key, kind=KIND_MANIFEST)
        case Place(folder="lease"):
            decode_lease(body, shard=place.shard, name=key)
        case Place(folder="del"):
            decode(body, kind=KIND_DELETES, name=key)  # whose, HEAD tells
        case Place(folder="req"):
            found = decode(body, kind=KIND_REQUESTS, name=key).uuid
            if found != _uuid_in(key):
                raise CorruptionError(f"it is {found}", key=key)
        case _:
            raise _foreign(key)
    return None


async def _compare_segment(store: ObjectStore, info: ObjectInfo, uuid: UUID) -> None:
    """A range at a time, whatever its size."""
    key, tail = info.key, max(0, info.size - RANGE_BYTES)  # the directory is at the end

    async def read(start: int, end: int) -> bytes:
        reply = await store.get(key, byte_range=(start, end))
        if not reply.ok:
            raise GoneError
        if len(reply.body) != end - start:
            raise CorruptionError(f"{len(reply.body)} of {end - start} bytes at {start} were there", key=key)
        return reply.body

    if info.size < HEADER.size:
        raise CorruptionError(f"{info.size} bytes are too few for a header", key=key)
    first, last = await read(0, HEADER.size), await read(tail, info.size)

    def cut(start: int, end: int) -> bytes:
        return last[start - tail : end - tail] if start >= tail else first[start:end]

    directory = read_directory(cut, info.size, kind=KIND_SEGMENT, name=key)
    if directory.uuid != uuid:
        raise CorruptionError(f"it is segment {directory.uuid}", key=key)
    for entry in directory.entries:
        crc, end = 0, entry.offset + entry.size
        for start in range(entry.offset, end, RANGE_BYTES):
            data = await read(start, min(start + RANGE_BYTES, end))
            crc = await asyncio.to_thread(partial(crc32c, data, after=crc))
        if crc != entry.crc:
            raise unlike_checksum(key, entry.name)


def lsn_in(key: str) -> int:
    """Of a slot. Raises CorruptionError."""
    lsn = lsn_of(key.partition("/wal/")[0], key)
    if lsn is None:
        raise _foreign(key)
    return lsn


def _uuid_in(key: str) -> UUID:
    """Of an immutable object. Raises CorruptionError."""
    try:
        return UUID(key.rpartition("-")[2])
    except ValueError:
        raise _foreign(key) from None


def _foreign(key: str) -> CorruptionError:
    return CorruptionError("it is none that AkiDB put there", key=key)
