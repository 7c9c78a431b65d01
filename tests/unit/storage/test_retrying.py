from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from akidb.errors import UnavailableError
from akidb.storage.breaking import CIRCUIT_OPEN
from akidb.storage.object_store import Reply
from akidb.storage.retrying import REPEATS_SAVED_MAX, REPEATS_SHARE_MAX, Backoff, RetryingStore
from tests.unit.storage.faulty import FaultyStore

_QUICK = Backoff(max_attempts=4, initial_backoff_ms=0.01, max_backoff_ms=0.02)


def test_pauses_are_jittered_between_nothing_and_a_growing_bound() -> None:
    backoff = Backoff(max_attempts=10, initial_backoff_ms=100, max_backoff_ms=5000, backoff_multiplier=2.0)
    bounds = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]
    rounds = [list(backoff.pauses()) for _ in range(300)]
    for number, bound in enumerate(bounds):
        drawn = [pauses[number] for pauses in rounds]
        assert min(drawn) < 0.1 * bound
        assert 0.9 * bound < max(drawn) <= bound
    assert {len(pauses) for pauses in rounds} == {9}
    assert list(Backoff(max_attempts=1).pauses()) == []


@pytest.mark.parametrize("operation", ["get", "head", "put", "delete", "list"])
async def test_what_may_be_repeated_is_repeated(operation: str) -> None:
    faulty = FaultyStore()
    store = RetryingStore(faulty, _QUICK)
    calls = {
        "get": lambda: store.get("a"),
        "head": lambda: store.head("a"),
        "put": lambda: store.put("a", b"x"),
        "delete": lambda: store.delete_many(iter(["a"])),
        "list": lambda: anext(store.list_from(""), None),
    }
    faulty.failures = 3
    await calls[operation]()
    assert faulty.calls == [operation] * 4
    faulty.failures = 4
    with pytest.raises(UnavailableError, match="on purpose"):
        await calls[operation]()
    assert faulty.calls == [operation] * 8


@pytest.mark.parametrize("operation", ["put_if_absent", "put_if_match"])
async def test_conditional_puts_are_not_repeated(operation: str) -> None:
    faulty = FaultyStore(failures=1)
    store = RetryingStore(faulty, _QUICK)
    call = store.put_if_absent("a", b"x") if operation == "put_if_absent" else store.put_if_match("a", b"x", "etag")
    with pytest.raises(UnavailableError):
        await call
    assert faulty.calls == [operation]


async def test_a_deleted_key_stays_deleted_when_the_delete_is_repeated() -> None:
    faulty = FaultyStore()
    store = RetryingStore(faulty, _QUICK)
    await store.put("a", b"x")
    faulty.failures = 1
    await store.delete_many(key for key in ["a"])
    assert not (await store.get("a")).ok


async def test_a_list_goes_on_where_it_failed() -> None:
    faulty = FaultyStore()
    store = RetryingStore(faulty, _QUICK)
    for number in range(9):
        await store.put(f"k{number}", b"x")
    listed: list[str] = []
    async for info in store.list_from("k", "k0"):
        listed.append(info.key)
        if len(listed) % 2 == 0:
            faulty.failures = 3
    assert listed == [f"k{number}" for number in range(1, 9)]


async def test_what_cannot_succeed_is_not_repeated() -> None:
    faulty = FaultyStore(failures=5, retryable=False)
    with pytest.raises(UnavailableError):
        await RetryingStore(faulty, _QUICK).get("a")
    assert faulty.calls == ["get"]


async def test_a_deadline_ends_the_pauses() -> None:
    faulty = FaultyStore(failures=10)
    store = RetryingStore(faulty, Backoff(max_attempts=10, initial_backoff_ms=1e9, max_backoff_ms=1e9))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await store.get("a")
    assert faulty.calls == ["get"]


async def test_what_a_breaker_refused_is_not_repeated() -> None:
    class _Refusing(FaultyStore):
        async def get(self, key: str, **options: Any) -> Reply:
            self.calls.append("get")
            raise UnavailableError("refused", code=CIRCUIT_OPEN)

    refusing = _Refusing()
    with pytest.raises(UnavailableError, match="refused"):
        await RetryingStore(refusing, _QUICK).get("a")
    assert refusing.calls == ["get"]


async def test_half_of_all_requests_failing_is_not_answered_by_twice_the_load() -> None:
    """Without a budget ten attempts would nearly double what a store in trouble has to bear."""
    faulty, rng, asked = FaultyStore(), random.Random(3), 2000
    store = RetryingStore(faulty, Backoff(max_attempts=10, initial_backoff_ms=0.001, max_backoff_ms=0.001))
    await faulty.inner.put("a", b"x")
    failed = 0
    for _ in range(asked):
        faulty.fails = lambda: rng.random() < 0.5
        try:
            await store.get("a")
        except UnavailableError:
            failed += 1
    repeats = faulty.calls.count("get") - asked
    assert 0 < failed < asked
    assert repeats <= REPEATS_SHARE_MAX * (asked - failed) + REPEATS_SAVED_MAX
    assert repeats >= REPEATS_SHARE_MAX * (asked - failed)
