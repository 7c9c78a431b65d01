"""Objects of a remote store as local files, for mmap: fetched once per machine by parallel ranged GETs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path

from xxhash import xxh3_64_hexdigest, xxh3_128_hexdigest

from akidb.errors import InvalidInputError, UnavailableError
from akidb.storage.cache_folder import CacheFolder
from akidb.storage.keys import check_key
from akidb.storage.object_store import ObjectStore, Reply
from akidb.storage.wrapper import StoreWrapper
from akidb.telemetry.metrics import METRICS, Metrics

_RANGE_BYTES = 8 << 20
_AT_ONCE = 8
_TIER = "hot"
_WAIT_SECS = 0.02
_logger = logging.getLogger(__name__)


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

    async def has_local(self, key: str) -> bool:
        return self._cache.find(self._name(key)) is not None

    async def forget_local(self, key: str) -> None:
        _logger.error("file cache %s: the copy of %s is damaged and dropped", self._cache.root, key)
        with contextlib.suppress(OSError):
            await asyncio.to_thread(self._cache.drop, self._name(key))
        await super().forget_local(key)

    def _name(self, key: str) -> str:
        return f"{self._of_store}/{xxh3_128_hexdigest(check_key(key).encode())}"

    async def close(self) -> None:
        tasks = list(self._fetching.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
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
            _logger.warning("file cache %s failed (%s): reading %s past it", self._cache.root, failed.strerror, key)
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
