"""Garbage collection over a whole store without locks: living collections, snapshots, and dropped ones."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest

from akidb.collection import Collection
from akidb.database import Database
from akidb.errors import ReadOnlyError
from akidb.types import CollectionSpec, Consistency, IndexParams, Metric
from tests.unit.collection.faults import DIM, SETTINGS
from tests.unit.stores import FaultyStore

SPEC = CollectionSpec("points", DIM, Metric.EUCLIDEAN, IndexParams(min_vectors_threshold=50))


async def _filled(database: Database, name: str = "points") -> None:
    collection = await database.create_collection(replace(SPEC, name=name))
    data = np.random.default_rng(1).standard_normal((60, DIM)).astype(np.float32)
    await collection.upsert([str(i) for i in range(60)], data)
    await collection.wait_indexed()
    await collection.upsert([str(i) for i in range(40)], data[:40])
    await collection.writers[0].maintenance.fold()  # type: ignore[union-attr]


async def _segments(store: FaultyStore) -> int:
    return len([info.key async for info in store.list_from("t/") if "/seg/" in info.key])


async def test_rounds_free_what_folds_and_drops_left() -> None:
    store = FaultyStore(can_delete=False)
    database = await Database.open(store, SETTINGS)
    await _filled(database)
    await _filled(database, "others")
    before = await _segments(store)
    for _ in range(2):
        rounds = await database.collect_garbage(interval_secs=0)
        assert sorted(each.collection for each in rounds) == ["others", "points"]
    opened = await database.collection("points")
    assert await _segments(store) == before - 2
    assert await opened.count() == 60
    uuid = opened.uuid
    await database.drop_collection("points")
    rounds = await database.collect_garbage(interval_secs=0)
    assert sorted(each.collection for each in rounds) == [f"dropped {uuid}", "others"]
    keys = [info.key async for info in store.list_from(f"t/00000000-0000-0000-0000-000000000000/c/{uuid}/")]
    assert {key.split("/")[5] for key in keys} == {"head", "wal"}
    assert [each.collection for each in await database.collect_garbage(interval_secs=0)] == ["others"]
    fresh = await Database.open(store, SETTINGS)
    assert await (await fresh.collection("others")).count() == 60
    await fresh.close()
    await database.close()


async def test_a_look_at_shards_that_are_not_due_is_one_get_each() -> None:
    store = FaultyStore(can_delete=False)
    database = await Database.open(store, SETTINGS)
    await _filled(database)
    await _filled(database, "others")
    await database.collect_garbage(interval_secs=0)
    store.counts.clear()
    await database.collect_garbage(interval_secs=3600)
    assert store.counts["get_head"] == 2
    assert store.counts["list"] == 0
    await database.close()


async def test_snapshots_outlive_rounds() -> None:
    store = FaultyStore(can_delete=False)
    database = await Database.open(store, SETTINGS)
    await _filled(database)
    collection = await database.collection("points")
    await collection.create_snapshot("first")
    await collection.delete([str(i) for i in range(50)])
    await collection.writers[0].maintenance.fold()  # type: ignore[union-attr]
    for _ in range(4):
        await database.collect_garbage(interval_secs=0)
    fresh = await Database.open(store, SETTINGS)
    again = await fresh.collection("points")
    assert (await again.count(), await again.count(consistency=Consistency(as_of="first"))) == (10, 60)
    await again.revert("first")
    assert await collection.count() == 60
    await fresh.close()
    await database.close()


async def test_a_node_behind_a_revert_whose_snapshot_is_gone_goes_on_from_head() -> None:
    store = FaultyStore(can_delete=False)
    database, beside = await Database.open(store, SETTINGS), await Database.open(store, SETTINGS)
    await _filled(database)
    collection, behind = await database.collection("points"), await beside.collection("points")
    assert await behind.count() == 60
    await collection.create_snapshot("first")
    await collection.delete([str(i) for i in range(50)])
    await collection.revert("first")
    for info in await collection.list_snapshots():
        await collection.drop_snapshot(info.name)
    await collection.delete(["59"])
    for _ in range(4):
        await collection.writers[0].maintenance.fold()  # type: ignore[union-attr]
        await database.collect_garbage(interval_secs=0)
    assert await behind.count() == await collection.count() == 59
    await beside.close()
    await database.close()


async def test_what_clones_share_goes_when_nobody_needs_it() -> None:
    store = FaultyStore(can_delete=False)
    database = await Database.open(store, SETTINGS)
    await _filled(database)
    origin = await database.collection("points")
    clone = await database.clone_collection("points", "trial")
    assert await _below(store, clone) == {"head": 1}
    await origin.delete([str(i) for i in range(50)])
    await _written_anew(database, origin)
    fresh = await Database.open(store, SETTINGS)
    assert await (await fresh.collection("trial")).count() == await clone.count() == 60
    await database.drop_collection("points")
    await _written_anew(database)
    assert (await _below(store, origin))["seg"] == 2  # what it had when it was cloned, and no more
    assert await (await fresh.collection("trial")).count() == await clone.count() == 60
    await clone.delete(["1"])
    await _written_anew(database, clone)
    assert set(await _below(store, origin)) == {"head", "wal"}
    assert await (await fresh.collection("trial")).count() == await clone.count() == 59
    await fresh.close()
    await database.close()


async def test_snapshots_of_a_dropped_collection_keep_nothing() -> None:
    store = FaultyStore(can_delete=False)
    database = await Database.open(store, SETTINGS)
    await _filled(database)
    collection = await database.collection("points")
    await collection.create_snapshot("first")
    await database.drop_collection("points")
    await _written_anew(database)
    assert set(await _below(store, collection)) == {"head", "wal"}
    await database.close()


async def _written_anew(database: Database, collection: Collection | None = None) -> None:
    """Everything that the collection names is of its own, and as many rounds go by as free what it named before."""
    for _ in range(4):
        if collection is not None:
            maintenance = collection.writers[0].maintenance
            assert maintenance is not None
            await maintenance.fold()
            await maintenance.merge(collection.shards[0].state.segments)
        rounds = await database.collect_garbage(interval_secs=0, force=True)
        assert not [each for each in rounds if each.error or each.done.refused]


async def _below(store: FaultyStore, collection: Collection) -> Counter[str]:
    prefix = collection.shards[0].prefix
    return Counter([info.key.split("/")[5] async for info in store.list_from(f"{prefix}/")]) - Counter(lease=9)


async def test_nodes_collect_by_themselves() -> None:
    store = FaultyStore(can_delete=False)
    settings = replace(SETTINGS, storage=replace(SETTINGS.storage, gc_interval_secs=1))
    database = await Database.open(store, settings)
    await _filled(database)
    before = await _segments(store)
    deleted, delete = asyncio.Event(), store.inner.delete_many

    async def tells(keys: Iterable[str]) -> None:
        doomed = list(keys)
        await delete(doomed)
        if doomed:
            deleted.set()

    store.inner.delete_many = tells  # type: ignore[method-assign]
    await asyncio.wait_for(deleted.wait(), 60)
    assert await _segments(store) < before
    await database.close()


async def test_work_of_an_epoch_that_is_over_begins_anew() -> None:
    store = FaultyStore(can_delete=False)
    database = await Database.open(store, SETTINGS)
    await _filled(database)
    collection = await database.collection("points")
    for _ in range(3):
        await database.collect_garbage(interval_secs=0)
    await collection.delete(["1"])
    await collection.writers[0].maintenance.fold()  # type: ignore[union-attr]
    assert collection.shards[0].state.slots_in_tail == 1  # it learnt of the epoch by being refused
    await collection.writers[0].maintenance.fold()  # type: ignore[union-attr]
    assert collection.shards[0].state.slots_in_tail == 0
    assert await collection.count() == 59
    await database.close()


async def test_a_read_only_database_collects_nothing() -> None:
    store = FaultyStore(can_delete=False)
    await (await Database.open(store, SETTINGS)).close()
    reader = await Database.open(store, SETTINGS, read_only=True)
    with pytest.raises(ReadOnlyError):
        await reader.collect_garbage()
    await reader.close()
