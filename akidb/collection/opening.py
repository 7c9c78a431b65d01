"""Opens the segments that a HEAD names, and knows which of them this node has open."""

from __future__ import annotations

import asyncio
import logging
import time
import weakref
from collections.abc import Callable
from functools import partial

from akidb.collection.state import LiveSegment
from akidb.collection.workers import Workers
from akidb.errors import CorruptionError
from akidb.manifest import Head, SegmentRef
from akidb.segment import Mask, Segment, decode_deletes
from akidb.storage.object_store import ObjectStore
from akidb.telemetry.metrics import METRICS
from akidb.telemetry.tracing import span

log = logging.getLogger(__name__)

OPEN_TRIES = 3


class Opener:
    """Opens segments of one shard, each file once for all that use it: the state, snapshots, reads under way."""

    def __init__(self, store: ObjectStore, workers: Workers, collection: str) -> None:
        self._store = store
        self._workers = workers
        self._collection = collection
        self._opened: list[weakref.ref[Segment]] = []
        self.on_opened: Callable[[], None] = lambda: None

    @property
    def opened(self) -> list[Segment]:
        """The segments that are in use, oldest first, those that were found to be damaged included."""
        found = [(ref, ref()) for ref in self._opened]
        self._opened = [ref for ref, segment in found if segment is not None]
        return [segment for _, segment in found if segment is not None]

    def forget(self, segment: Segment) -> None:
        """Counts it no longer among the opened: a sound one takes its place."""
        self._opened = [ref for ref in self._opened if ref() is not segment]

    async def segments(self, head: Head) -> list[LiveSegment]:
        """All that `head` names. Raises as `segment`."""
        return list(await asyncio.gather(*(self.segment(ref) for ref in head.segments)))

    async def segment(self, ref: SegmentRef) -> LiveSegment:
        """Opens the object, unless it is open, and its deletes. CorruptionError names what is damaged."""
        sound = (each for each in self.opened if each.name == ref.key and each.damage is None)
        reader = next(sound, None)
        if reader is None:
            with span("load_segment", collection__name=self._collection):
                reader = await self.reader(ref.key)
        opened = LiveSegment(ref, reader, await self.deletes(ref, reader))
        if (reader.uuid, reader.rows, opened.live_rows) != (ref.uuid, ref.rows, ref.live):
            raise CorruptionError(
                f"it is segment {reader.uuid} with {opened.live_rows} of {reader.rows} rows live, "
                f"HEAD says {ref.uuid} with {ref.live} of {ref.rows}",
                key=ref.key,
            )
        return opened

    async def deletes(self, ref: SegmentRef, reader: Segment) -> Mask | None:
        """The rows that HEAD counts as live, None for all. Raises CorruptionError."""
        if ref.deletes_key is None:
            return None
        reply = await self._store.get(ref.deletes_key)
        if not reply.ok:
            raise CorruptionError("HEAD names these deletes, the store does not have them", key=ref.deletes_key)
        return await asyncio.to_thread(decode_deletes, reply.body, rows=reader.rows, name=ref.deletes_key)

    async def reader(self, key: str, *, verify: bool = False) -> Segment:
        """Opens the object anew. What came over a network is compared with its checksums whole; of the local store's
        own file only what opening needs, unless `verify`.

        A copy that is damaged is dropped and fetched again. Raises CorruptionError, UnavailableError.
        """
        whole = verify or not self._store.can_delete
        damage: CorruptionError | None = None
        fetched = False  # what came from the store just now was damaged
        for _ in range(OPEN_TRIES):
            is_copy = not self._store.can_delete and await self._store.has_local(key)
            path = await self._store.local_path(key)
            if path is None:
                break
            try:
                open_it = partial(Segment.open, path, name=key, verify=whole)
                opened = await self._workers.run(self._workers.background, open_it)
            except FileNotFoundError:
                continue  # evicted from the file cache before it was opened, or collected
            except CorruptionError as found:
                if is_copy or not fetched:  # of one object once, however often it is tried
                    METRICS.checksum_failures.labels("cache" if is_copy else "store").inc()
                fetched = not is_copy
                if self._store.can_delete:
                    raise  # the file is the object
                damage = found
                await self._store.forget_local(key)
            else:
                if whole:
                    opened.verified_at = time.monotonic()
                self._opened.append(weakref.ref(opened))
                self.on_opened()
                return opened
        if damage is not None:
            raise damage
        raise CorruptionError("HEAD names this segment, the store does not have it", key=key)
