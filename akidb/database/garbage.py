"""Garbage collection over all collections of a store: those that are there, and what is left of dropped ones.

What a clone was made from keeps the objects for it by a pin in its HEAD, also when it is dropped. A round over it looks
at each clone's HEAD: once that, and the snapshots and clones of the clone, name nothing of another shard any more, they
never will again, and the pin goes. A clone that the catalogue does not know is being made, or its maker died: after
ABANDONED_SECS a record forbids it, so that a maker who stood still can't finish, and then the pin goes.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from akidb.collection import shard_uuid
from akidb.database.catalogue import Catalogue
from akidb.errors import AkiDBError
from akidb.manifest import Head, HeadStore, Pin
from akidb.storage.object_store import ObjectStore
from akidb.wal import Collected, Log, collect, collect_by_epoch, due_secs

log = logging.getLogger(__name__)

LOOK_SECS_MAX = 600.0

ABANDONED_SECS = 3600
"""After so long by the store's clock nobody is expected to be still making a clone. Too short a time would lose work,
not data."""


@dataclass(frozen=True, slots=True)
class Round:
    """What was done for one shard; `shard` is its number where there are several, `error` why nothing could be."""

    collection: str
    prefix: str
    done: Collected
    error: AkiDBError | None = None
    shard: int | None = None

    @property
    def what(self) -> str:
        """The collection as a person reads it, and of several shards which."""
        return self.collection if self.shard is None else f"{self.collection}, shard {self.shard}"


class Garbage:
    """Any node may collect: HEAD says when it was done last. `follow` brings the catalogue to its present state, and
    `forbid` records that a collection which is not there is not to come to be."""

    def __init__(
        self,
        store: ObjectStore,
        catalogue: Catalogue,
        prefix_of: Callable[[UUID, int], str],
        follow: Callable[[], Awaitable[None]],
        forbid: Callable[[UUID], Awaitable[None]],
        interval_secs: float,
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._prefix_of = prefix_of
        self._follow = follow
        self._forbid = forbid
        self._interval_secs = interval_secs
        self._heads: dict[UUID, HeadStore] = {}
        self._empty: set[UUID] = set()

    async def run(self) -> None:
        """Rounds for ever. What fails is told and tried again.

        A look costs a bucket one get for each shard whose round is not due. A folder frees what folds leave by itself,
        and each look is a round, which is for what clones do not need any more.
        """
        longest = self._interval_secs if self._store.can_delete else min(self._interval_secs, LOOK_SECS_MAX)
        while True:
            await asyncio.sleep(random.uniform(0.25, 0.5) * longest)  # noqa: S311
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
                which = number if shards > 1 else None
                if shard in self._empty:
                    continue
                try:
                    dropped = shard not in known
                    done = await self._collect(shard, prefix, number, interval_secs, dropped=dropped, force=force)
                except AkiDBError as failed:
                    yield Round(name, prefix, Collected(), failed, which)
                else:
                    yield Round(name, prefix, done, shard=which)

    async def release(self, collection: UUID, number: int) -> None:
        """Lets go, before the next round does, what one shard keeps for clones that do not need it any more."""
        await self._follow()
        heads = self._head(shard_uuid(collection, number), self._prefix_of(collection, number))
        seen, _ = await heads.read()
        await self._release(heads, seen.lent, number, int(heads.date or 0))

    async def _collect(
        self, shard: UUID, prefix: str, number: int, interval_secs: float, *, dropped: bool, force: bool
    ) -> Collected:
        heads, slots = self._head(shard, prefix), Log(self._store, prefix, shard)
        seen, _ = await heads.read()
        now = int(heads.date or 0)
        if not self._store.can_delete and (wait := due_secs(seen, now, interval_secs)):
            return Collected(due_secs=wait)
        await self._release(heads, seen.lent, number, now)
        if self._store.can_delete:
            return Collected(await collect(slots, heads, dropped=dropped))
        done = await collect_by_epoch(slots, heads, interval_secs=interval_secs, dropped=dropped, force=force)
        if dropped and done.kept == 0:
            self._empty.add(shard)
        return done

    def _head(self, shard: UUID, prefix: str) -> HeadStore:
        return self._heads.setdefault(shard, HeadStore(self._store, prefix, shard))

    async def _release(self, heads: HeadStore, lent: Sequence[Pin], number: int, now: int) -> None:
        """Takes the pins out of HEAD that their clones do not need any more."""
        over = {pin.uuid for pin in lent if not await self._is_needed(pin, number, now)}
        if not over:
            return

        def without(head: Head) -> Head | None:
            pins = tuple(pin for pin in head.pins if pin.uuid not in over)
            return None if pins == head.pins else replace(head, pins=pins)

        await heads.swap(without)

    async def _is_needed(self, pin: Pin, number: int, now: int) -> bool:
        """Whether shard `number` of the pin's clone may name objects that the pin keeps."""
        clone = pin.borrower
        is_living, shards = self._catalogue.named(clone) is not None, self._catalogue.dropped.get(clone)
        if not is_living and shards is None:
            if pin.created and now - pin.created >= ABANDONED_SECS:
                await self._forbid(clone)
            return self._catalogue.dropped.get(clone) != 0
        if shards == 0:
            return False
        heads = self._head(shard_uuid(clone, number), self._prefix_of(clone, number))
        head, _ = await heads.read()
        return bool(await heads.manifests.borrowed(head if is_living else head.of_dropped()))


def report(each: Round) -> None:
    """Tells of what was deleted, refused or failed."""
    if each.error is not None:
        log.warning("garbage of %s was not collected, will retry: %s", each.what, each.error)
    elif each.done.refused is not None:
        log.error("garbage of %s is not collected: %s", each.what, each.done.detail)
    elif each.done.objects:
        log.info("deleted %d objects (%d bytes) of %s", each.done.objects, each.done.bytes, each.what)
