"""Shared looks at the end of the log."""

from __future__ import annotations

import asyncio

import pytest

from akidb.errors import DeadlineExceededError, UnavailableError
from akidb.wal.probe import Probe
from tests.unit.wal.nodes import soon


class Follower:
    """Counts calls; each waits for its own turn to be let go."""

    def __init__(self) -> None:
        self.calls: list[asyncio.Event] = []
        self.called = asyncio.Condition()
        self.failure: Exception | None = None

    async def __call__(self) -> int:
        number, gate = len(self.calls) + 1, asyncio.Event()
        self.calls.append(gate)
        async with self.called:
            self.called.notify_all()
        await gate.wait()
        if self.failure is not None:
            raise self.failure
        return number

    async def begun(self, count: int) -> None:
        async with self.called:
            await self.called.wait_for(lambda: len(self.calls) == count)


async def test_callers_that_come_before_it_begins_share_one() -> None:
    follower = Follower()
    probe = Probe(follower)
    readers = [asyncio.create_task(probe.fresh(soon())) for _ in range(50)]
    await follower.begun(1)
    follower.calls[0].set()
    assert await asyncio.gather(*readers) == [1] * 50


async def test_who_comes_while_one_is_under_way_gets_the_next_and_shares_it() -> None:
    follower = Follower()
    probe = Probe(follower)
    early = asyncio.create_task(probe.fresh(soon()))
    await follower.begun(1)
    late = [asyncio.create_task(probe.fresh(soon())) for _ in range(50)]
    await asyncio.sleep(0)
    follower.calls[0].set()
    assert await early == 1
    await follower.begun(2)
    follower.calls[1].set()
    assert await asyncio.gather(*late) == [2] * 50
    again = asyncio.create_task(probe.fresh(soon()))
    await follower.begun(3)
    follower.calls[2].set()
    assert await again == 3


async def test_a_callers_deadline_is_its_own() -> None:
    follower = Follower()
    probe = Probe(follower)
    patient = asyncio.create_task(probe.fresh(soon()))
    with pytest.raises(DeadlineExceededError):
        await probe.fresh(soon(0.0))
    await follower.begun(1)
    follower.calls[0].set()
    assert await patient == 1


async def test_a_cancelled_caller_does_not_stop_the_others() -> None:
    follower = Follower()
    probe = Probe(follower)
    one, other = (asyncio.create_task(probe.fresh(soon())) for _ in range(2))
    await follower.begun(1)
    one.cancel()
    await asyncio.wait({one})
    follower.calls[0].set()
    assert await other == 1


async def test_a_failure_reaches_all_who_wait_and_not_the_next() -> None:
    follower = Follower()
    probe = Probe(follower)
    readers = [asyncio.create_task(probe.fresh(soon())) for _ in range(3)]
    await follower.begun(1)
    follower.failure = UnavailableError("away")
    follower.calls[0].set()
    failures = await asyncio.gather(*readers, return_exceptions=True)
    assert all(isinstance(failure, UnavailableError) for failure in failures)
    follower.failure = None
    reader = asyncio.create_task(probe.fresh(soon()))
    await follower.begun(2)
    follower.calls[1].set()
    assert await reader == 2


async def test_close_ends_what_is_under_way() -> None:
    follower = Follower()
    probe = Probe(follower)
    running = asyncio.create_task(probe.fresh(soon()))
    await follower.begun(1)
    queued = asyncio.create_task(probe.fresh(soon()))
    await asyncio.sleep(0)
    await probe.close()
    answers = await asyncio.gather(running, queued, return_exceptions=True)
    assert all(isinstance(answer, UnavailableError) for answer in answers)
    with pytest.raises(UnavailableError, match="closed"):
        await probe.fresh(soon())
