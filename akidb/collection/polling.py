"""Follows a shard's log while weaker reads come, so that none of them has to ask the store."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from contextvars import Context

from akidb.errors import AkiDBError

ACTIVE_SECS = 60.0
"""So long after the last such read the log is still followed."""


class Polling:
    """Calls `look` every `interval_secs` from a read on until a while after the last one. What fails is tried again at
    the next turn: reads go on with what there is, as far as their bound allows."""

    def __init__(self, look: Callable[[], Awaitable[None]], interval_secs: float) -> None:
        self._look = look
        self._interval_secs = interval_secs
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._last_read = 0.0
        self._closed = False

    def note_read(self) -> None:
        """A read that may see an older state has come. Any thread may say so."""
        self._last_read = time.monotonic()
        if self._task is None:
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                self._loop.call_soon_threadsafe(self._begin)

    def _begin(self) -> None:
        if self._task is None and not self._closed:
            self._task = self._loop.create_task(self._run(), context=Context())  # not that of the read

    async def _run(self) -> None:
        while time.monotonic() - self._last_read < ACTIVE_SECS:
            await asyncio.sleep(self._interval_secs)
            with contextlib.suppress(AkiDBError):
                await self._look()
        self._task = None

    async def close(self) -> None:
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
