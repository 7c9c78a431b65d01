"""An event loop on a clock of its own: waiting costs nothing, and the same seed gives the same order of everything.

Time passes only when nobody has anything to do; then it jumps to the next timer. What the product takes from the
machine (time, randomness, threads) comes from here while a simulation runs.
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future as PoolFuture
from contextlib import ExitStack, contextmanager
from contextvars import Context, ContextVar, copy_context
from typing import Any
from unittest.mock import patch

from akidb.collection import Workers, follower, maintenance, scrubbing
from akidb.database import database, garbage
from akidb.manifest import store as heads
from akidb.wal import epochs

EPOCH = 1_800_000_000.0
"""The store's clock when a simulation begins."""

LONGEST_SECS = 3600.0

WORK_SECS = 0.005
"""Longest time that work in a thread takes."""

FRESH_SECS, SETTLED_SECS = 0.5, 6.0
"""In place of a minute and an hour: further apart than what a Date is wrong by."""

ABANDONED_SECS = 10
"""In place of an hour: many makers of clones take longer."""

HOST: ContextVar[Host | None] = ContextVar("host", default=None)


class Host:
    """Something that runs tasks and can stand still. What is due meanwhile waits; of a dead one it waits for ever."""

    def __init__(self, loop: SimLoop, name: str, *, offset: float = 0.0, rate: float = 1.0) -> None:
        self.loop = loop
        self.name = name
        self.halted = False
        self.context = copy_context()
        self.context.run(HOST.set, self)
        self._offset, self._rate = offset, rate
        self._due: list[asyncio.Handle] = []

    def clock(self) -> float:
        """time.monotonic() as this host has it: from another beginning, and a little too fast or too slow."""
        return self._offset + self._rate * self.loop.time()

    def postpone(self, handle: asyncio.Handle) -> None:
        self._due.append(handle)

    def resume(self) -> None:
        self.halted = False
        due, self._due = self._due, []
        self.loop.ready(due)


class _Jump:
    """Takes the place of the selector: nothing comes from outside, so waiting is a jump."""

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise AssertionError("nobody has anything to do and nothing is due: the simulation hangs")
        self._loop.now += max(0.0, timeout)
        if self._loop.now > self._loop.until:
            raise AssertionError(f"{self._loop.until:.0f} s went by, and it is not over")
        return []

    def close(self) -> None: ...


class SimLoop(asyncio.BaseEventLoop):
    """The loop. `rng` decides how long threads take."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self.now = 0.0
        self.until = LONGEST_SECS
        self._rng = rng
        self._selector = _Jump(self)

    def time(self) -> float:
        return self.now

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> asyncio.Handle:
        host = HOST.get() if context is None else context.get(HOST)
        if host is not None and host.halted:
            handle = asyncio.Handle(callback, args, self, context)
            host.postpone(handle)
            return handle
        return super().call_soon(callback, *args, context=context)

    def ready(self, handles: list[asyncio.Handle]) -> None:
        self._ready.extend(handles)

    def run_in_executor(self, executor: object, call: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """The work is done now, and its result comes a little later."""
        future = self.create_future()
        try:
            result, failed = call(*args), None
        except BaseException as error:
            result, failed = None, error

        def settle() -> None:
            if future.cancelled():
                return
            if failed is None:
                future.set_result(result)
            else:
                future.set_exception(failed)

        self.call_later(self._rng.uniform(0, WORK_SECS), settle)
        return future

    def _process_events(self, events: object) -> None: ...

    def _write_to_self(self) -> None: ...


class _Pool:
    """A pool of threads without threads."""

    def submit(self, call: Callable[..., Any], *args: Any) -> PoolFuture[Any]:
        future: PoolFuture[Any] = PoolFuture()
        try:
            future.set_result(call(*args))
        except BaseException as error:
            future.set_exception(error)
        return future

    def shutdown(self, **how: object) -> None: ...


def _workers() -> Workers:
    return Workers(_Pool(), _Pool(), _Pool(), asyncio.Semaphore(2), asyncio.Lock())  # type: ignore[arg-type]


@contextmanager
def simulated(seed: int) -> Iterator[SimLoop]:
    """A loop, with the product's time, randomness and threads coming from it and the seed."""
    rng = random.Random(seed)
    loop = SimLoop(random.Random(rng.getrandbits(64)))
    bytes_of = random.Random(rng.getrandbits(64)).randbytes
    state = random.getstate()

    def monotonic() -> float:
        host = HOST.get()
        return loop.time() if host is None else host.clock()

    async def in_thread(call: Callable[[], Any]) -> Any:
        return await loop.run_in_executor(None, call)

    with ExitStack() as stack:
        for target, name, value in (
            (time, "monotonic", monotonic),
            (os, "urandom", bytes_of),
            (Workers, "start", staticmethod(_workers)),
            (maintenance, "_in_thread_of_its_own", in_thread),
            (maintenance, "Context", copy_context),  # background work belongs to its node
            (follower, "Context", copy_context),
            (scrubbing, "Context", copy_context),
            (database, "Context", copy_context),
            (heads, "FRESH_SECS", FRESH_SECS),
            (epochs, "SETTLED_SECS", SETTLED_SECS),
            (garbage, "ABANDONED_SECS", ABANDONED_SECS),
        ):
            stack.enter_context(patch.object(target, name, value))
        random.seed(rng.getrandbits(64))
        loop.set_exception_handler(lambda _, context: None)
        threads = set(threading.enumerate())
        try:
            yield loop
        finally:
            if set(threading.enumerate()) - threads:  # no AssertionError: those tell of bugs of the product
                raise RuntimeError("a thread would make the order of things a matter of chance")
            random.setstate(state)
            loop.close()
