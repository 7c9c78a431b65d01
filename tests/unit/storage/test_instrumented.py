from __future__ import annotations

import asyncio

import pytest
from prometheus_client import CollectorRegistry

from akidb.errors import InvalidInputError, UnavailableError
from akidb.storage.instrumented import InstrumentedStore, last_outcome
from akidb.storage.memory import MemoryStore
from akidb.storage.retrying import Backoff, RetryingStore
from akidb.telemetry.metrics import Metrics
from tests.unit.storage.faulty import FaultyStore


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry())


def _count(metrics: Metrics, operation: str, status: str) -> float:
    labels = {"operation": operation, "status": status}
    return metrics.registry.get_sample_value("akidb_storage_operations_total", labels) or 0


async def test_every_operation_is_counted_with_its_answer(metrics: Metrics) -> None:
    store = InstrumentedStore(MemoryStore(), metrics)
    await store.put("a", b"1")
    etag = (await store.put_if_absent("b", b"1")).etag
    assert etag is not None
    await store.put_if_absent("b", b"2")
    await store.put_if_match("b", b"2", etag)
    await store.get("a")
    await store.get("c")
    await store.get("a", if_none_match=(await store.head("a")).etag)
    assert [info.key async for info in store.list_from("")] == ["a", "b"]
    await store.delete_many(["a"])
    expected = {
        ("put", "ok"): 3,
        ("put", "condition_failed"): 1,
        ("get", "ok"): 1,
        ("get", "not_found"): 1,
        ("get", "not_modified"): 1,
        ("head", "ok"): 1,
        ("list", "ok"): 1,
        ("delete", "ok"): 1,
    }
    assert {key: _count(metrics, *key) for key in expected} == expected
    latency = metrics.registry.get_sample_value("akidb_storage_latency_seconds_count", {"operation": "put"})
    assert latency == 4


async def test_each_attempt_counts(metrics: Metrics) -> None:
    counted = InstrumentedStore(FaultyStore(failures=2), metrics)
    store = RetryingStore(counted, Backoff(max_attempts=5, initial_backoff_ms=0.01))
    await store.get("a")
    assert _count(metrics, "get", "storage_unavailable") == 2
    assert _count(metrics, "get", "not_found") == 1


async def test_the_last_outcome_is_remembered(metrics: Metrics) -> None:
    faulty = FaultyStore()
    store = RetryingStore(InstrumentedStore(faulty, metrics), Backoff(max_attempts=1))
    assert last_outcome(store) is None
    await store.get("a")
    first = last_outcome(store)
    assert first is not None
    assert first.error is None
    faulty.failures = 1
    with pytest.raises(UnavailableError):
        await store.get("a")
    failed = last_outcome(store)
    assert failed is not None
    assert isinstance(failed.error, UnavailableError)
    assert failed.at >= first.at
    with pytest.raises(InvalidInputError):  # the caller's mistake says nothing about the store
        await store.get("../a")
    assert last_outcome(store) is failed
    await store.get("a")
    healed = last_outcome(store)
    assert healed is not None
    assert healed.error is None


async def test_an_abandoned_operation_proves_nothing(metrics: Metrics) -> None:
    inner = MemoryStore()
    store = InstrumentedStore(inner, metrics)
    started = asyncio.Event()

    async def never(key: str) -> None:
        started.set()
        await asyncio.Event().wait()

    inner.head = never  # type: ignore[assignment,method-assign]
    waiting = asyncio.create_task(store.head("a"))
    await started.wait()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert _count(metrics, "head", "cancelled") == 1
    assert last_outcome(store) is None


def test_a_bare_store_has_no_outcome() -> None:
    assert last_outcome(MemoryStore()) is None
