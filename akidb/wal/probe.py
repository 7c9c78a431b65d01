"""Strong reads share their looks at the end of the log: one under way, one queued behind it, however many wait."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from akidb.errors import DeadlineExceededError, UnavailableError
from akidb.types import Lsn


class Probe:
    """Shares calls of `follow` among those who need one that begins after they came."""

    def __init__(self, follow: Callable[[], Awaitable[Lsn]]) -> None:
        self._follow = follow
        self._running: asyncio.Task[Lsn] | None = None
        self._queued: asyncio.Task[Lsn] | None = None
        self._closed = False

    async def fresh(self, deadline: float) -> Lsn:
        """The answer of a `follow` that begins during this call; one under way may have missed what came since.

        Raises:
            DeadlineExceededError: `deadline` (time.monotonic() seconds) passed; the look goes on for the others.
            UnavailableError: `closing`: closed meanwhile, or before.
        """
        if self._closed:
            raise UnavailableError("the log is closed", code="closing")
        if self._queued is None:
            self._queued = asyncio.create_task(self._look(self._running))
            self._queued.add_done_callback(_heard)
        task = self._queued
        await asyncio.wait({task}, timeout=max(0.0, deadline - time.monotonic()))
        if not task.done():
            raise DeadlineExceededError("the store did not say in time where the log ends")
        if task.cancelled():  # by close; cancelling the reader is not ours to do
            raise UnavailableError("the log was closed meanwhile", code="closing")
        return task.result()

    async def _look(self, running: asyncio.Task[Lsn] | None) -> Lsn:
        if running is not None:
            await asyncio.wait({running})
        self._running, self._queued = self._queued, None  # who comes from here on needs the next one
        try:
            return await self._follow()
        finally:
            self._running = None

    async def close(self) -> None:
        """Ends what is under way; who still waits, and who comes later, gets UnavailableError."""
        self._closed = True
        tasks = [task for task in (self._running, self._queued) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


def _heard(task: asyncio.Task[Lsn]) -> None:
    """Takes note of a failure that nobody waited for; the next look will meet it again."""
    if not task.cancelled():
        task.exception()
