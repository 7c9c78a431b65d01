"""Drops a shard that can't be opened: for that its HEAD and the log's tail are needed, its segments are not."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from akidb.collection.fold import clear
from akidb.collection.shard import Shard
from akidb.errors import NotFoundError
from akidb.manifest import HeadStore
from akidb.types import Lsn
from akidb.wal import CHAIN_START, Appender, Seal, Slot


class EndOfLog:
    """All that a log's slots say without points: an akidb.wal.State."""

    def __init__(self, heads: HeadStore) -> None:
        self._heads = heads
        self.applied: Lsn = 0
        self.chain = CHAIN_START
        self.sealed = False

    async def apply(self, slot: Slot) -> None:
        self.applied, self.chain = slot.lsn, slot.digest
        self.sealed |= any(isinstance(each, Seal) for batch in slot.batches for each in batch.operations)

    async def reload(self) -> None:
        head, _ = await self._heads.read()
        if head.folded > self.applied:
            self.applied, self.chain, self.sealed = head.folded - 1, head.chain, head.sealed


async def drop_unopened(shards: Sequence[Shard], *, deadline: float) -> None:
    """Ends the logs of shards that were not opened, unless they are ended, and gives back their room where that is
    safe.

    Raises:
        CorruptionError: HEAD or a slot that is not folded is damaged: where the log ends can't be told.
        DeadlineExceededError, UnavailableError: calling again goes on.
    """
    await asyncio.gather(*(_drop(shard, deadline) for shard in shards))


async def _drop(shard: Shard, deadline: float) -> None:
    state = EndOfLog(shard.heads)
    await state.reload()
    appender = Appender(shard.log, state, shard.heads, shard.settings)

    def refuse_second() -> None:
        if state.sealed:
            raise NotFoundError("it was dropped meanwhile", code="collection_not_found")

    try:
        await appender.catch_up(deadline=deadline)
        if not state.sealed:
            await appender.append([Seal()], deadline=deadline, check=refuse_second)
    except NotFoundError:
        pass
    finally:
        await appender.close()
    await clear(shard, state)
