"""Garbage collection over all collections of a store: those that are there, and what is left of dropped ones."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from uuid import UUID

from akidb.collection import shard_uuid
from akidb.database.catalogue import Catalogue
from akidb.errors import AkiDBError
from akidb.manifest import HeadStore
from akidb.storage.object_store import ObjectStore
from akidb.wal import Collected, Log, collect, collect_by_epoch

log = logging.getLogger(__name__)

LOOK_SECS_MAX = 600.0


@dataclass(frozen=True, slots=True)
class Round:
    """What was done for one shard; `error` is why nothing could be."""

    collection: str
    prefix: str
    done: Collected
    error: AkiDBError | None = None


class Garbage:
    """Any node may collect: HEAD says when it was done last. `follow` brings the catalogue to its present state."""

    def __init__(
        self,
        store: ObjectStore,
        catalogue: Catalogue,
        prefix_of: Callable[[UUID, int], str],
        follow: Callable[[], Awaitable[None]],
        interval_secs: float,
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._prefix_of = prefix_of
        self._follow = follow
        self._interval_secs = interval_secs
        self._heads: dict[UUID, HeadStore] = {}
        self._empty: set[UUID] = set()

    async def run(self) -> None:
        """Rounds for ever. What fails is told and tried again."""
        while True:
            await asyncio.sleep(random.uniform(0.25, 0.5) * min(self._interval_secs, LOOK_SECS_MAX))  # noqa: S311
            try:
                async for each in self.rounds(interval_secs=self._interval_secs):
                    report(each)
            except AkiDBError as failed:
                log.warning("garbage collection failed, will retry: %s", failed)

    async def rounds(self, *, interval_secs: float, force: bool = False) -> AsyncIterator[Round]:
        """One round for each shard whose last is at least `interval_secs` ago."""
        await self._follow()
        living = [(each.uuid, each.shard_count, each.name) for each in self._catalogue.collections.values()]
        gone = [(uuid, shards, f"dropped {uuid}") for uuid, shards in self._catalogue.dropped.items()]
        known = {shard_uuid(uuid, number) for uuid, shards, _ in living for number in range(shards)}
        self._heads = {shard: heads for shard, heads in self._heads.items() if shard in known}
        for uuid, shards, name in living + gone:
            for number in range(shards):
                shard, prefix = shard_uuid(uuid, number), self._prefix_of(uuid, number)
                if shard in self._empty:
                    continue
                try:
                    done = await self._collect(shard, prefix, interval_secs, dropped=shard not in known, force=force)
                except AkiDBError as failed:
                    yield Round(name, prefix, Collected(), failed)
                else:
                    yield Round(name, prefix, done)

    async def _collect(
        self, shard: UUID, prefix: str, interval_secs: float, *, dropped: bool, force: bool
    ) -> Collected:
        heads = self._heads.setdefault(shard, HeadStore(self._store, prefix, shard))
        slots = Log(self._store, prefix, shard)
        if self._store.can_delete:
            return Collected(await collect(slots, heads))
        done = await collect_by_epoch(slots, heads, interval_secs=interval_secs, dropped=dropped, force=force)
        if dropped and done.kept == 0:
            self._empty.add(shard)
        return done


def report(each: Round) -> None:
    """Tells of what was deleted, refused or failed."""
    if each.error is not None:
        log.warning("garbage of %s was not collected, will retry: %s", each.collection, each.error)
    elif each.done.refused is not None:
        log.error("garbage of %s is not collected: %s", each.collection, each.done.detail)
    elif each.done.objects:
        log.info("deleted %d objects (%d bytes) of %s", each.done.objects, each.done.bytes, each.collection)
