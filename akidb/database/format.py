"""FORMAT: the object that says that a store is AkiDB's, and which versions may use it."""

from __future__ import annotations

from uuid import UUID, uuid4

import msgspec

from akidb.codec import decode, encode
from akidb.codec.frame import KIND_FORMAT
from akidb.errors import ConfigurationError, CorruptionError, NotFoundError
from akidb.storage.keys import FORMAT_KEY as KEY
from akidb.storage.object_store import ObjectStore, Status

READER = WRITER = 1
"""The format versions this AkiDB reads and writes."""


class StoreFormat(msgspec.Struct, frozen=True):
    """Identity of a store. A reader below `min_reader` or a writer below `min_writer` keeps away from it."""

    store: UUID
    min_reader: int = READER
    min_writer: int = WRITER
    features: int = 0


async def ensure_format(store: ObjectStore, *, create: bool) -> StoreFormat:
    """Reads FORMAT, laying it down in a new store if `create`.

    Raises:
        ConfigurationError: `newer_format`: the store was written by a later AkiDB.
        NotFoundError: `store_not_found`: there is none and `create` is False.
        CorruptionError: it can't be read.
    """
    reply = await store.get(KEY)
    if reply.status is Status.NOT_FOUND:
        if not create:
            raise NotFoundError(f"there is no AkiDB database at {store.location}", code="store_not_found")
        fresh = StoreFormat(uuid4())
        await store.put_if_absent(KEY, encode(KIND_FORMAT, fresh.store, {"format": msgspec.json.encode(fresh)}))
        reply = await store.get(KEY)  # of two nodes that begin at once, both take the one that is there
    try:
        frame = decode(reply.body, kind=KIND_FORMAT, name=KEY)
        found = msgspec.json.decode(frame.sections["format"], type=StoreFormat)
    except (msgspec.DecodeError, KeyError) as error:
        raise CorruptionError(f"object {KEY} in {store.location} can't be read: {error}") from error
    if found.min_reader > READER or (create and found.min_writer > WRITER):
        raise ConfigurationError(
            f"{store.location} holds format {max(found.min_reader, found.min_writer)}, "
            f"this AkiDB knows {READER}; upgrade AkiDB",
            code="newer_format",
        )
    return found
