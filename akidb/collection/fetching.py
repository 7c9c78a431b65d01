"""When the segments of a shard that is answered from the bucket are brought to this machine."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Awaitable, Callable
from contextvars import Context

from akidb.errors import AkiDBError, CorruptionError, DeadlineExceededError, UnavailableError

log = logging.getLogger(__name__)

PATIENCE_SECS = 1.0
"""How long fetching waits for a first search, which shall have the network for itself."""

RETRY_SECS_MIN, RETRY_SECS_MAX = 1.0, 60.0


class Fetching:
    """`fetch` brings them; it is under way at most once, whoever waits."""

    def __init__(self, fetch: Callable[[], Awaitable[None]], what: str) -> None:
        self._fetch = fetch
        self._what = what
        self._background: asyncio.Task[None] | None = None
        self._fetching: asyncio.Future[None] | None = None
        self._closed = False
        self.damage: CorruptionError | None = None
        """Why they could not be fetched, if it is that."""
        self.answered = asyncio.Event()
        """To be set by the first search."""

    def begin_soon(self) -> None:
        """Fetches in the background, until that is done."""
        if self._background is not None:
            return
        self._background = asyncio.create_task(self._begin(), context=Context())  # not that of who opened the shard

    async def _begin(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_SECS):
                await self.answered.wait()
        pause = RETRY_SECS_MIN
        while True:
            try:
                return await self.wait(math.inf)
            except AkiDBError as failed:
                if self._closed:
                    return None
                log.warning("fetching the segments of %s failed, will retry: %s", self._what, failed)
            await asyncio.sleep(pause)
            pause = min(2 * pause, RETRY_SECS_MAX)

    async def wait(self, deadline: float) -> None:
        """Returns when they are here.

        Raises:
            DeadlineExceededError: `warming`: not by `deadline` (time.monotonic() seconds); fetching goes on.
            CorruptionError, UnavailableError: why they cannot be fetched; the next call tries again.
        """
        if self._closed:
            raise UnavailableError("the connection is closed", code="closing")
        if self._fetching is None or self._fetching.done():
            self._fetching = asyncio.ensure_future(self._fetch())
        left = None if deadline == math.inf else max(0.0, deadline - time.monotonic())
        done, _ = await asyncio.wait({self._fetching}, timeout=left)
        if not done:
            message = f"the segments of {self._what} are being fetched and were not here in time"
            raise DeadlineExceededError(message, code="warming")
        if self._fetching.cancelled():
            raise UnavailableError("the connection is closed", code="closing")
        failed = self._fetching.exception()
        self.damage = failed if isinstance(failed, CorruptionError) else None
        self._fetching.result()

    async def close(self) -> None:
        self._closed = True
        tasks = [task for task in (self._background, self._fetching) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
