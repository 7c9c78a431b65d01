"""A store that goes away, at every call: names stay unique and whole, readiness says so, and all heals by itself."""

from __future__ import annotations

import asyncio
import contextlib
import threading

import numpy as np
import pytest

from akidb.database import Database, readiness
from akidb.errors import AkiDBError, ConflictError, NotFoundError, UnavailableError
from akidb.storage.breaking import BreakingStore, State
from akidb.storage.memory import MemoryStore
from akidb.storage.object_store import Body, Reply
from akidb.storage.wrapper import StoreWrapper
from akidb.types import EVENTUAL, CollectionSpec, Consistency, Metric
from tests.unit.collection.faults import DIM, SETTINGS, Fault, FaultyStore, Oracle

SPEC = CollectionSpec("points", DIM, Metric.EUCLIDEAN)


async def names(store: FaultyStore) -> list[str]:
    """As a node sees them that begins now."""
    other = await Database.open(FaultyStore(store.inner), SETTINGS)
    found = list(await other.list_collections())
    for collection in other.at_hand:
        await collection.close()
    return found


async def calls_of(kind: str, fault_at: int, fault: Fault, persistent: bool) -> int:
    """A create or a drop with a fault at call `fault_at`, then the same again without; returns the number of calls."""
    store = FaultyStore(MemoryStore())
    database = await Database.open(store, SETTINGS)
    if kind == "drop":
        await database.create_collection(SPEC)
    store.calls.clear()
    store.fault = lambda number, *_: fault if number == fault_at or (persistent and number > fault_at) else None
    work = database.create_collection(SPEC) if kind == "create" else database.drop_collection("points")
    with contextlib.suppress(AkiDBError, TimeoutError):
        async with asyncio.timeout(0.05 if persistent else None):
            await work
    calls = len(store.calls)
    store.heal()
    if kind == "create":
        with contextlib.suppress(ConflictError):
            await database.create_collection(SPEC)
        await (await database.collection("points")).upsert(["a"], np.ones((1, DIM)))
        assert await names(store) == ["points"]
    else:
        with contextlib.suppress(NotFoundError):
            await database.drop_collection("points")
        assert await names(store) == []
        assert await (await database.create_collection(SPEC)).count() == 0
    await database.close()
    return calls


@pytest.mark.parametrize("persistent", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("fault", ["before", "after"])
@pytest.mark.parametrize("kind", ["create", "drop"])
async def test_every_call_of_a_create_and_a_drop_may_fail(kind: str, fault: Fault, persistent: bool) -> None:
    calls = await calls_of(kind, 0, fault, False)
    assert calls > 5
    for n in range(1, calls + 1):
        await calls_of(kind, n, fault, persistent)


async def test_a_create_finishes_the_drop_of_a_dead_node(database: Database, store: FaultyStore) -> None:
    await database.create_collection(SPEC)
    other = await Database.open(store, SETTINGS)
    await (await other.collection("points")).seal()  # and dies before the catalogue hears of it
    assert await (await database.create_collection(SPEC)).count() == 0
    await other.close()


async def test_readers_of_a_collection_that_is_dropped_are_told_so(database: Database, store: FaultyStore) -> None:
    collection = await database.create_collection(SPEC)
    store.pause_at = ("get", "/wal/")
    reads = [asyncio.create_task(collection.count()) for _ in range(3)]
    await store.paused.wait()
    other = await Database.open(store.inner, SETTINGS)
    await other.drop_collection("points")
    dropping = asyncio.create_task(database._forget(next(iter(database._open))))
    answers = await asyncio.wait_for(asyncio.gather(*reads, return_exceptions=True), 30)
    assert all(isinstance(answer, NotFoundError | UnavailableError) for answer in answers)
    store.go.set()
    await dropping


async def test_a_list_leaves_out_what_is_dropped_meanwhile(database: Database, store: FaultyStore) -> None:
    await database.create_collection(SPEC)
    await database.create_collection(CollectionSpec("stays", DIM))
    other = await Database.open(store, SETTINGS)
    store.pause_at = ("get", "/0000/head")
    listing = asyncio.create_task(other.list_collections())
    await store.paused.wait()
    await database.drop_collection("points")
    store.go.set()
    assert list(await listing) == ["stays"]
    await other.close()


async def test_a_store_that_goes_away_is_told_and_comes_back(
    database: Database, store: FaultyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection, oracle = await database.create_collection(SPEC), Oracle()
    await oracle.upsert(collection, range(20))
    await oracle.check(collection)
    assert await database.ready()
    store.fault = lambda number, call, key: "before"
    store.calls.clear()
    assert await database.ready(), "answers of the last seconds count"
    assert store.calls == []
    monkeypatch.setattr(readiness, "PROBE_EVERY_SECS", 0.0)
    assert not await database.ready()
    assert await database.ready(for_read=True)
    found = await database.health()
    assert "fails on purpose" in found["storage"]
    assert found["index"] is None
    assert await collection.count(consistency=EVENTUAL) == 20
    assert await collection.count(consistency=Consistency("bounded", bounded_ms=3_600_000)) == 20
    with pytest.raises(UnavailableError):
        await collection.count()
    monkeypatch.setattr(readiness, "PROBE_EVERY_SECS", 10.0)
    assert not await database.ready(), "after a failure every look asks"
    store.heal()
    assert await database.ready()
    assert (await database.health())["storage"] is None
    await oracle.upsert(collection, range(20, 30))
    await oracle.check(collection)


async def test_a_store_that_reads_and_does_not_write_is_not_ready_until_a_write_of_ours_gets_through() -> None:
    class _ReadOnly(StoreWrapper):
        full = False

        async def put(self, key: str, body: Body) -> Reply:
            if self.full:
                raise UnavailableError("no quorum to write")
            return await super().put(key, body)

    inner = _ReadOnly(MemoryStore())
    store = BreakingStore(inner, 5, recovery_secs=0.0)
    database = await Database.open(store, SETTINGS)
    inner.full = True
    for _ in range(5):
        with pytest.raises(UnavailableError):
            await store.put("seg/1", b"x")
    for _ in range(2):
        assert not await database.ready()
        assert "no quorum to write" in str((await database.health())["storage"])
    assert await database.ready(for_read=True)
    inner.full = False
    assert await database.ready()
    assert store.writes.state is State.CLOSED
    await database.close()


async def test_a_store_that_lost_the_catalogue_is_not_ready(
    database: Database, store: FaultyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "PROBE_EVERY_SECS", 0.0)
    store.inner._objects.clear()
    assert not await database.ready()
    assert "the store does not have it" in (await database.health())["storage"]


async def test_an_open_that_fails_leaves_nothing_behind(store: FaultyStore) -> None:
    threads, tasks = set(threading.enumerate()), asyncio.all_tasks()
    store.fault = lambda number, call, key: "before" if number > 3 else None
    for _ in range(3):
        with pytest.raises(UnavailableError):
            await Database.open(store, SETTINGS)
        store.calls.clear()
    begun = set(threading.enumerate()) - threads  # others' may end meanwhile
    assert not [thread for thread in begun if thread.name.startswith("akidb")]
    assert asyncio.all_tasks() == tasks


@pytest.mark.parametrize("seed", range(8))
async def test_close_during_anything(seed: int) -> None:
    rng = np.random.default_rng(seed)
    store = FaultyStore(MemoryStore())
    database = await Database.open(store, SETTINGS)
    collection, oracle = await database.create_collection(SPEC), Oracle(seed)
    await oracle.upsert(collection, range(150))
    acknowledged: list[str] = []

    async def write() -> None:
        for n in range(100):
            await collection.upsert([f"{n}"], oracle.rng.standard_normal((1, DIM)))
            acknowledged.append(f"{n}")

    async def read() -> None:
        while True:
            await collection.count()

    work = [
        write(), read(), collection.writers[0].maintenance.fold(), collection.wait_indexed(),
        database.list_collections(), database.create_collection(CollectionSpec("other", DIM)),
    ]  # fmt: skip
    tasks = [asyncio.create_task(job) for job in work]
    for _ in range(int(rng.integers(1, 400))):
        await asyncio.sleep(0)
    await asyncio.wait_for(database.close(), 60)
    ended = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 60)
    assert all(isinstance(end, AkiDBError) for end in ended if isinstance(end, BaseException)), ended
    await database.close()
    with pytest.raises(UnavailableError):
        await collection.count(consistency=EVENTUAL)
    with pytest.raises(UnavailableError):
        await collection.upsert(["x"], np.ones((1, DIM)))
    with pytest.raises(UnavailableError):
        await database.list_collections()
    other = await Database.open(store.inner, SETTINGS)
    found = await (await other.collection("points")).get(acknowledged)
    assert None not in found
    for opened in other.at_hand:
        await opened.close()
