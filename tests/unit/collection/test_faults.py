"""Faults at every step of the background work: no acknowledged write is lost or doubled, and the work goes on after."""

from __future__ import annotations

import asyncio
import contextlib

import numpy as np
import pytest

from akidb.collection import Collection, maintenance
from akidb.database import Database
from akidb.errors import AkiDBError
from akidb.index import build_graph
from akidb.storage.memory import MemoryStore
from akidb.types import CollectionSpec, IndexParams, Metric
from tests.unit.collection.faults import DIM, SETTINGS, Fault, FaultyStore, Oracle, check_here_and_anew

SPEC = CollectionSpec("points", DIM, Metric.EUCLIDEAN, IndexParams(m=8, ef_construction=32, min_vectors_threshold=10))


@pytest.fixture
async def collection(database: Database) -> Collection:
    return await database.create_collection(SPEC)


async def test_a_graph_built_during_a_fold_keeps_its_segment(
    collection: Collection, store: FaultyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, built = asyncio.get_running_loop(), asyncio.Event()

    def build_and_tell(*args: object, **kwargs: object) -> bytes:
        graph = build_graph(*args, **kwargs)
        loop.call_soon_threadsafe(built.set)
        return graph

    monkeypatch.setattr(maintenance, "build_graph", build_and_tell)
    oracle = Oracle()
    await oracle.upsert(collection, range(100))
    await collection.writers[0].maintenance.fold()
    await oracle.upsert(collection, range(100, 120))
    store.pause_at = ("put", "/seg/")
    folding = asyncio.create_task(collection.writers[0].maintenance.fold())
    await store.paused.wait()
    (segment,) = collection.shards[0].state.segments
    building = asyncio.create_task(collection.writers[0].maintenance.build(segment))
    await built.wait()
    for _ in range(2000):  # far enough to commit the graph, unless it waits for the fold
        await asyncio.sleep(0)
    store.go.set()
    await asyncio.gather(folding, building)
    await check_here_and_anew(oracle, collection, store)
    await collection.wait_indexed()
    await check_here_and_anew(oracle, collection, store)


async def test_a_snapshot_does_not_change_when_a_graph_came_and_rows_died(collection: Collection) -> None:
    oracle = Oracle()
    await oracle.upsert(collection, range(100))
    await collection.writers[0].maintenance.fold()
    await oracle.delete(collection, ["0"])  # so that the segment has a mask to share
    before = await collection.snapshot()
    masks = [part.live.copy() for part in before.parts]
    await collection.writers[0].maintenance.build(collection.shards[0].state.segments[0])
    await oracle.delete(collection, range(50))
    assert all(np.array_equal(part.live, mask) for part, mask in zip(before.parts, masks, strict=True))
    await oracle.check(collection)


async def life(collection: Collection, oracle: Oracle, round_: int) -> None:
    """Replaces, deletes and adds, so that a fold writes a segment, keeps one and puts deletes of it."""
    await oracle.upsert(collection, range(10 * round_, 10 * round_ + 30))
    await oracle.delete(collection, range(10 * round_, 10 * round_ + 5))


async def step_of(kind: str, collection: Collection) -> None:
    work = collection.writers[0].maintenance
    match kind:
        case "fold":
            await work.fold()
        case "graph":
            await work.build(work._next_to_build())
        case "merge":
            await work.merge(collection.shards[0].state.segments)


async def calls_of(kind: str, fault_at: int | None, fault: Fault, persistent: bool) -> int:
    """One history with a fault at call `fault_at` of the work `kind`; returns how many calls the work made."""
    store = FaultyStore(MemoryStore())
    database = await Database.open(store, SETTINGS)
    collection = await database.create_collection(SPEC)
    work, oracle = collection.writers[0].maintenance, Oracle(fault_at or 0)
    await oracle.upsert(collection, range(100))
    await work.fold()
    await life(collection, oracle, 1)
    if kind != "fold":
        await work.fold()
    if kind == "merge":
        await collection.wait_indexed()
        await life(collection, oracle, 4)  # the tail kills rows that HEAD still counts
    store.calls.clear()
    if fault_at is not None:
        store.fault = lambda number, *_: fault if number == fault_at or (persistent and number > fault_at) else None
    with contextlib.suppress(AkiDBError):
        await step_of(kind, collection)
    calls = len(store.calls)
    await asyncio.wait_for(oracle.check_eventual(collection), 10)
    store.heal()
    await check_here_and_anew(oracle, collection, store)
    await life(collection, oracle, 2)
    await check_here_and_anew(oracle, collection, store)
    await work.fold()
    await work.fold()
    assert collection.shards[0].state.slots_in_tail == 0, "the work got stuck"
    await life(collection, oracle, 3)
    await collection.wait_indexed()
    await check_here_and_anew(oracle, collection, store)
    await database.close()
    return calls


@pytest.mark.parametrize("persistent", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("fault", ["before", "after"])
@pytest.mark.parametrize("kind", ["fold", "graph", "merge"])
async def test_every_call_of_the_work_may_fail(kind: str, fault: Fault, persistent: bool) -> None:
    calls = await calls_of(kind, None, fault, False)
    assert calls > 5
    for n in range(1, calls + 1):
        await calls_of(kind, n, fault, persistent)


@pytest.mark.parametrize("kind", ["fold", "graph", "merge"])
async def test_the_work_may_be_cancelled_at_every_step(kind: str) -> None:
    steps = 0
    while True:
        steps += 1
        store = FaultyStore(MemoryStore())
        database = await Database.open(store, SETTINGS)
        collection = await database.create_collection(SPEC)
        work, oracle = collection.writers[0].maintenance, Oracle(steps)
        await oracle.upsert(collection, range(40))
        if kind != "fold":
            await work.fold()
        await life(collection, oracle, 1)
        if kind == "merge":
            await work.build(work._next_to_build())
            await work.fold()
        task = asyncio.create_task(step_of(kind, collection))
        store.calls.clear()
        while not task.done() and len(store.calls) < steps:  # noqa: ASYNC110 - each turn of the loop is one step
            await asyncio.sleep(0)
        ended = task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await check_here_and_anew(oracle, collection, store)
        await life(collection, oracle, 2)
        await work.fold()
        await collection.wait_indexed()
        await check_here_and_anew(oracle, collection, store)
        await database.close()
        if ended:
            break
    assert steps > 5
