"""Bounded and eventual reads ask nothing of the store: the log is followed for them while they come."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import numpy as np
import pytest

from akidb.collection import Collection, polling
from akidb.config.settings import Query
from akidb.database import Database
from akidb.errors import UnavailableError
from akidb.storage.memory import MemoryStore
from akidb.types import EVENTUAL, STRONG, CollectionSpec, Consistency
from tests.unit.collection.faults import SETTINGS
from tests.unit.stores import FaultyStore

BOUNDED = Consistency("bounded", bounded_ms=600_000)
ONE = np.ones((1, 2), np.float32)


@pytest.fixture
async def store() -> FaultyStore:
    return FaultyStore(MemoryStore(), can_delete=False)


@pytest.fixture
async def writer(store: FaultyStore) -> AsyncIterator[Collection]:
    database = await Database.open(store.inner, SETTINGS)
    yield await database.create_collection(CollectionSpec("p", 2))
    await database.close()


async def _reader(store: FaultyStore, tail_poll_ms: int) -> tuple[Database, Collection]:
    database = await Database.open(store, replace(SETTINGS, query=Query(tail_poll_ms=tail_poll_ms)))
    return database, await database.collection("p")


@pytest.mark.parametrize("consistency", [BOUNDED, EVENTUAL])
async def test_weaker_reads_ask_nothing_and_see_what_comes(
    store: FaultyStore, writer: Collection, consistency: Consistency
) -> None:
    database, reader = await _reader(store, 10)
    assert await reader.count(consistency=consistency) == 0
    await writer.upsert(["a"], ONE)
    async with asyncio.timeout(20):
        while await reader.count(consistency=consistency) == 0:  # noqa: ASYNC110  only reading tells
            await asyncio.sleep(0.005)
    await database.close()


async def test_between_two_looks_no_read_asks_the_store(store: FaultyStore, writer: Collection) -> None:
    database, reader = await _reader(store, 600_000)
    await reader.count(consistency=BOUNDED)
    store.counts.clear()
    for _ in range(50):
        await reader.get(["a"], consistency=BOUNDED)
        await reader.count(consistency=EVENTUAL)
    assert sum(store.counts.values()) == 0
    await reader.count(consistency=STRONG)
    assert store.counts["get"] == 1
    await database.close()


async def test_strong_reads_begin_no_looking(store: FaultyStore, writer: Collection) -> None:
    database, reader = await _reader(store, 10)
    await reader.count(consistency=STRONG)
    store.counts.clear()
    await asyncio.sleep(0.1)
    assert store.counts["get"] == 0
    await database.close()


async def test_looking_ends_some_time_after_the_last_read(
    store: FaultyStore, writer: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polling, "ACTIVE_SECS", 0.05)
    database, reader = await _reader(store, 10)
    await reader.count(consistency=EVENTUAL)
    own = reader.shards[0]._polling
    assert own is not None
    async with asyncio.timeout(20):
        while own._task is not None:  # noqa: ASYNC110  it tells nobody
            await asyncio.sleep(0.01)
    await reader.count(consistency=EVENTUAL)
    await asyncio.sleep(0)
    assert own._task is not None  # and begins again
    await database.close()
    assert own._task is None or own._task.done()


async def test_looking_goes_on_after_a_failure(store: FaultyStore, writer: Collection) -> None:
    database, reader = await _reader(store, 10)
    store.faults["get"] = [UnavailableError("away")] * 3
    await reader.count(consistency=EVENTUAL)
    await writer.upsert(["a"], ONE)
    async with asyncio.timeout(20):
        while await reader.count(consistency=EVENTUAL) == 0:  # noqa: ASYNC110  only reading tells
            await asyncio.sleep(0.005)
    await database.close()


async def test_staleness_is_since_the_log_was_read_to_its_end(store: FaultyStore, writer: Collection) -> None:
    database, reader = await _reader(store, 600_000)
    began = time.monotonic()
    await reader.count(consistency=STRONG)
    since = reader.read_since(EVENTUAL)
    assert since is not None
    assert began <= since <= time.monotonic()
    assert reader.read_since(BOUNDED) == since
    assert reader.read_since(STRONG) is None
    assert reader.read_since(replace(BOUNDED, as_of="then")) is None
    await asyncio.sleep(0.05)
    assert reader.staleness_ms >= 50
    now = time.monotonic()
    short = reader.read_since(Consistency("bounded", bounded_ms=10))
    assert short is not None
    assert short >= now  # too old for it: such a read looks at the log
    await database.close()
