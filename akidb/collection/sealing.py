"""Drops a shard that can't be opened: for that its HEAD and the log's tail are needed, its segments are not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Sequence
from typing import Any

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
    ends = [EndOfLog(shard.heads) for shard in shards]
    appenders = [Appender(shard.log, end, shard.heads, shard.settings) for shard, end in zip(shards, ends, strict=True)]
    try:
        # All first: where the end of one can't be told, none is sealed.
        await _each([_find_end(*each, deadline) for each in zip(ends, appenders, strict=True)])
        await _each([_seal(*each, deadline) for each in zip(ends, appenders, strict=True)])
    finally:
        await _each([appender.close() for appender in appenders])
    await _each([clear(shard, end) for shard, end in zip(shards, ends, strict=True)])


async def _each(work: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Does all to the end, and raises the first error: what still ran would go on after who asked was answered."""
    for outcome in await asyncio.gather(*work, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome


async def _find_end(end: EndOfLog, appender: Appender, deadline: float) -> None:
    await end.reload()
    with contextlib.suppress(NotFoundError):
        await appender.catch_up(deadline=deadline)


async def _seal(end: EndOfLog, appender: Appender, deadline: float) -> None:
    def refuse_second() -> None:
        if end.sealed:
            raise NotFoundError("it was dropped meanwhile", code="collection_not_found")

    if not end.sealed:
        with contextlib.suppress(NotFoundError):
            await appender.append([Seal()], deadline=deadline, check=refuse_second)
