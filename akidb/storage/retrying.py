"""Trying again what the store failed to do, where that cannot change the outcome.

Reads, lists, deletes and unconditional puts may be repeated. Conditional puts are not: one that seemed to fail may have
landed, and its repetition would be answered 412 for our own write. The log decides those by reading the slot.

A call that a circuit breaker refused is not repeated either: it was refused so that its caller hears of it at once.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from akidb.errors import UnavailableError
from akidb.storage.breaking import CIRCUIT_OPEN
from akidb.storage.budget import Budget
from akidb.storage.object_store import Body, ObjectInfo, ObjectStore, Reply
from akidb.storage.wrapper import StoreWrapper

T = TypeVar("T")

REPEATS_SHARE_MAX = 0.2
REPEATS_SAVED_MAX = 100.0


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential backoff with full jitter: the n-th pause is uniform in [0, min(max, initial * multiplier^n)]."""

    max_attempts: int = 10
    initial_backoff_ms: float = 100
    max_backoff_ms: float = 5000
    backoff_multiplier: float = 2.0

    def pauses(self) -> Iterator[float]:
        """Seconds to wait after each failed attempt but the last."""
        bound = float(self.initial_backoff_ms)
        for _ in range(self.max_attempts - 1):
            bound = min(bound, self.max_backoff_ms)
            yield random.uniform(0, bound) / 1000  # noqa: S311 (spreads load, keeps no secret)
            bound *= self.backoff_multiplier


class RetryingStore(StoreWrapper):
    """The store below, tried up to `backoff.max_attempts` times, as long as the budget has repeats. Cancelling the
    call, as a deadline does, ends it at once."""

    def __init__(self, inner: ObjectStore, backoff: Backoff, budget: Budget | None = None) -> None:
        super().__init__(inner)
        self._backoff = backoff
        self._budget = budget or Budget(REPEATS_SHARE_MAX, REPEATS_SAVED_MAX, saved=REPEATS_SAVED_MAX)

    async def _repeated(self, call: Callable[[], Awaitable[T]]) -> T:
        """Awaits `call()` until it does not raise an UnavailableError that is worth a repeat; raises the last one."""
        pauses = self._backoff.pauses()
        while True:
            try:
                answer = await call()
            except UnavailableError as failed:
                pause = self._pause(failed, pauses)
                if pause is None:
                    raise
            else:
                self._budget.earn()
                return answer
            await asyncio.sleep(pause)

    def _pause(self, failed: UnavailableError, pauses: Iterator[float]) -> float | None:
        """Seconds to wait before the repeat; None if there is to be none."""
        pause = next(pauses, None)
        worth = failed.retryable and failed.code != CIRCUIT_OPEN
        return pause if worth and pause is not None and self._budget.take() else None

    async def get(
        self, key: str, *, byte_range: tuple[int, int] | None = None, if_none_match: str | None = None
    ) -> Reply:
        return await self._repeated(lambda: self.inner.get(key, byte_range=byte_range, if_none_match=if_none_match))

    async def head(self, key: str) -> Reply:
        return await self._repeated(lambda: self.inner.head(key))

    async def put(self, key: str, body: Body) -> Reply:
        return await self._repeated(lambda: self.inner.put(key, body))

    async def list_from(self, prefix: str, start_after: str | None = None) -> AsyncIterator[ObjectInfo]:
        """Goes on after the last key it gave, so a failure on a late page does not repeat the earlier ones."""
        pauses = self._backoff.pauses()
        while True:
            try:
                async for info in self.inner.list_from(prefix, start_after):
                    yield info
                    start_after = info.key
                    pauses = self._backoff.pauses()
                self._budget.earn()
                return
            except UnavailableError as failed:
                pause = self._pause(failed, pauses)
                if pause is None:
                    raise
            await asyncio.sleep(pause)

    async def delete_many(self, keys: Iterable[str]) -> None:
        listed = list(keys)
        await self._repeated(lambda: self.inner.delete_many(listed))

    async def local_path(self, key: str) -> Path | None:
        return await self._repeated(lambda: self.inner.local_path(key))
