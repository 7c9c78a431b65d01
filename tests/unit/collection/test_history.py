"""Snapshots made at regular times: when, of what, and for how long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np
import pytest

from akidb.collection import Collection
from akidb.collection.history import History
from akidb.database import Database
from akidb.errors import ConflictError
from akidb.storage.memory import MemoryStore
from akidb.types import CollectionSpec, Consistency, Metric
from tests.unit.collection.faults import DIM, SETTINGS, FaultyStore
from tests.unit.wal.nodes import until

INTERVAL, KEEP = 600.0, 3600.0
RNG = np.random.default_rng(5)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The store's, in seconds."""
    made = SimpleNamespace(now=1_000_000.0, time=lambda: made.now)
    monkeypatch.setattr("akidb.storage.memory.time", made)
    return made


@pytest.fixture(params=[1, 3])
async def points(database: Database, clock: SimpleNamespace, request: pytest.FixtureRequest) -> Collection:
    return await database.create_collection(CollectionSpec("points", DIM, Metric.EUCLIDEAN, shard_count=request.param))


@pytest.fixture
async def history(points: Collection) -> AsyncIterator[History]:
    made = History("points", points._kept, INTERVAL, KEEP)
    yield made
    await made.close()


async def _write(collection: Collection, *ids: str) -> None:
    await collection.upsert(list(ids), RNG.standard_normal((len(ids), DIM)).astype(np.float32))


async def _names(collection: Collection) -> list[str]:
    return [made.name for made in await collection.list_snapshots()]


def _at(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("at-%Y%m%dT%H%M%SZ")


async def test_one_is_made_when_it_is_due_and_something_was_written(
    points: Collection, history: History, clock: SimpleNamespace
) -> None:
    await _write(points, *map(str, range(30)))
    expected = []

    async def look(secs: float, *, makes: bool) -> None:
        clock.now += secs
        await history.look()
        expected.extend([_at(clock.now)] if makes else [])
        assert await _names(points) == expected

    await look(0, makes=True)
    await _write(points, "new")
    await look(INTERVAL - 1, makes=False)
    await look(1, makes=True)
    await look(INTERVAL, makes=False)
    await points.delete(["new"])
    await look(0, makes=True)
    await points.patch("1", {"n": 1})
    await look(INTERVAL, makes=True)
    await points.drop_snapshot(expected.pop(0))
    await look(INTERVAL, makes=False)
    await points.drop_snapshot((await points.revert(expected[0])).before)
    await look(0, makes=True)


async def test_a_time_is_told_from_them_and_old_ones_go(
    points: Collection, history: History, clock: SimpleNamespace
) -> None:
    began, step = clock.now, 1000.0
    await points.create_snapshot("mine")
    for n in range(8):
        await _write(points, f"{n}")
        await history.look()
        clock.now += step
    kept = [_at(began + n * step) for n in range(4, 8)]
    clock.now += 0.5 * step
    await history.look()
    assert await _names(points) == ["mine", *kept], "3,600 seconds ago the first of these was the newest"
    for n in range(4, 8):
        time = datetime.fromtimestamp(began + (n + 0.5) * step, UTC).isoformat()
        assert await points.count(consistency=Consistency.parse(None, time)) == n + 1
    clock.now += 10 * KEEP
    await history.look()
    assert await _names(points) == ["mine", kept[-1]], "nothing was written since, so it tells of all the time after"


async def test_nodes_that_look_at_once_make_one(
    points: Collection, history: History, store: FaultyStore, clock: SimpleNamespace
) -> None:
    elsewhere = await Database.open(store.inner, SETTINGS)
    other = History("points", (await elsewhere.collection("points"))._kept, INTERVAL, KEEP)
    await asyncio.gather(history.look(), other.look())
    clock.now += 10
    await asyncio.gather(history.look(), other.look())
    (made,) = await points.list_snapshots()
    assert made.complete or len(points.shards) > 1
    await other.close()
    await elsewhere.close()


async def test_a_setting_turns_it_on_and_failures_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("akidb.collection.history.random.uniform", lambda low, high: 0.0001)
    monkeypatch.setattr("akidb.manifest.pins.PINS_MAX", 0)
    settings = replace(SETTINGS, storage=replace(SETTINGS.storage, snapshot_interval_mins=1))
    database = await Database.open(MemoryStore(), settings)
    collection = await database.create_collection(CollectionSpec("points", DIM, Metric.EUCLIDEAN))
    await until(lambda: isinstance(collection.background_error, ConflictError))
    monkeypatch.setattr("akidb.manifest.pins.PINS_MAX", 1000)
    await until(lambda: collection.background_error is None)
    assert len(await _names(collection)) == 1
    await database.close()
