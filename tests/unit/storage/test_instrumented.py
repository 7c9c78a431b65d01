from __future__ import annotations

import asyncio

import pytest
from prometheus_client import CollectorRegistry

from akidb.errors import ConfigurationError, StorageFullError, UnavailableError
from akidb.storage.breaking import writes_refused
from akidb.storage.instrumented import InstrumentedStore
from akidb.storage.memory import MemoryStore
from akidb.storage.object_store import Body, Reply
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


async def test_that_writes_are_denied_is_remembered_until_one_is_taken(metrics: Metrics) -> None:
    class _Denying(MemoryStore):
        denies: Exception | None = ConfigurationError("denied")

        async def put(self, key: str, body: Body) -> Reply:
            if self.denies is not None:
                raise self.denies
            return await super().put(key, body)

    inner = _Denying()
    store = RetryingStore(InstrumentedStore(inner, metrics), Backoff(max_attempts=1))
    assert not writes_refused(store)
    with pytest.raises(ConfigurationError):
        await store.put("a", b"x")
    assert writes_refused(store)
    await store.get("a")
    assert writes_refused(store), "an answer to a get says nothing of puts"
    await inner.put_if_absent("there", b"x")
    assert not (await store.put_if_absent("there", b"y")).ok
    await store.delete_many([])
    assert writes_refused(store), "nothing was written"
    for passing in (UnavailableError("away"), StorageFullError("full")):
        inner.denies = passing
        with pytest.raises(type(passing)):
            await store.put("a", b"x")
    assert writes_refused(store)
    inner.denies = None
    await store.put("a", b"x")
    assert not writes_refused(store)


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
