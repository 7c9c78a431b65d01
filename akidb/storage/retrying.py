"""Trying again what the store failed to do, where that cannot change the outcome.

Reads, lists, deletes and unconditional puts may be repeated. Conditional puts are not: one that seemed to fail may have
landed, and its repetition would be answered 412 for our own write. The log decides those by reading the slot.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from akidb.errors import UnavailableError
from akidb.storage.object_store import Body, ObjectInfo, ObjectStore, Reply
from akidb.storage.wrapper import StoreWrapper

T = TypeVar("T")


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

    async def retry(self, call: Callable[[], Awaitable[T]]) -> T:
        """Awaits `call()` until it does not raise a retryable UnavailableError; raises the last one."""
        for pause in self.pauses():
            try:
                return await call()
            except UnavailableError as failed:
                if not failed.retryable:
                    raise
            await asyncio.sleep(pause)
        return await call()


class RetryingStore(StoreWrapper):
    """The store below, tried up to `backoff.max_attempts` times. Cancelling the call, as a deadline does, ends it at
    once."""

    def __init__(self, inner: ObjectStore, backoff: Backoff) -> None:
        super().__init__(inner)
        self._backoff = backoff

    async def get(
        self, key: str, *, byte_range: tuple[int, int] | None = None, if_none_match: str | None = None
    ) -> Reply:
        return await self._backoff.retry(
            lambda: self.inner.get(key, byte_range=byte_range, if_none_match=if_none_match)
        )

    async def head(self, key: str) -> Reply:
        return await self._backoff.retry(lambda: self.inner.head(key))

    async def put(self, key: str, body: Body) -> Reply:
        return await self._backoff.retry(lambda: self.inner.put(key, body))

    async def list_from(self, prefix: str, start_after: str | None = None) -> AsyncIterator[ObjectInfo]:
        """Goes on after the last key it gave, so a failure on a late page does not repeat the earlier ones."""
        pauses = self._backoff.pauses()
        while True:
            try:
                async for info in self.inner.list_from(prefix, start_after):
                    yield info
                    start_after = info.key
                    pauses = self._backoff.pauses()
                return
            except UnavailableError as failed:
                pause = next(pauses, None)
                if pause is None or not failed.retryable:
                    raise
            await asyncio.sleep(pause)

    async def delete_many(self, keys: Iterable[str]) -> None:
        listed = list(keys)
        await self._backoff.retry(lambda: self.inner.delete_many(listed))

    async def local_path(self, key: str) -> Path | None:
        return await self._backoff.retry(lambda: self.inner.local_path(key))
