"""Snapshots of several shards: one name for a part in each, whole or told not to be; reverts that are finished."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from uuid import uuid4

import numpy as np
import pytest

from akidb.collection import Collection, requests
from akidb.collection.routing import route
from akidb.collection.snapshots import Snapshots
from akidb.database import Database
from akidb.errors import (
    AkiDBError,
    ConflictError,
    DeadlineExceededError,
    InvalidInputError,
    NotFoundError,
    PartialWriteError,
    ReadOnlyError,
)
from akidb.query import SearchQuery
from akidb.types import CollectionSpec, Consistency, Metric
from tests.unit.collection.faults import DIM, SETTINGS, FaultyStore

SHARDS = 3
SPEC = CollectionSpec("points", DIM, Metric.EUCLIDEAN, shard_count=SHARDS)
IN_SHARD = {number: [f"{n}" for n in range(30) if route([f"{n}"], SHARDS)[0][0] == number] for number in range(SHARDS)}
RNG = np.random.default_rng(7)


@pytest.fixture
async def points(database: Database) -> Collection:
    return await database.create_collection(SPEC)


@pytest.fixture
async def other(store: FaultyStore, points: Collection) -> AsyncIterator[Collection]:
    """The same collection on another node, whose calls never fail."""
    node = await Database.open(store.inner, SETTINGS)
    yield await node.collection("points")
    await node.close()


async def _fill(collection: Collection, ids: range, tag: str) -> None:
    data = RNG.standard_normal((len(ids), DIM)).astype(np.float32)
    await collection.upsert([str(i) for i in ids], data, [{"tag": tag} for _ in ids])


async def _all(collection: Collection, as_of: str | None = None) -> list[tuple[str, bytes | None, int]]:
    points = await collection.scroll(limit=1000, consistency=Consistency.parse(None, as_of))
    assert len(points) == await collection.count(consistency=Consistency.parse(None, as_of))
    return [(point.id, point.payload_json, point.version) for point in points]


def _fail(store: FaultyStore, call: str, part: str) -> None:
    store.fault = lambda _, name, key: "before" if name == call and part in key else None


async def _torn(store: FaultyStore, points: Collection) -> None:
    """Makes snapshot `torn`, of which shard 1 has no part."""
    _fail(store, "put_if_match", "/0001/head")
    with pytest.raises(PartialWriteError, match=r"1 of 3 shards did not keep their part of snapshot 'torn'.*shard 1: "):
        await points.create_snapshot("torn")
    store.heal()


async def test_a_snapshot_of_all_shards_is_read_reverted_to_and_dropped(points: Collection, other: Collection) -> None:
    await _fill(points, range(30), "old")
    before = await _all(points)
    made = await points.create_snapshot("first")
    assert (made.name, made.points, made.complete) == ("first", 30, True)
    assert await other.list_snapshots() == [made]
    await _fill(points, range(20, 40), "new")
    await points.delete(["1"])
    changed = await _all(points)
    for node in (points, other):
        assert await _all(node, "first") == before
        for ids in IN_SHARD.values():
            found = await node.get(ids, consistency=Consistency(as_of="first"))
            assert [point and point.payload for point in found] == [{"tag": "old"}] * len(ids)
    query = SearchQuery(np.zeros(DIM, np.float32), top_k=40, exact=True)
    (hits,) = await other.search([query], consistency=Consistency(as_of="first"))
    assert len(hits) == 30
    done = await other.revert("first")
    assert await _all(points) == await _all(other) == before
    assert await _all(points, done.before) == changed
    assert [made.name for made in await points.list_snapshots()] == ["first", done.before]
    assert all(made.complete for made in await points.list_snapshots())
    again = await points.revert(done.before)
    assert await _all(other) == changed
    for name in ("first", done.before, again.before):
        await other.drop_snapshot(name)
    assert await points.list_snapshots() == []


async def test_what_is_not_whole_is_told_so_and_can_be_dropped(
    points: Collection, other: Collection, store: FaultyStore, database: Database
) -> None:
    await _fill(points, range(30), "old")
    await points.create_snapshot("good")
    await _torn(store, points)
    assert [(made.name, made.complete) for made in await other.list_snapshots()] == [("good", True), ("torn", False)]
    assert await _all(other, "9999-12-31T00:00:00Z") == await _all(other, "good")
    for node in (points, other):
        with pytest.raises(NotFoundError, match="no snapshot 'torn' that is whole") as caught:
            await _all(node, "torn")
        assert caught.value.code == "snapshot_not_found"
        with pytest.raises(NotFoundError, match="whole"):
            await node.get(IN_SHARD[0], consistency=Consistency(as_of="torn"))
        with pytest.raises(NotFoundError, match="whole"):
            await node.revert("torn")
        with pytest.raises(ConflictError, match="not whole") as taken:
            await node.create_snapshot("torn")
        assert taken.value.code == "snapshot_exists"
    with pytest.raises(NotFoundError, match="whole"):
        await database.clone_collection("points", "trial", as_of="torn")
    await other.drop_snapshot("torn")
    made = await points.create_snapshot("torn")
    assert [each.name for each in await other.list_snapshots()] == ["good", "torn"]
    assert (made.complete, made.points) == (True, 30)


async def test_nothing_is_kept_where_the_first_shard_keeps_nothing(points: Collection, store: FaultyStore) -> None:
    _fail(store, "put_if_match", "/0000/head")
    with pytest.raises(AkiDBError) as failed:
        await points.create_snapshot("first")
    assert not isinstance(failed.value, PartialWriteError)
    store.heal()
    assert await points.list_snapshots() == []


async def test_parts_of_two_snapshots_of_a_name_are_not_one(points: Collection, other: Collection) -> None:
    """As racing makers could leave them of whom one died."""
    await _fill(points, range(30), "old")
    deadline = time.monotonic() + 60
    for writer in points.writers:
        await writer.snapshots.create("mixed", uuid4(), deadline)
    assert [made.complete for made in await other.list_snapshots()] == [False]
    with pytest.raises(NotFoundError, match="whole"):
        await _all(other, "mixed")


async def test_racing_makers_of_one_name_make_one(points: Collection, other: Collection) -> None:
    await _fill(points, range(30), "old")
    both = await asyncio.gather(*(n.create_snapshot("x") for n in (points, other)), return_exceptions=True)
    assert sorted(type(made).__name__ for made in both) == ["ConflictError", "SnapshotInfo"]
    (listed,) = await other.list_snapshots()
    assert listed.complete


@pytest.mark.parametrize("fault", ["before", "after"])
async def test_a_fault_at_any_call_leaves_a_snapshot_or_what_can_be_dropped(
    points: Collection, other: Collection, store: FaultyStore, fault: str
) -> None:
    await _fill(points, range(30), "old")
    before = await _all(points)
    step, is_reached = 0, True
    while is_reached:
        step += 1
        store.heal()
        store.fault = lambda number, call, key, at=step: fault if number == at else None  # type: ignore[misc, return-value]
        try:
            made = await points.create_snapshot("first")
            assert made.complete
            is_reached = len(store.calls) >= step
        except AkiDBError:
            store.heal()
            for each in await points.list_snapshots():
                await points.drop_snapshot(each.name)
            await points.create_snapshot("first")
        store.heal()
        assert await _all(other, "first") == before
        await points.drop_snapshot("first")
    assert step > 9
    assert await _all(other) == before


async def test_a_drop_that_failed_goes_on(points: Collection, other: Collection, store: FaultyStore) -> None:
    await _fill(points, range(30), "old")
    await points.create_snapshot("first")
    _fail(store, "put_if_absent", "/0002/wal/")
    with pytest.raises(PartialWriteError, match=r"did not forget their part of snapshot 'first'") as partial:
        await points._kept.drop("first", time.monotonic() + 3)
    assert list(partial.value.failures) == [2]
    assert [made.complete for made in await other.list_snapshots()] == [False]
    with pytest.raises(ConflictError):
        await other.create_snapshot("first")
    store.heal()
    await points.drop_snapshot("first")
    assert await other.list_snapshots() == []
    with pytest.raises(NotFoundError):
        await other.drop_snapshot("first")


async def test_a_revert_that_failed_in_a_shard_is_finished_under_its_key(
    points: Collection, other: Collection, store: FaultyStore
) -> None:
    await _fill(points, range(30), "old")
    old = await _all(points)
    await points.create_snapshot("first")
    await _fill(points, range(30), "new")
    new = await _all(points)
    _fail(store, "put_if_absent", "/0001/wal/")
    with pytest.raises(
        PartialWriteError, match=r"1 of 3 shards did not go back to snapshot 'first': shard 1"
    ) as partial:
        await points.revert("first", idempotency_key="k", timeout_ms=3000)
    assert (set(partial.value.written), set(partial.value.failures)) == ({0, 2}, {1})
    assert isinstance(partial.value.failures[1], DeadlineExceededError)
    store.heal()
    half = {id_: text for id_, text, _ in await _all(other)}
    in_one = set(IN_SHARD[1])
    assert {id_ for id_, text in half.items() if text == b'{"tag":"old"}'} >= set(half) - in_one
    await other.upsert([IN_SHARD[0][0]], np.ones((1, DIM)), [{"tag": "later"}])
    done = await other.revert("first", idempotency_key="k")
    assert await points.revert("first", idempotency_key="k") == done
    seen = await _all(points)
    assert seen == await _all(other)
    assert [point for point in seen if point[0] != IN_SHARD[0][0]] == [p for p in old if p[0] != IN_SHARD[0][0]]
    assert {id_: text for id_, text, _ in seen}[IN_SHARD[0][0]] == b'{"tag":"later"}'
    assert await _all(other, done.before) == new
    with pytest.raises(InvalidInputError) as reused:
        await other.revert("another", idempotency_key="k")
    assert reused.value.code == "idempotency_key_reused"


async def test_a_revert_that_failed_in_a_shard_is_finished_by_another(
    points: Collection, other: Collection, store: FaultyStore
) -> None:
    await _fill(points, range(30), "old")
    old = await _all(points)
    await points.create_snapshot("first")
    await _fill(points, range(30), "new")
    _fail(store, "put_if_absent", "/0001/wal/")
    with pytest.raises(PartialWriteError):
        await points.revert("first", timeout_ms=3000)
    store.heal()
    await other.revert("first")
    assert await _all(points) == await _all(other) == old


async def test_a_revert_under_a_key_is_done_once_also_when_its_snapshot_is_gone(
    points: Collection, other: Collection
) -> None:
    await _fill(points, range(30), "old")
    await points.create_snapshot("first")
    done = await points.revert("first", idempotency_key="k")
    await points.drop_snapshot("first")
    await _fill(points, range(30), "new")
    new = await _all(points)
    assert await other.revert("first", idempotency_key="k") == done
    assert await _all(other) == new


async def test_a_key_that_was_forgotten_names_nothing_twice(
    points: Collection, other: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "RETENTION_SECS", -1)
    await _fill(points, range(30), "old")
    await points.create_snapshot("first")
    done = await points.revert("first", idempotency_key="k")
    await _fill(points, range(30), "new")
    for writer in points.writers:
        assert writer.maintenance is not None
        await writer.maintenance.fold()
    with pytest.raises(InvalidInputError) as reused:
        await points.revert("first", idempotency_key="k")
    assert reused.value.code == "idempotency_key_reused"

    async def unchecked(*_: object) -> None:
        pass

    monkeypatch.setattr(Snapshots, "_check_before", unchecked)  # as if another node reverted between look and write
    await points.revert("first", idempotency_key="k")
    await _fill(points, range(30), "last")
    for writer in points.writers:
        assert writer.maintenance is not None
        await writer.maintenance.fold()
        assert writer.shard.state.slots_in_tail == 0
    listed = [made.name for made in await other.list_snapshots()]
    assert (listed[:2], len(listed)) == (["first", done.before], 3)
    assert await _all(other, done.before) != await _all(other)


async def test_a_snapshot_of_all_shards_is_cloned(points: Collection, database: Database) -> None:
    await _fill(points, range(30), "old")
    old = await _all(points)
    await points.create_snapshot("first")
    await _fill(points, range(10, 40), "new")
    clone = await database.clone_collection("points", "trial", as_of="first")
    await points.drop_snapshot("first")
    await database.drop_collection("points")
    await database.collect_garbage()
    assert await _all(clone) == old


async def test_full_shards_are_told_before_anything_is_kept(
    points: Collection, other: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await points.writers[2].snapshots.create("odd", uuid4(), time.monotonic() + 60)
    monkeypatch.setattr("akidb.manifest.pins.PINS_MAX", 1)
    with pytest.raises(ConflictError) as full:
        await other.create_snapshot("first")
    assert full.value.code == "too_many_snapshots"
    assert [made.name for made in await other.list_snapshots()] == ["odd"]


async def test_a_read_only_handle_reads_snapshots_and_makes_none(points: Collection, store: FaultyStore) -> None:
    await _fill(points, range(30), "old")
    await points.create_snapshot("first")
    node = await Database.open(store.inner, SETTINGS, read_only=True)
    reader = await node.collection("points")
    assert len(await _all(reader, "first")) == 30
    for call in (reader.create_snapshot, reader.drop_snapshot, reader.revert):
        with pytest.raises(ReadOnlyError):
            await call("first")
    await node.close()
