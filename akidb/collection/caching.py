"""How much of a collection the file cache holds, and pinning it there."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator, Sequence
from contextvars import Context

from akidb.collection.shard import Shard
from akidb.errors import AkiDBError
from akidb.manifest import SegmentRef
from akidb.storage import file_cache
from akidb.types import CacheState

log = logging.getLogger(__name__)


class Caching:
    """A collection's place in the file cache; on stores of this machine there is none, and nothing to do."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        self._shards = shards
        self._store = shards[0].store
        self._cache = file_cache(self._store)
        self._fetching: asyncio.Task[None] | None = None

    @property
    def _is_pinned(self) -> bool:
        return self._cache is not None and all(map(self._cache.is_pinned, self._prefixes))

    @property
    def _prefixes(self) -> list[str]:
        """What its segments lie below: its shards' own, and of a clone those of the shards that it was made from."""
        borrowed = {ref.key.rpartition("/seg/")[0] for ref in self._segments()}
        return sorted(borrowed | {shard.prefix for shard in self._shards})

    def _segments(self) -> Iterator[SegmentRef]:
        for shard in self._shards:
            yield from shard.known.head.segments

    def begin(self) -> None:
        """Goes on fetching what was pinned before this process began."""
        if self._is_pinned:
            self._fetch_soon()

    async def pin(self) -> CacheState:
        """Raises InvalidInputError `cache_too_small`, StorageFullError."""
        if self._cache is not None:
            await self._cache.pin(self._prefixes, sum(ref.bytes for ref in self._segments()))
            self._fetch_soon()
        return await self.state()

    async def unpin(self) -> CacheState:
        """Raises StorageFullError."""
        if self._cache is not None:
            await self._cache.unpin(self._prefixes)
        return await self.state()

    async def state(self) -> CacheState:
        segments = list(self._segments())
        here = await asyncio.gather(*(self._store.has_local(ref.key) for ref in segments))
        cached = sum(ref.bytes for ref, is_here in zip(segments, here, strict=True) if is_here)
        return CacheState(self._is_pinned, cached, sum(ref.bytes for ref in segments))

    def _fetch_soon(self) -> None:
        if self._fetching is None or self._fetching.done():
            self._fetching = asyncio.create_task(self._fetch(), context=Context())  # not that of the request

    async def _fetch(self) -> None:
        for shard in self._shards:
            shard.fetch_soon()
        for ref in list(self._segments()):  # open ones may have been removed from the cache since
            try:
                await self._store.local_path(ref.key)
            except AkiDBError as failed:
                log.warning("segment %s of a pinned collection could not be fetched: %s", ref.key, failed)

    async def close(self) -> None:
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)
        if self._cache is not None and self._shards[0].known.sealed:  # dropped: nobody would ever unpin it
            with contextlib.suppress(AkiDBError):
                await self._cache.unpin(self._prefixes)
