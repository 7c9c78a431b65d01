"""The background work: when it is due, what it costs when it is not, and that nothing makes it stop for good."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest

from akidb.collection import Collection, follower, maintenance
from akidb.collection.follower import Follower
from akidb.connection.embedded import EmbeddedDatabase
from akidb.database import Database
from akidb.errors import AkiDBError, DeadlineExceededError, UnavailableError
from akidb.telemetry.logging import request_id
from akidb.types import CollectionSpec, IndexParams, Metric
from tests.unit.collection.faults import DIM, SETTINGS, FaultyStore, Oracle, check_here_and_anew

SPEC = CollectionSpec("points", DIM, Metric.EUCLIDEAN, IndexParams(m=8, ef_construction=32))


@pytest.fixture
async def collection(database: Database) -> Collection:
    return await database.create_collection(SPEC)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """No work waits for time to pass."""
    for name in ("TICK_SECS", "IDLE_FOLD_SECS", "TAIL_AGE_SECS_MAX", "RETRY_SECS_MIN", "RETRY_SECS_MAX"):
        monkeypatch.setattr(maintenance, name, 0.0)


class Folds:
    """The folds of the background work, of which the first ones raise what is asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *failures: Exception) -> None:
        self.failures = list(failures)
        self.done = asyncio.Event()
        fold = maintenance.fold

        async def watched(shard: object, spared: object) -> bool:
            if self.failures:
                raise self.failures.pop(0)
            folded = await fold(shard, spared)
            self.done.set()
            return folded

        monkeypatch.setattr(maintenance, "fold", watched)


@pytest.mark.parametrize("read_only", [False, True])
async def test_background_work_is_not_of_the_request_that_opened_the_collection(
    store: FaultyStore, database: Database, collection: Collection, monkeypatch: pytest.MonkeyPatch, read_only: bool
) -> None:
    seen: asyncio.Queue[str | None] = asyncio.Queue()

    def due(self: object, now: float) -> bool:
        seen.put_nowait(request_id.get())
        return False

    async def look(self: object) -> None:
        seen.put_nowait(request_id.get())

    monkeypatch.setattr(follower, "REFRESH_SECS", 0.0)
    await collection.upsert([1], np.ones((1, DIM)))
    node = await Database.open(store, SETTINGS, read_only=read_only)
    mark = request_id.set("r-1")
    opened = await node.collection("points")
    monkeypatch.setattr(maintenance.Maintenance, "_should_fold", due)
    monkeypatch.setattr(Follower, "look", look)
    await collection.writers[0].maintenance.close()
    await collection.upsert([2], np.ones((1, DIM)))
    await opened.count()
    request_id.reset(mark)
    assert await asyncio.wait_for(seen.get(), 30) is None
    await node.close()


@pytest.mark.parametrize("failure", [OSError("no scratch folder"), AssertionError("a bug"), UnavailableError("away")])
async def test_whatever_a_fold_raises_it_is_tried_again(
    hasty: None, collection: Collection, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    folds, oracle = Folds(monkeypatch, failure, failure), Oracle()
    await oracle.upsert(collection, range(10))
    await asyncio.wait_for(folds.done.wait(), 30)
    assert folds.failures == []
    await oracle.check(collection)


async def test_a_failing_fold_shows_until_it_works(
    hasty: None, collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    async def failing(shard: object, spared: object) -> bool:
        seen.append(collection.background_error)
        if len(seen) < 3:
            raise OSError("no scratch folder")
        return False

    monkeypatch.setattr(maintenance, "fold", failing)
    await Oracle().upsert(collection, range(10))
    while len(seen) < 3:  # noqa: ASYNC110 - what happens is in `seen`
        await asyncio.sleep(0)
    assert seen[0] is None
    assert "no scratch folder" in str(seen[1])
    assert "no scratch folder" in str(seen[2])


async def test_a_tail_that_a_dead_writer_left_is_folded_by_who_only_reads(
    hasty: None, store: FaultyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as slow:
        slow.setattr(maintenance, "TICK_SECS", 3600.0)
        writer = await Database.open(store, SETTINGS)
        oracle = Oracle()
        await oracle.upsert(await writer.create_collection(SPEC), range(5))
        await writer.close()
        folds = Folds(monkeypatch)
    reader = await Database.open(store, SETTINGS)
    await oracle.check(await reader.collection("points"))
    await asyncio.wait_for(folds.done.wait(), 30)
    await oracle.check(await reader.collection("points"))
    await reader.close()


async def test_a_long_tail_is_folded_when_writing_pauses_though_it_gets_no_graph(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = await database.create_collection(CollectionSpec("flat", DIM, Metric.EUCLIDEAN, IndexParams("flat")))
    ours = collection.writers[0].maintenance
    await Oracle().upsert(collection, range(200))
    pause = maintenance.IDLE_FOLD_SECS + 1
    assert not ours._should_fold(collection.shards[0].last_write + pause)
    monkeypatch.setattr(maintenance, "TAIL_BYTES_LONG", 1000)
    assert not ours._should_fold(collection.shards[0].last_write)
    assert ours._should_fold(collection.shards[0].last_write + pause)


@pytest.mark.parametrize("case", ["bucket", "folder", "short", "read", "away"])
async def test_who_is_done_folds_a_long_tail_that_it_wrote_into_a_bucket(
    store: FaultyStore, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    if case != "short":
        monkeypatch.setattr(maintenance, "TAIL_BYTES_LONG", 1000)
    oracle = Oracle()
    database = await Database.open(store, SETTINGS)
    collection = await database.create_collection(SPEC)
    await oracle.upsert(collection, range(90))
    if case == "read":
        await database.close()
        database = await Database.open(store, SETTINGS)
        collection = await database.collection("points")
    if case != "folder":
        monkeypatch.setattr(FaultyStore, "can_delete", False)
    if case == "away":
        store.fault = lambda number, call, key: "before" if call == "put" else None
    await EmbeddedDatabase(database, SETTINGS).close()
    store.heal()
    monkeypatch.setattr(FaultyStore, "can_delete", True)
    other = await Database.open(store, SETTINGS)
    collection = await other.collection("points")
    assert (await collection.info()).tail_points == (0 if case == "bucket" else 90)
    await oracle.check(collection)
    await other.close()


async def test_idle_collections_cost_nothing(
    hasty: None, database: Database, store: FaultyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(20):
        collection = await database.create_collection(CollectionSpec(f"c{n}", DIM, Metric.EUCLIDEAN))
        await Oracle().upsert(collection, range(120))
        await collection.wait_indexed()
        await collection.writers[0].maintenance.fold()
    loop, turns = asyncio.get_running_loop(), 0
    call_soon, call_at = loop.call_soon, loop.call_at

    def counted(*args: object, **kwargs: object) -> asyncio.Handle:
        nonlocal turns
        turns += 1
        return call_soon(*args, **kwargs)

    def timed(*args: object, **kwargs: object) -> asyncio.TimerHandle:
        nonlocal turns
        turns += 1
        return call_at(*args, **kwargs)

    monkeypatch.setattr(loop, "call_soon", counted)
    monkeypatch.setattr(loop, "call_at", timed)
    at_rest = False
    for _ in range(50):  # graphs of what was folded last may still be under way
        store.calls.clear()
        turns = 0
        await asyncio.sleep(0.5)  # two turns: of the timer, and of this test
        at_rest = turns == 2 and not store.calls
        if at_rest:
            break
    assert at_rest, f"{turns} turns of the event loop and {len(store.calls)} requests in half a second"


async def test_writers_wait_for_the_fold_of_a_long_tail_within_their_deadline(
    collection: Collection, store: FaultyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "TAIL_ROWS_MAX", 10)
    oracle = Oracle()
    await oracle.upsert(collection, range(60))
    store.pause_at = ("put", "/seg/")
    with pytest.raises(DeadlineExceededError, match="nothing was written") as late:
        await collection.upsert(["late"], np.ones((1, DIM)), timeout_ms=20)
    assert late.value.code == "deadline_exceeded"
    await store.paused.wait()
    waiting = [asyncio.create_task(oracle.upsert(collection, [100 + n])) for n in range(5)]
    await asyncio.sleep(0)
    store.go.set()
    await asyncio.wait_for(asyncio.gather(*waiting), 30)
    await oracle.check(collection)
    assert collection.writers[0].maintenance.tail_size() < maintenance.TAIL_SIZE_MAX


async def test_writers_hear_why_a_long_tail_can_not_be_folded(
    collection: Collection, store: FaultyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "TAIL_ROWS_MAX", 10)
    oracle = Oracle()
    await oracle.upsert(collection, range(60))
    store.fault = lambda number, call, key: "before" if call == "put" else None
    with pytest.raises(UnavailableError, match="fails on purpose"):
        await collection.upsert(["refused"], np.ones((1, DIM)))
    await oracle.check(collection)
    store.heal()
    await oracle.upsert(collection, range(60, 70))
    await oracle.check(collection)


@pytest.mark.parametrize("work", ["build", "merge"])
async def test_writers_do_not_wait_for_graphs_that_are_sent(
    collection: Collection, store: FaultyStore, monkeypatch: pytest.MonkeyPatch, work: str
) -> None:
    """A segment with its graph may take minutes to send; what they wait for is the fold."""
    monkeypatch.setattr(maintenance, "TAIL_ROWS_MAX", 10)
    oracle, ours = Oracle(), collection.writers[0].maintenance
    await oracle.upsert(collection, range(200))
    await ours.fold()
    segments = list(collection.shards[0].state.segments)
    store.pause_at = ("put", "/seg/")
    sending = asyncio.create_task(ours.build(segments[0]) if work == "build" else ours.merge(segments))
    await store.paused.wait()
    await oracle.upsert(collection, range(200, 260))
    await oracle.upsert(collection, [300])  # the tail is full: folded first
    assert ours.tail_size() < 1
    store.go.set()
    await sending
    (sent,) = [each for each in collection.shards[0].state.segments if each.ref.has_graph]
    assert sent.ref.rows == 200
    await check_here_and_anew(oracle, collection, store)


async def test_building_goes_on_when_who_waited_gives_up(
    collection: Collection, monkeypatch: pytest.MonkeyPatch, store: FaultyStore
) -> None:
    oracle = Oracle()
    await oracle.upsert(collection, range(200))
    await collection.writers[0].maintenance.fold()
    store.pause_at = ("put", "/seg/")
    waiting = asyncio.create_task(collection.wait_indexed())
    await store.paused.wait()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    store.go.set()
    await asyncio.gather(*collection.writers[0].maintenance._under_way)
    assert (await collection.info()).index.state == "ready"
    await oracle.check(collection)


async def test_built_but_not_committed_is_not_indexed(collection: Collection, store: FaultyStore) -> None:
    await Oracle().upsert(collection, range(200))
    await collection.writers[0].maintenance.fold()
    collection.writers[0].maintenance._built_rows = 200
    assert collection.writers[0].maintenance.index_state().state == "building"
    store.pause_at = ("put", "/seg/")
    with pytest.raises(DeadlineExceededError):
        await collection.wait_indexed(timeout_ms=1)
    store.go.set()


async def test_what_is_folded_leaves_the_memory_of_writers_and_readers(
    collection: Collection, store: FaultyStore
) -> None:
    reading = await Database.open(store, SETTINGS, read_only=True)
    reader, oracle = await reading.collection("points"), Oracle()
    for n in range(10):
        await oracle.upsert(collection, range(10 * n, 10 * n + 20))
        await oracle.check(reader)
    assert reader.shards[0].state.tail_rows == collection.shards[0].state.tail_rows == 110
    await collection.writers[0].maintenance.fold()
    await reader._followers[0].look()
    for node in (collection, reader):
        state = node.shards[0].state
        assert (state.tail_rows, state.slots_in_tail, len(state._batches), state.touched) == (0, 0, 0, 0)
        await oracle.check(node)
    store.fault = lambda number, call, key: "before"
    await reader._followers[0].look()
    assert "fails on purpose" in str(reader.background_error)
    store.heal()
    await reader._followers[0].look()
    assert reader.background_error is None
    await reading.close()


async def test_who_waits_for_a_graph_is_told_of_the_closing(
    database: Database, collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, building = asyncio.get_running_loop(), asyncio.Event()

    def build(*_: object, stop: threading.Event, **__: object) -> bytes:
        loop.call_soon_threadsafe(building.set)
        assert stop.wait(60)
        raise AkiDBError("stopped by the caller while building the graph", code="cancelled")

    monkeypatch.setattr(maintenance, "build_graph", build)
    await Oracle().upsert(collection, range(200))
    waiting = asyncio.create_task(collection.wait_indexed())
    await building.wait()
    await database.close()
    with pytest.raises(UnavailableError, match="is being closed") as refused:
        await waiting
    assert refused.value.code == "closing"


async def test_who_waits_for_work_that_close_stops_is_told_so_and_not_cancelled(
    database: Database, store: FaultyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "CLOSE_TIMEOUT_SECS", 0.0)
    collection = await database.create_collection(SPEC)
    await Oracle().upsert(collection, range(3))
    store.pause_at = ("put", "/seg/")
    folding = asyncio.create_task(collection.writers[0].maintenance.fold())
    await store.paused.wait()
    await collection.writers[0].maintenance.close()
    with pytest.raises(UnavailableError, match="is being closed"):
        await folding
