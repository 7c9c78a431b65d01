"""A slow get here waits for its gate, which the test opens."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from akidb.errors import UnavailableError
from akidb.storage.hedging import EXTRA_SHARE_MAX, HedgingStore
from akidb.storage.memory import MemoryStore
from akidb.storage.object_store import Reply
from akidb.storage.wrapper import StoreWrapper


class _Remote(StoreWrapper):
    """A memory store whose gets wait for `gates`, one a get, None for those that do not wait."""

    def __init__(self) -> None:
        super().__init__(MemoryStore())
        self.gates: list[asyncio.Event | None] = []
        self.at_gate = asyncio.Semaphore(0)
        self.failing = False
        self.gets = self.cancelled = 0

    async def get(self, key: str, **options: Any) -> Reply:
        self.gets += 1
        gate = self.gates.pop(0) if self.gates else None
        try:
            if gate is not None:
                self.at_gate.release()
                await gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.failing:
            raise UnavailableError("away")
        return await super().get(key, **options)


@pytest.fixture
async def remote() -> _Remote:
    made = _Remote()
    await made.put("a", b"body")
    return made


async def _reached(remote: _Remote) -> None:
    async with asyncio.timeout(20):
        await remote.at_gate.acquire()


async def _warm(store: HedgingStore, gets: int = 640) -> None:
    for _ in range(gets):
        await store.get("a")
    for _ in range(100):  # some of those gets may have been hedged
        store._budget.earn()


async def test_a_slow_get_is_sent_again_and_the_first_answer_counts(remote: _Remote) -> None:
    store = HedgingStore(remote)
    await _warm(store)
    gets = remote.gets
    remote.gates = [asyncio.Event()]
    assert (await store.get("a")).body == b"body"
    assert remote.gets == gets + 2
    assert remote.cancelled == 1


async def test_the_first_may_win_after_all(remote: _Remote) -> None:
    store = HedgingStore(remote)
    await _warm(store)
    first, second = asyncio.Event(), asyncio.Event()
    remote.gates = [first, second]
    slow = asyncio.create_task(store.get("a"))
    for _ in range(2):
        await _reached(remote)
    first.set()
    assert (await slow).body == b"body"
    assert remote.cancelled == 1


async def test_a_hedge_that_fails_is_no_answer(remote: _Remote) -> None:
    store = HedgingStore(remote)
    await _warm(store)
    first, second = asyncio.Event(), asyncio.Event()
    remote.gates, remote.failing = [first, second], True
    slow = asyncio.create_task(store.get("a"))
    for _ in range(2):
        await _reached(remote)
    second.set()
    await asyncio.wait({slow}, timeout=0.01)
    assert not slow.done()
    remote.failing = False
    first.set()
    assert (await slow).body == b"body"


async def test_both_failing_is_the_failure_of_the_first(remote: _Remote) -> None:
    store = HedgingStore(remote)
    await _warm(store)
    gates = [asyncio.Event(), asyncio.Event()]
    remote.gates, remote.failing = list(gates), True
    slow = asyncio.create_task(store.get("a"))
    for _ in gates:
        await _reached(remote)
    for gate in gates:
        gate.set()
    with pytest.raises(UnavailableError, match="away"):
        await slow


async def test_not_more_than_the_share_is_sent_again(remote: _Remote) -> None:
    """Every get is slow from the store's point of view; gates open once the budget has had its chance."""
    store = HedgingStore(remote)
    await _warm(store)
    asked, gets = 400, remote.gets
    for _ in range(asked):
        gate = asyncio.Event()
        remote.gates = [gate]
        asyncio.get_running_loop().call_later(0.002, gate.set)
        await store.get("a")
    extra = remote.gets - gets - asked
    assert 1 <= extra <= asked * EXTRA_SHARE_MAX + 5 + 1


async def test_nothing_is_hedged_before_it_is_known_what_slow_is(remote: _Remote) -> None:
    store = HedgingStore(remote)
    await _warm(store, 40)
    gate = asyncio.Event()
    remote.gates = [gate]
    slow = asyncio.create_task(store.get("a"))
    await _reached(remote)
    await asyncio.wait({slow}, timeout=0.01)
    gate.set()
    await slow
    assert remote.gets == 41


async def test_a_caller_that_gives_up_ends_both(remote: _Remote) -> None:
    store = HedgingStore(remote)
    await _warm(store)
    remote.gates = [asyncio.Event(), asyncio.Event()]
    slow = asyncio.create_task(store.get("a"))
    for _ in range(2):
        await _reached(remote)
    slow.cancel()
    await asyncio.gather(slow, return_exceptions=True)
    assert slow.cancelled()
    assert remote.cancelled == 2
