"""FORMAT: the object that says that a store is AkiDB's, and which versions may use it."""

from __future__ import annotations

from uuid import UUID, uuid4

import msgspec

from akidb.codec import decode, encode
from akidb.codec.frame import KIND_FORMAT
from akidb.errors import ConfigurationError, CorruptionError, NotFoundError
from akidb.storage.keys import FORMAT_KEY as KEY
from akidb.storage.keys import PROBE_FOLDER, WRITER_KEY
from akidb.storage.object_store import ObjectStore, Status
from akidb.storage.probe import require_conditional_puts

READER = WRITER = 1
"""The format versions this AkiDB reads and writes."""


class StoreFormat(msgspec.Struct, frozen=True):
    """Identity of a store. A reader below `min_reader` or a writer below `min_writer` keeps away from it."""

    store: UUID
    min_reader: int = READER
    min_writer: int = WRITER
    features: int = 0


async def ensure_format(store: ObjectStore, *, create: bool) -> StoreFormat:
    """Reads FORMAT, laying it down in a new store if `create`. Nothing is written to a store that is refused, and
    nothing but a probe to one that does not keep conditional writes.

    Raises:
        ConfigurationError: `newer_format`: the store was written by a later AkiDB. `not_a_store`: it is no new one, but
            holds something else. `no_conditional_writes`.
        NotFoundError: `store_not_found`: there is none and `create` is False.
        CorruptionError: it can't be read.
    """
    found = await (look_at(store) if create else _read(store, create=False))
    if found is None and not create:
        raise NotFoundError(f"there is no AkiDB database at {store.location}", code="store_not_found")
    if create and not store.can_delete:  # our own stores keep conditions, a bucket has to show it
        await require_conditional_puts(store)
    if found is None:
        fresh = StoreFormat(uuid4())
        await store.put_if_absent(KEY, encode(KIND_FORMAT, fresh.store, {"format": msgspec.json.encode(fresh)}))
        found = await _read(store, create=create)  # of two nodes that begin at once, both take the one that is there
    if found is None:
        raise CorruptionError(f"it was put in {store.location} and is not there", key=KEY)
    return found


async def look_at(store: ObjectStore) -> StoreFormat | None:
    """What a node that writes would find: FORMAT, or None in a store that is new. Writes nothing. Raises as
    `ensure_format`."""
    found = await _read(store, create=True)
    return await _refuse_foreign(store) if found is None else found


async def _read(store: ObjectStore, *, create: bool) -> StoreFormat | None:
    reply = await store.get(KEY)
    if reply.status is Status.NOT_FOUND:
        return None
    try:
        frame = decode(reply.body, kind=KIND_FORMAT, name=KEY)
        found = msgspec.json.decode(frame.sections["format"], type=StoreFormat)
    except (msgspec.DecodeError, KeyError) as error:
        raise CorruptionError(f"it can't be read in {store.location}: {error}", key=KEY) from error
    if found.min_reader > READER or (create and found.min_writer > WRITER):
        raise ConfigurationError(
            f"{store.location} holds format {max(found.min_reader, found.min_writer)}, "
            f"this AkiDB knows {READER}; upgrade AkiDB",
            code="newer_format",
        )
    return found


async def _refuse_foreign(store: ObjectStore) -> StoreFormat | None:
    """Raises ConfigurationError if a store without FORMAT holds other things; FORMAT, if it has one by now."""
    async for info in store.list_from(""):
        if info.key != WRITER_KEY and not info.key.startswith(f"{PROBE_FOLDER}/"):
            found = await _read(store, create=True)  # another process may have laid it down meanwhile
            if found is None:
                raise ConfigurationError(
                    f"{store.location} holds no AkiDB store but other objects, such as {info.key!r}; name an empty "
                    "bucket in AKIDB_S3_BUCKET or a prefix of its own in AKIDB_S3_PREFIX",
                    code="not_a_store",
                )
            return found
    return None
