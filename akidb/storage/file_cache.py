"""Objects of a remote store as local files, for mmap: fetched once per machine by parallel ranged GETs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from xxhash import xxh3_64_hexdigest, xxh3_128_hexdigest

from akidb.errors import InvalidInputError, StorageFullError, UnavailableError
from akidb.storage.cache_folder import CacheFolder
from akidb.storage.keys import check_key, check_prefix, check_range, is_segment
from akidb.storage.object_store import Body, ObjectStore, Reply, Status
from akidb.storage.wrapper import StoreWrapper
from akidb.telemetry.metrics import METRICS, Metrics

_RANGE_BYTES = 8 << 20
_AT_ONCE = 8
_TIER, _RANGES = "hot", "ranges"
_WAIT_SECS = 0.02
_KEEP_SECS, _KEEP_SECS_MAX, _UNKEPT_BYTES_MAX = 0.2, 5.0, 64 << 20
"""Ranges wait until none came for so long, at most for so long, and up to so many bytes, to be written together: a
search that reads a hundred is over then."""

_logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Unkept:
    """A range that is not on the disk yet; `used_ns` is time.time_ns()."""

    key: str
    data: bytes
    used_ns: int


class FileCachedStore(StoreWrapper):
    """The store below, whose `local_path` answers from a cache folder.

    Only for objects that are never overwritten: what is cached is not asked for again. What is fetched has the size
    and the ETag the store told; checksums inside the object are its reader's business. A cache that cannot be written
    costs speed: the store below then gives a temporary file.
    """

    def __init__(self, inner: ObjectStore, folder: Path, bytes_max: int, metrics: Metrics = METRICS) -> None:
        super().__init__(inner)
        self._cache = CacheFolder(folder, bytes_max)
        self._of_store = xxh3_64_hexdigest(inner.location.encode())
        self._metrics = metrics
        self._fetching: dict[str, asyncio.Task[Path | None]] = {}
        self._unkept: dict[tuple[str, int], _Unkept] = {}
        self._unkept_bytes = 0
        self._keeping: set[asyncio.Task[None]] = set()
        self._writing = asyncio.Lock()

    async def local_path(self, key: str) -> Path | None:
        name = self._name(key)
        found = self._cache.find(name)
        if found is not None:
            self._metrics.cache_hits.labels(_TIER).inc()
            return found
        self._metrics.cache_misses.labels(_TIER).inc()
        task = self._fetching.get(key)
        if task is None:
            task = self._fetching[key] = asyncio.create_task(self._fetched(key, name))
            task.add_done_callback(lambda _: self._fetching.pop(key, None))
        return await asyncio.shield(task)  # one caller's deadline does not end the fetch others wait for

    async def get(
        self, key: str, *, byte_range: tuple[int, int] | None = None, if_none_match: str | None = None
    ) -> Reply:
        """Ranges of segments are kept, since searches of one that is not here come back to them."""
        if byte_range is None or not is_segment(key):
            return await super().get(key, byte_range=byte_range, if_none_match=if_none_match)
        name, (start, end) = self._name(key), check_range(byte_range)
        data = await self._kept(name, start, end)
        if data is not None:
            self._metrics.cache_hits.labels(_RANGES).inc()
            return Reply(Status.OK, data)
        self._metrics.cache_misses.labels(_RANGES).inc()
        reply = await super().get(key, byte_range=byte_range, if_none_match=if_none_match)
        if reply.ok and len(reply.body) == end - start:
            self._keep(key, name, start, reply.body)
        return reply

    async def put(self, key: str, body: Body) -> Reply:
        """A segment's file is kept: who writes one opens it next."""
        reply = await super().put(key, body)
        if reply.ok and isinstance(body, Path) and is_segment(key):
            try:
                await asyncio.to_thread(self._cache.keep_file, self._name(key), body)
            except OSError as failed:
                self._failed(failed, key)
        return reply

    async def _kept(self, name: str, start: int, end: int) -> bytes | None:
        """A thread for each of a hundred ranges that are not here would take longer than a search has."""
        waiting = self._unkept.get((name, start))
        if waiting is not None and len(waiting.data) == end - start:
            waiting.used_ns = time.time_ns()
            return waiting.data
        with contextlib.suppress(OSError):
            if self._cache.has_range(name, start, end):
                return await asyncio.to_thread(self._cache.read_range, name, start, end)
        return None

    def _keep(self, key: str, name: str, start: int, data: bytes) -> None:
        if self._unkept_bytes + len(data) > _UNKEPT_BYTES_MAX or (name, start) in self._unkept:
            return  # the disk is slower than the store
        self._unkept[name, start] = _Unkept(key, data, time.time_ns())
        self._unkept_bytes += len(data)
        if not self._keeping:
            keeping = asyncio.create_task(self._keep_soon())
            self._keeping.add(keeping)
            keeping.add_done_callback(self._keeping.discard)

    async def _keep_soon(self) -> None:
        while self._unkept:
            began, known = time.monotonic(), 0
            while known < self._unkept_bytes < _UNKEPT_BYTES_MAX // 2 and time.monotonic() - began < _KEEP_SECS_MAX:
                known = self._unkept_bytes
                await asyncio.sleep(_KEEP_SECS)
            await self._keep_now()

    async def _keep_now(self) -> None:
        async with self._writing:
            unkept, self._unkept, self._unkept_bytes = self._unkept, {}, 0
            await asyncio.to_thread(self._write_ranges, unkept)

    def _write_ranges(self, unkept: Mapping[tuple[str, int], _Unkept]) -> None:
        for (name, start), each in unkept.items():
            try:
                self._cache.keep_range(name, start, each.data, each.used_ns)
            except OSError as failed:
                self._failed(failed, each.key)
                return

    def _failed(self, failed: OSError, key: str) -> None:
        self._metrics.cache_failures.inc()
        _logger.warning("file cache %s failed (%s): reading %s past it", self._cache.root, failed.strerror, key)

    async def has_local(self, key: str) -> bool:
        return self._cache.find(self._name(key)) is not None

    async def forget_local(self, key: str) -> None:
        name = self._name(key)
        for place in [place for place in self._unkept if place[0] == name]:
            self._unkept_bytes -= len(self._unkept.pop(place).data)
        with contextlib.suppress(OSError):
            async with self._writing:
                dropped = await asyncio.to_thread(self._cache.drop, name)
            if dropped:
                _logger.warning("file cache %s: the copy of %s is damaged and dropped", self._cache.root, key)
        await super().forget_local(key)

    # Pinning: prefixes are those of a collection's shards, below which all its segments are.

    @property
    def bytes_max(self) -> int:
        return self._cache.bytes_max

    async def pin(self, prefixes: Sequence[str], size: int) -> None:
        """Keeps what is fetched of objects below `prefixes`, `size` bytes now, from being removed.

        Raises:
            InvalidInputError: `cache_too_small`: it and what is pinned already do not fit.
            StorageFullError: the cache can't be written.
        """
        folders = [self._folder(prefix) for prefix in prefixes]
        try:
            others = await asyncio.to_thread(self._cache.pinned_bytes, folders)
            if others + size > self.bytes_max:
                raise InvalidInputError(
                    f"its segments take {size} bytes, those of other pinned collections {others}, the file cache is "
                    f"{self.bytes_max} bytes: set AKIDB_CACHE_HOT_SIZE_GB higher",
                    code="cache_too_small",
                )
            for folder in folders:
                await asyncio.to_thread(self._cache.pin, folder)
        except OSError as failed:
            message = f"the file cache {self._cache.root} can't be written: {failed.strerror}"
            raise StorageFullError(message) from failed

    async def unpin(self, prefixes: Sequence[str]) -> None:
        """Lets it be removed again."""
        try:
            for prefix in prefixes:
                await asyncio.to_thread(self._cache.unpin, self._folder(prefix))
        except OSError as failed:
            message = f"the file cache {self._cache.root} can't be written: {failed.strerror}"
            raise StorageFullError(message) from failed

    def is_pinned(self, prefix: str) -> bool:
        return self._cache.is_pinned(self._folder(prefix))

    def _folder(self, prefix: str) -> str:
        return f"{self._of_store}/{xxh3_128_hexdigest(check_prefix(prefix).encode())}"

    def _name(self, key: str) -> str:
        prefix, _, _ = check_key(key).rpartition("/seg/")
        return f"{self._folder(prefix)}/{xxh3_128_hexdigest(key.encode())}"

    async def close(self) -> None:
        tasks = [*self._fetching.values(), *self._keeping]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._keep_now()
        await super().close()

    async def _fetched(self, key: str, name: str) -> Path | None:
        try:
            while (found := self._cache.find(name)) is None:
                claimed = self._cache.claim(name)
                if claimed is not None:
                    return await self._fill(key, name, claimed)
                await asyncio.sleep(_WAIT_SECS)  # another process fetches it; its death ends its claim
            return found
        except OSError as failed:
            self._failed(failed, key)
        return await self.inner.local_path(key)

    async def _fill(self, key: str, name: str, claimed: int) -> Path | None:
        try:
            found = self._cache.find(name)  # somebody may have finished between our look and our claim
            there = found is None and await self._download(key, name)
        except BaseException:
            self._cache.abandon(name, claimed)
            raise
        if not there:
            self._cache.abandon(name, claimed)
            return found
        return await asyncio.to_thread(self._cache.finish, name, claimed)

    async def _download(self, key: str, name: str) -> bool:
        """Fills the claimed part file; False if there is no such object."""
        first = await self._first_range(key)
        if not first.ok:
            return False
        await asyncio.to_thread(self._cache.reserve, name, first.size)
        await asyncio.to_thread(self._cache.write, name, 0, first.body)
        slots = asyncio.Semaphore(_AT_ONCE)

        async def fetch(start: int) -> None:
            async with slots:
                reply = await self.inner.get(key, byte_range=(start, start + _RANGE_BYTES))
                if reply.etag != first.etag or len(reply.body) != min(_RANGE_BYTES, first.size - start):
                    raise UnavailableError(f"{self.location}: {key} changed or was cut short while it was fetched")
                await asyncio.to_thread(self._cache.write, name, start, reply.body)

        try:
            async with asyncio.TaskGroup() as group:
                for start in range(_RANGE_BYTES, first.size, _RANGE_BYTES):
                    group.create_task(fetch(start))
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        return True

    async def _first_range(self, key: str) -> Reply:
        """The beginning of the object, and with it the size: a HEAD request would cost a round trip more."""
        try:
            return await self.inner.get(key, byte_range=(0, _RANGE_BYTES))
        except InvalidInputError:  # of an empty object no range can be had
            return await self.inner.get(key)


def file_cache(store: ObjectStore) -> FileCachedStore | None:
    """The file cache in a store's stack, None where its objects are on this machine anyway."""
    while isinstance(store, StoreWrapper):
        if isinstance(store, FileCachedStore):
            return store
        store = store.inner
    return None
