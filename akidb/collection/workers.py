"""The threads that work for every collection of a database."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from akidb.errors import UnavailableError
from akidb.storage.scratch import sweep

T = TypeVar("T")

BUILDS_MAX = 2
VERIFY_NICENESS = 19

INLINE_ROWS = 512
"""Slots with more rows than this are applied in a thread: it takes longer than the event loop may stand still."""


@dataclass(frozen=True)
class Workers:
    """The threads that work for every collection of a database: those that answer, those that fold and open, and the
    one that compares files with their checksums, of one segment at a time, giving way to all others.

    Graphs have threads of their own, `builds` at a time: minutes of building must not keep folds waiting. Segments with
    graphs are written by those that fold, which are one more, for the fold that writers wait for.
    """

    search: ThreadPoolExecutor
    background: ThreadPoolExecutor
    verify: ThreadPoolExecutor
    builds: asyncio.Semaphore
    verifying: asyncio.Lock

    @classmethod
    def start(cls) -> Workers:
        cores = os.cpu_count() or 1
        search = ThreadPoolExecutor(cores + 2, "akidb-search")
        background = ThreadPoolExecutor(BUILDS_MAX + 1, "akidb-background")
        background.submit(sweep)
        verify = ThreadPoolExecutor(1, "akidb-verify", initializer=partial(give_way, VERIFY_NICENESS))
        return cls(search, background, verify, asyncio.Semaphore(BUILDS_MAX), asyncio.Lock())

    async def run(self, pool: ThreadPoolExecutor, call: Callable[[], T]) -> T:
        """The result of `call`, made in `pool`. Raises UnavailableError `closing` if `close` came first."""
        closing = UnavailableError("the database was closed meanwhile", code="closing")
        try:
            future = pool.submit(call)
        except RuntimeError as shut:
            raise closing from shut
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError as cancelled:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise closing from cancelled  # by `close`: the caller itself was not cancelled

    def close(self) -> None:
        self.search.shutdown(wait=True, cancel_futures=True)
        self.background.shutdown(wait=True, cancel_futures=True)
        self.verify.shutdown(wait=True, cancel_futures=True)


def give_way(niceness: int) -> None:
    """Lets the other threads go before the calling one, where the system has priorities of threads."""
    if sys.platform == "linux":  # elsewhere priorities are of processes
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), niceness)


async def to_the_end(work: Awaitable[T]) -> T:
    """Awaits work in a thread, which nothing stops: who is cancelled meanwhile keeps what it holds until it is done."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        task.exception()
        raise cancelled
    return task.result()


async def aside(call: Callable[[], T], *, rows: int) -> T:
    """Makes a call that looks at so many rows: at once, or in a thread, to the end."""
    if rows <= INLINE_ROWS:
        return call()
    return await to_the_end(asyncio.to_thread(call))
