"""Hedged gets: one that takes longer than nearly all before it is sent a second time, and the first answer counts.

Dean and Barroso, "The Tail at Scale", CACM 56(2), 2013. A get changes nothing, so both may run to their end.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from akidb.storage.budget import Budget
from akidb.storage.object_store import ObjectStore, Reply
from akidb.storage.wrapper import StoreWrapper

EXTRA_SHARE_MAX = 0.05
_SAVED_MAX = 5.0
_QUANTILE = 0.95
_REMEMBERED = 256
_REMEMBERED_MIN = 64
"""With fewer, the slowest of them say nothing about what is slow."""


class HedgingStore(StoreWrapper):
    """The store below, whose gets are sent again past the 95th percentile of their kind, at most 5 % of them."""

    def __init__(self, inner: ObjectStore) -> None:
        super().__init__(inner)
        self._whole, self._ranged = _Latencies(), _Latencies()  # slots and heads; pieces of large objects
        self._budget = Budget(EXTRA_SHARE_MAX, _SAVED_MAX)

    async def get(
        self, key: str, *, byte_range: tuple[int, int] | None = None, if_none_match: str | None = None
    ) -> Reply:
        latencies = self._whole if byte_range is None else self._ranged
        call = partial(self.inner.get, key, byte_range=byte_range, if_none_match=if_none_match)
        began = time.monotonic()
        reply = await self._hedged(call, latencies.long_secs)
        latencies.add(time.monotonic() - began)
        self._budget.earn()
        return reply

    async def _hedged(self, call: Callable[[], Coroutine[Any, Any, Reply]], patience_secs: float | None) -> Reply:
        if patience_secs is None:
            return await call()
        first = asyncio.create_task(call())
        tasks = {first}
        try:
            await asyncio.wait(tasks, timeout=patience_secs)
            if first.done():
                return first.result()
            if self._budget.take():
                tasks.add(asyncio.create_task(call()))
            return await _first_answer(tasks) or await first
        finally:
            late = [task for task in tasks if task.cancel()]
            if late:
                await asyncio.gather(*late, return_exceptions=True)


async def _first_answer(tasks: set[asyncio.Task[Reply]]) -> Reply | None:
    """The reply of the first task that does not fail; None if all do."""
    pending = tasks
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            if task.exception() is None:
                return task.result()
    return None


class _Latencies:
    """How long the last calls took."""

    def __init__(self) -> None:
        self._secs: deque[float] = deque(maxlen=_REMEMBERED)
        self._added = 0
        self.long_secs: float | None = None
        """What 95 % of them did not take; None while too few are known."""

    def add(self, secs: float) -> None:
        self._secs.append(secs)
        self._added += 1
        if self._added % _REMEMBERED_MIN == 0:
            self.long_secs = sorted(self._secs)[int(len(self._secs) * _QUANTILE)]
