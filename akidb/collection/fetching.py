"""When the segments of a shard that is answered from the bucket are brought to this machine."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Awaitable, Callable, Iterator
from contextvars import Context

from akidb.errors import AkiDBError, CorruptionError, DeadlineExceededError, UnavailableError

log = logging.getLogger(__name__)

PATIENCE_SECS = 1.0
"""How long fetching waits for a first search to come."""

ANSWER_SECS_MAX = 10.0
"""How long that search then has network and processors for itself: with whole segments fetched beside it, it takes
several times as long."""

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
        self._asked, self._answered = asyncio.Event(), asyncio.Event()

    def begin_soon(self) -> None:
        """Fetches in the background, until that is done."""
        if self._background is not None:
            return
        self._background = asyncio.create_task(self._begin(), context=Context())  # not that of who opened the shard

    @contextlib.contextmanager
    def left_to_it(self) -> Iterator[None]:
        """To be held by who answers without the segments: fetching in the background waits for the first."""
        self._asked.set()
        try:
            yield
        finally:
            self._answered.set()

    async def _begin(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_SECS):
                await self._asked.wait()
            async with asyncio.timeout(ANSWER_SECS_MAX):
                await self._answered.wait()
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
        fetching = self._fetching  # when this goes on, another who waited may have begun the next
        left = None if deadline == math.inf else max(0.0, deadline - time.monotonic())
        done, _ = await asyncio.wait({fetching}, timeout=left)
        if not done:
            message = f"the segments of {self._what} are being fetched and were not here in time"
            raise DeadlineExceededError(message, code="warming")
        if fetching.cancelled():
            raise UnavailableError("the connection is closed", code="closing")
        failed = fetching.exception()
        self.damage = failed if isinstance(failed, CorruptionError) else None
        fetching.result()

    async def close(self) -> None:
        self._closed = True
        tasks = [task for task in (self._background, self._fetching) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
