"""Which segments are merged, that merging changes no answer, and that it goes on beside folds and other nodes."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from akidb.collection import Collection, compaction, maintenance
from akidb.collection.compaction import DEAD_SHARE_MAX, FAN_IN, choose
from akidb.config.settings import Compaction
from akidb.database import Database
from akidb.index import build_graph
from akidb.manifest import Head, SegmentRef
from akidb.storage.local import LocalStore
from akidb.types import CollectionSpec, IndexParams, Metric
from tests.unit.collection.faults import DIM, SETTINGS, FaultyStore, Oracle, check_here_and_anew

SPEC = CollectionSpec("points", DIM, Metric.EUCLIDEAN, IndexParams(m=8, ef_construction=32, min_vectors_threshold=10))
TARGET = 1 << 20


def ref(number: int, size: int, dead: float = 0.0) -> SegmentRef:
    """A segment whose live rows have about `size` bytes."""
    rows = 1000
    live = round(rows * (1 - dead))
    return SegmentRef(UUID(int=number), f"seg/{number}", rows, live, round(size * rows / max(live, 1)), 1)


def chosen(*sizes: int) -> list[int]:
    return [each.uuid.int for each in choose([ref(i, size) for i, size in enumerate(sizes)], TARGET)]


def test_too_few_of_a_size_are_left_alone() -> None:
    assert chosen() == chosen(1000) == chosen(1000, 1000, 1000) == chosen(1000, 1000, 1000, 5000, 5000, 60_000) == []


def test_a_full_tier_is_merged_with_what_is_smaller() -> None:
    assert chosen(5000, 5000, 5000, 5000) == [0, 1, 2, 3]
    assert chosen(5000, 100, 5000, 5000, 200_000, 5000) == [1, 0, 2, 3, 5]


def test_two_are_enough_where_they_come_near_the_target() -> None:
    assert chosen(TARGET // 3, TARGET // 3) == [0, 1]
    assert chosen(TARGET // 3, TARGET // 7) == []


def test_what_is_half_full_is_left_alone() -> None:
    assert chosen(*[TARGET // 2 + 1] * 10) == []


def test_what_a_revert_brought_back_meanwhile_is_not_left_out() -> None:
    dead, alive, merged = ref(1, 5000, dead=0.4), ref(1, 5000), ref(2, 5000, dead=0.4)
    now = Head(3, UUID(int=3), (UUID(int=3),), (alive,), 4)
    assert compaction._compacted(now, [dead], merged) is None
    assert compaction._compacted(now, [alive], merged) is None
    assert compaction._compacted(now, [alive], None) is None
    whole = compaction._compacted(now, [alive], ref(2, 5000))
    assert whole is not None
    assert whole.segments == (ref(2, 5000),)


def test_the_deadest_is_rewritten_whatever_its_size() -> None:
    refs = [ref(0, 8 * TARGET, dead=0.3), ref(1, TARGET, dead=0.5), ref(2, TARGET, dead=0.2), ref(3, TARGET)]
    assert [each.uuid.int for each in choose(refs, TARGET)] == [1]
    assert choose(refs[2:], TARGET) == []
    assert [each.uuid.int for each in choose([ref(4, TARGET, dead=1.0)], TARGET)] == [4]


@given(st.lists(st.tuples(st.integers(100, 4 * TARGET), st.sampled_from([0.0, 0.1, 0.4])), max_size=60))
def test_merging_ends_with_few_small_segments_and_none_too_large(sizes: list[tuple[int, float]]) -> None:
    refs = [ref(i, size, dead) for i, (size, dead) in enumerate(sizes)]
    largest = max((each.bytes for each in refs), default=0)
    for number in range(1000, 2000):
        inputs = choose(refs, TARGET)
        if not inputs:
            break
        total = round(sum(each.bytes * each.live / each.rows for each in inputs))
        assert len(inputs) == 1 or total <= TARGET + len(inputs)
        refs = [each for each in refs if each not in inputs] + [ref(number, total)]
    else:
        raise AssertionError("it never ends")
    small = [each for each in refs if each.bytes < TARGET / 2]
    assert len(small) <= (FAN_IN - 1) * 8  # tiers from half the target down to 100 bytes
    assert all(1 - each.live / each.rows <= DEAD_SHARE_MAX for each in refs)
    assert all(each.bytes <= max(largest, TARGET + 100) for each in refs)


@pytest.fixture
async def collection(database: Database) -> Collection:
    return await database.create_collection(SPEC)


async def segments_of(collection: Collection, oracle: Oracle, count: int, rows: int = 60, first: int = 0) -> None:
    """That many segments with a graph each."""
    for number in range(count):
        await oracle.upsert(collection, range(first + rows * number, first + rows * (number + 1)))
        await collection.wait_indexed()


def refs_of(collection: Collection) -> list[SegmentRef]:
    return [segment.ref for segment in collection.shards[0].state.segments]


async def test_segments_with_graphs_become_one_with_a_graph(collection: Collection, store: FaultyStore) -> None:
    oracle = Oracle()
    await segments_of(collection, oracle, 4)
    before = await collection.info()
    assert (before.segments, before.index.state) == (4, "ready")
    await collection.writers[0].maintenance.merge(collection.shards[0].state.segments)
    (merged,) = refs_of(collection)
    assert (merged.rows, merged.live, merged.has_graph) == (240, 240, True)
    after = await collection.info()
    assert (after.count, after.index, after.lsn) == (before.count, before.index, before.lsn)
    await check_here_and_anew(oracle, collection, store)


async def test_graphs_of_the_parts_are_built_upon(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    given = []

    def build(*args: object, **kwargs: object) -> bytes:
        given.append([part.graph is not None for part in kwargs["parts"]])
        return build_graph(*args, **kwargs)

    oracle = Oracle()
    await segments_of(collection, oracle, 2)
    await oracle.upsert(collection, range(1000, 1009))
    await collection.writers[0].maintenance.fold()
    monkeypatch.setattr(maintenance, "build_graph", build)
    await collection.writers[0].maintenance.merge(collection.shards[0].state.segments)
    assert given == [[True, True, False]]
    await oracle.check(collection)


async def test_rows_dead_for_head_are_gone_and_rows_dead_since_are_not_found(
    collection: Collection, store: FaultyStore
) -> None:
    oracle = Oracle()
    await segments_of(collection, oracle, 2)
    await oracle.delete(collection, range(40))
    await oracle.upsert(collection, range(100, 110))
    await collection.writers[0].maintenance.fold()
    await oracle.delete(collection, range(40, 50))  # in the tail: HEAD still has them, and so must its successor
    await oracle.upsert(collection, range(50, 55))
    await collection.writers[0].maintenance.merge(
        [each for each in collection.shards[0].state.segments if each.ref.has_graph]
    )
    merged = next(each for each in refs_of(collection) if each.has_graph)
    assert merged.rows == merged.live == 2 * 60 - 40 - 10
    await check_here_and_anew(oracle, collection, store)
    await collection.writers[0].maintenance.fold()
    await check_here_and_anew(oracle, collection, store)


async def test_a_segment_without_a_live_row_goes_away(collection: Collection, store: FaultyStore) -> None:
    oracle = Oracle()
    await segments_of(collection, oracle, 1)
    await oracle.delete(collection, range(60))
    await oracle.upsert(collection, range(100, 105))
    await collection.writers[0].maintenance.fold()
    state = collection.shards[0].state
    head = replace(state.head)
    await collection.writers[0].maintenance.merge([each for each in state.segments if not each.live_rows])
    assert all(each.live for each in refs_of(collection))
    assert collection.shards[0].state.head.folded == head.folded
    await check_here_and_anew(oracle, collection, store)


async def test_folds_of_this_and_of_another_node_may_come_between(
    collection: Collection, store: FaultyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The merge is fitted to what they found dead; it is not done again."""
    loop, built, go = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()

    def build(*args: object, **kwargs: object) -> bytes:
        graph = build_graph(*args, **kwargs)
        loop.call_soon_threadsafe(built.set)
        asyncio.run_coroutine_threadsafe(go.wait(), loop).result(60)
        return graph

    oracle = Oracle()
    await segments_of(collection, oracle, 3)
    other = await Database.open(store.inner, SETTINGS)
    beside = await other.collection("points")
    monkeypatch.setattr(maintenance, "build_graph", build)
    merging = asyncio.create_task(collection.writers[0].maintenance.merge(collection.shards[0].state.segments))
    await built.wait()
    seen = (await collection.info()).compaction
    assert (seen.state, seen.segments, seen.points, seen.progress) == ("merging", 3, 180, 1.0)
    await oracle.delete(collection, range(20))
    await collection.writers[0].maintenance.fold()
    await beside.shards[0].refresh()  # else its fold would come too late
    await oracle.upsert(beside, range(60, 75))
    await beside.writers[0].maintenance.fold()
    await oracle.delete(beside, range(20, 25))
    go.set()
    await merging
    assert (await collection.info()).compaction.state == "idle"
    merged = next(each for each in refs_of(collection) if each.rows == 180)
    assert (merged.live, merged.has_graph) == (180 - 20 - 15, True)
    await oracle.check(beside)
    await other.close()
    await check_here_and_anew(oracle, collection, store)


async def test_a_merge_of_segments_that_are_gone_changes_nothing(collection: Collection, store: FaultyStore) -> None:
    oracle = Oracle()
    await segments_of(collection, oracle, 4)
    other = await Database.open(store.inner, SETTINGS)
    beside = await other.collection("points")
    mine = list(collection.shards[0].state.segments)
    await beside.writers[0].maintenance.merge(beside.shards[0].state.segments[:2])
    merged = await compaction.compact(
        collection.shards[0], mine, collection_build, collection.writers[0].maintenance._committing
    )
    assert not merged
    assert sorted(each.rows for each in refs_of(collection)) == [60, 60, 120]
    await other.close()
    await check_here_and_anew(oracle, collection, store)


async def collection_build(vectors: np.ndarray, parts: object) -> bytes:
    return build_graph(vectors, "l2", m=8, ef_construction=32, parts=parts)


async def test_many_small_segments_are_merged_in_the_background(
    store: FaultyStore, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    for name in ("TICK_SECS", "IDLE_FOLD_SECS"):
        monkeypatch.setattr(maintenance, name, 0.0)
    settings = replace(SETTINGS, compaction=Compaction(target_bytes=1 << 20))
    local = LocalStore(tmp_path)
    database = await Database.open(local, settings)
    collection, oracle = await database.create_collection(SPEC), Oracle()
    for number in range(20):
        await oracle.upsert(collection, range(20 * number, 20 * number + 25))
        await collection.wait_indexed()
    work = collection.writers[0].maintenance
    while work._next_to_merge() or work._merging:  # noqa: ASYNC110 - whose work it is does not tell when it is done
        await asyncio.sleep(0)
    assert len(refs_of(collection)) < 2 * FAN_IN
    assert collection.background_error is None
    await oracle.check(collection)
    named = {each.key for each in refs_of(collection)}
    await collection.writers[0].maintenance.fold()
    listed = {info.key async for info in local.list_from(f"{collection.shards[0].prefix}/seg/")}
    assert listed >= named
    assert len(listed) < 2 * FAN_IN, "merged segments are deleted from a local folder"
    await database.close()
