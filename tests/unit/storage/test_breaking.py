from __future__ import annotations

import asyncio

import pytest
from prometheus_client import CollectorRegistry

from akidb.errors import ConfigurationError, UnavailableError
from akidb.storage.breaking import CIRCUIT_OPEN, Breaker, BreakingStore, State, writes_refused
from akidb.storage.memory import MemoryStore
from akidb.storage.object_store import Body, Reply
from akidb.storage.retrying import Backoff, RetryingStore
from akidb.telemetry.metrics import Metrics
from tests.unit.storage.faulty import FaultyStore


class _Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> _Clock:
    return _Clock()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry())


@pytest.fixture
def breaker(clock: _Clock, metrics: Metrics) -> Breaker:
    return Breaker("s3-read", 5, 30.0, metrics, clock)


def _fail(breaker: Breaker) -> None:
    with pytest.raises(UnavailableError, match="away"), breaker.attempt():
        raise UnavailableError("away")


def _refused(breaker: Breaker) -> UnavailableError:
    with pytest.raises(UnavailableError) as refused, breaker.attempt():
        raise AssertionError("the call was made")
    assert refused.value.code == CIRCUIT_OPEN
    return refused.value


def _pass(breaker: Breaker) -> None:
    with breaker.attempt():
        pass


def test_failures_in_a_row_open_it_and_others_do_not(breaker: Breaker) -> None:
    for _ in range(3):
        for _ in range(4):
            _fail(breaker)
        _pass(breaker)
    for _ in range(4):
        _fail(breaker)
    with pytest.raises(ConfigurationError), breaker.attempt():
        raise ConfigurationError("an answer, if not a pleasant one")
    for _ in range(5):
        assert breaker.state is State.CLOSED
        _fail(breaker)
    assert breaker.state is State.OPEN
    assert "failed 5 times in a row" in str(_refused(breaker))


def test_it_says_when_to_come_back_and_then_lets_one_try(breaker: Breaker, clock: _Clock) -> None:
    for _ in range(5):
        _fail(breaker)
    assert _refused(breaker).retry_after_secs == 30.0
    clock.now += 29.5
    assert _refused(breaker).retry_after_secs == 1.0
    clock.now += 0.5
    trying = breaker.attempt()
    trying.__enter__()
    assert breaker.state is State.HALF_OPEN
    assert _refused(breaker).retry_after_secs == 1.0
    trying.__exit__(UnavailableError, UnavailableError("away"), None)
    assert _refused(breaker).retry_after_secs == 30.0
    clock.now += 30.0
    with breaker.attempt():
        _refused(breaker)
    assert breaker.state is State.CLOSED
    for _ in range(4):
        _fail(breaker)
    _pass(breaker)


def test_one_that_is_given_up_while_it_tries_leaves_the_try_to_the_next(breaker: Breaker, clock: _Clock) -> None:
    for _ in range(5):
        _fail(breaker)
    clock.now += 30.0
    with pytest.raises(asyncio.CancelledError), breaker.attempt():
        raise asyncio.CancelledError
    _pass(breaker)
    assert breaker.state is State.CLOSED


def test_what_began_before_it_opened_decides_nothing(breaker: Breaker, clock: _Clock) -> None:
    slow, failing = breaker.attempt(), breaker.attempt()
    slow.__enter__()
    failing.__enter__()
    for _ in range(5):
        _fail(breaker)
    slow.__exit__(None, None, None)
    assert breaker.state is State.OPEN
    clock.now += 20.0
    failing.__exit__(UnavailableError, UnavailableError("away"), None)
    assert breaker.state is State.OPEN
    assert _refused(breaker).retry_after_secs == 10.0


def test_the_metric_tells_the_state(breaker: Breaker, clock: _Clock, metrics: Metrics) -> None:
    def shown() -> float | None:
        return metrics.registry.get_sample_value("akidb_circuit_breaker_state", {"backend": "s3-read"})

    assert shown() == 0
    for _ in range(5):
        _fail(breaker)
    assert shown() == 1
    clock.now += 30.0
    with breaker.attempt():
        assert shown() == 2
    assert shown() == 0


_CALLS = {
    "get": lambda store: store.get("a"),
    "head": lambda store: store.head("a"),
    "list": lambda store: anext(store.list_from(""), None),
    "put": lambda store: store.put("a", b"x"),
    "put_if_absent": lambda store: store.put_if_absent("a", b"x"),
    "put_if_match": lambda store: store.put_if_match("a", b"x", "e"),
    "delete": lambda store: store.delete_many(["a"]),
}
_READS = {"get", "head", "list"}


@pytest.mark.parametrize("failing", _CALLS)
async def test_reads_and_writes_have_one_breaker_each(failing: str, metrics: Metrics) -> None:
    faulty = FaultyStore(failures=2)
    store = BreakingStore(faulty, 2, 30.0, metrics)
    for _ in range(2):
        with pytest.raises(UnavailableError, match="on purpose"):
            await _CALLS[failing](store)
    same = _READS if failing in _READS else set(_CALLS) - _READS
    assert writes_refused(RetryingStore(store, Backoff())) == (failing not in _READS)
    for name, call in _CALLS.items():
        if name not in same:
            await call(store)
            continue
        with pytest.raises(UnavailableError) as refused:
            await call(store)
        assert refused.value.code == CIRCUIT_OPEN


@pytest.mark.parametrize("back", ["get", "put"])
async def test_where_one_finds_the_store_back_the_other_tries_at_once(
    back: str, metrics: Metrics, clock: _Clock
) -> None:
    """Its own last try was made a moment before the store came back."""
    faulty = FaultyStore(failures=5)
    store = BreakingStore(faulty, 2, 30.0, metrics)
    store.reads._clock = store.writes._clock = clock
    other = {"get": "put", "put": "get"}[back]
    for name in (other, other, back, back):
        with pytest.raises(UnavailableError, match="on purpose"):
            await _CALLS[name](store)
    clock.now += 30.0
    with pytest.raises(UnavailableError, match="on purpose"):
        await _CALLS[other](store)
    with pytest.raises(UnavailableError, match="left alone"):
        await _CALLS[other](store)
    await _CALLS[back](store)
    await _CALLS[other](store)
    assert store.reads.state is store.writes.state is State.CLOSED


async def test_a_call_that_was_never_kept_away_lets_no_other_try(metrics: Metrics) -> None:
    faulty = FaultyStore(failures=2)
    store = BreakingStore(faulty, 2, 30.0, metrics)
    for _ in range(2):
        with pytest.raises(UnavailableError, match="on purpose"):
            await store.put("a", b"x")
    await store.get("a")
    with pytest.raises(UnavailableError, match="left alone"):
        await store.put("a", b"x")


async def test_a_denied_write_opens_nothing(metrics: Metrics) -> None:
    class _Full(MemoryStore):
        async def put(self, key: str, body: Body) -> Reply:
            raise ConfigurationError("denied")

    store = BreakingStore(_Full(), 1, 30.0, metrics)
    for _ in range(3):
        with pytest.raises(ConfigurationError):
            await store.put("a", b"x")
    assert not writes_refused(store)
    assert not writes_refused(MemoryStore())
