"""The threads that all collections of a database share."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator

import pytest

from akidb.collection import Workers
from akidb.errors import UnavailableError


@pytest.fixture
def workers() -> Iterator[Workers]:
    workers = Workers.start()
    yield workers
    workers.close()


def fill(workers: Workers) -> Callable[[], None]:
    """Keeps every thread that answers at work; returns what lets them go."""
    go = threading.Event()
    for _ in range(workers.search._max_workers):
        workers.search.submit(go.wait)
    return go.set


async def test_work_that_comes_after_the_closing_is_refused(workers: Workers) -> None:
    workers.close()
    with pytest.raises(UnavailableError, match="closed meanwhile") as refused:
        await workers.run(workers.background, list)
    assert refused.value.code == "closing"


async def test_work_that_the_closing_overtakes_is_refused_and_nobody_cancelled(workers: Workers) -> None:
    release = fill(workers)
    waiting = asyncio.create_task(workers.run(workers.search, list))
    await asyncio.sleep(0)
    closing = asyncio.create_task(asyncio.to_thread(workers.close))
    with pytest.raises(UnavailableError, match="closed meanwhile"):
        await waiting
    release()
    await closing


async def test_who_is_cancelled_stays_so(workers: Workers) -> None:
    release = fill(workers)
    waiting = asyncio.create_task(workers.run(workers.search, list))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    release()


async def test_what_the_work_raises_is_told(workers: Workers) -> None:
    with pytest.raises(RuntimeError, match="pop from an empty"):
        await workers.run(workers.search, lambda: (_ for _ in ()).throw(RuntimeError("pop from an empty shelf")))
