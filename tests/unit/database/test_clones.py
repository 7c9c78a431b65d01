"""Clones: the points of another collection without a copy, and objects that stay for as long as either needs them."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from akidb.collection import Collection
from akidb.database import Database, garbage
from akidb.errors import (
    AkiDBError,
    ConflictError,
    DeadlineExceededError,
    InvalidInputError,
    NotFoundError,
    ReadOnlyError,
    UnavailableError,
)
from akidb.types import CollectionSpec, Consistency, IndexParams, Metric, Point
from tests.unit.collection.faults import DIM, SETTINGS, FaultyStore

SPEC = CollectionSpec("points", DIM, Metric.EUCLIDEAN, IndexParams(min_vectors_threshold=50))
RNG = np.random.default_rng(11)


@pytest.fixture
async def points(database: Database) -> Collection:
    return await database.create_collection(SPEC)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makers of clones are taken for dead at once."""
    monkeypatch.setattr(garbage, "ABANDONED_SECS", 0)


async def _fill(collection: Collection, ids: range, tag: str = "") -> None:
    data = RNG.standard_normal((len(ids), DIM)).astype(np.float32)
    await collection.upsert([str(i) for i in ids], data, [{"tag": tag} for _ in ids])


async def _all(collection: Collection, as_of: str | None = None) -> list[tuple[str, bytes, bytes | None, int]]:
    points = await collection.scroll(limit=1000, with_vector=True, consistency=Consistency.parse(None, as_of))
    return [_told(point) for point in points]


def _told(point: Point) -> tuple[str, bytes, bytes | None, int]:
    assert point.vector is not None
    return point.id, point.vector.tobytes(), point.payload_json, point.version


async def _keys(store: FaultyStore, collection: Collection) -> list[str]:
    """What lies below the collection's prefix but leases: folders of immutable objects, `wal` and `head`."""
    prefix = collection.shards[0].prefix.rpartition("/")[0]
    found = [info.key.split("/")[5] async for info in store.inner.list_from(f"{prefix}/")]
    return [folder for folder in found if folder != "lease"]


async def _rewrite(collection: Collection) -> None:
    """All that the collection names is its own then."""
    for writer in collection.writers:
        assert writer.maintenance is not None
        await writer.maintenance.fold()
        await writer.maintenance.merge(writer.shard.state.segments)


async def _fold(collection: Collection) -> None:
    for writer in collection.writers:
        assert writer.maintenance is not None
        await writer.maintenance.fold()


async def _seen_anew(store: FaultyStore, name: str) -> list[tuple[str, bytes, bytes | None, int]]:
    """The points as a node has them that knows nothing but the store."""
    node = await Database.open(store.inner, SETTINGS)
    seen = await _all(await node.collection(name))
    await node.close()
    return seen


async def test_a_clone_has_the_points_and_copies_nothing(
    database: Database, points: Collection, store: FaultyStore
) -> None:
    await _fill(points, range(60))
    await points.delete(["7"])
    before = await _all(points)
    clone = await database.clone_collection("points", "trial")
    assert clone.spec == replace(points.spec, name="trial")
    assert await _all(clone) == await _seen_anew(store, "trial") == before
    assert await _keys(store, clone) == ["head"]
    assert clone.lsn == points.lsn


async def test_both_go_on_by_themselves(database: Database, points: Collection, store: FaultyStore) -> None:
    await _fill(points, range(60), "old")
    clone = await database.clone_collection("points", "trial")
    before = await _all(points)
    lsn = await clone.upsert(["1"], np.zeros((1, DIM)), if_version=1)
    assert lsn == points.lsn + 1
    await clone.delete(["2"])
    assert await _all(points) == before
    await _fill(points, range(50, 70), "new")
    await points.delete(["1"])
    for _ in range(2):
        await _fold(clone)
        await _fold(points)
    after = await _all(clone)
    assert [point for point in after if point[0] not in ("1", "2")] == [p for p in before if p[0] not in ("1", "2")]
    assert await _seen_anew(store, "trial") == after
    assert len(await _seen_anew(store, "points")) == 69


async def test_what_a_clone_needs_is_not_collected_when_its_origin_changes(
    database: Database, points: Collection, store: FaultyStore
) -> None:
    await _fill(points, range(60))
    await points.wait_indexed()
    await points.delete(["3"])
    await _fold(points)
    before = await _all(points)
    await database.clone_collection("points", "trial")
    await points.delete([str(i) for i in range(50)])
    await _rewrite(points)
    assert await _seen_anew(store, "trial") == before


async def test_a_snapshot_is_cloned_and_may_go(database: Database, points: Collection, store: FaultyStore) -> None:
    await _fill(points, range(60), "old")
    before = await _all(points)
    await points.create_snapshot("first")
    await _fill(points, range(30, 90), "new")
    clone = await database.clone_collection("points", "trial", as_of="first")
    await points.drop_snapshot("first")
    await _rewrite(points)
    assert await _all(clone) == await _seen_anew(store, "trial") == before
    assert await clone.list_snapshots() == []
    assert clone.lsn == 1  # versions of the clone's own writes may be those of later writes to the other


async def test_a_clone_outlives_its_origin(database: Database, points: Collection, store: FaultyStore) -> None:
    await _fill(points, range(60))
    await points.create_snapshot("kept")
    before = await _all(points)
    clone = await database.clone_collection("points", "trial")
    await points.delete([str(i) for i in range(50)])
    await _rewrite(points)
    await database.drop_collection("points")
    await database.collect_garbage()
    assert await _all(clone) == await _seen_anew(store, "trial") == before
    assert (await _keys(store, points)).count("seg") == 1
    await database.drop_collection("trial")
    for _ in range(2):
        await database.collect_garbage()
    for gone in (points, clone):
        assert set(await _keys(store, gone)) == {"head"}


async def test_a_clone_that_has_its_own_objects_needs_no_others(
    database: Database, points: Collection, store: FaultyStore
) -> None:
    await _fill(points, range(60))
    clone = await database.clone_collection("points", "trial")
    await clone.create_snapshot("of-the-origin")
    before = await _all(clone)
    await database.drop_collection("points")
    await clone.delete([str(i) for i in range(40)])
    await _rewrite(clone)
    await database.collect_garbage()
    assert (await _keys(store, points)).count("seg") == 1, "a snapshot of the clone names it"
    await clone.revert("of-the-origin")
    assert await _all(clone) == await _seen_anew(store, "trial") == before
    for info in await clone.list_snapshots():
        await clone.drop_snapshot(info.name)
    await clone.delete([str(i) for i in range(40)])
    await _rewrite(clone)
    await database.collect_garbage()
    assert set(await _keys(store, points)) == {"head"}
    assert await _all(clone) == await _seen_anew(store, "trial") == [p for p in before if int(p[0]) >= 40]


async def test_a_clone_of_a_clone_needs_what_both_were_made_from(
    database: Database, points: Collection, store: FaultyStore
) -> None:
    await _fill(points, range(60))
    before = await _all(points)
    first = await database.clone_collection("points", "first")
    await _fill(first, range(60, 70))
    await database.clone_collection("first", "second")
    both = await _all(first)
    await database.drop_collection("first")
    await database.drop_collection("points")
    for _ in range(3):
        await database.collect_garbage()
    second = await database.collection("second")
    assert await _all(second) == await _seen_anew(store, "second") == both
    assert both[: len(before)] != both
    await _rewrite(second)
    for _ in range(3):
        await database.collect_garbage()
    for gone in (points, first):
        assert set(await _keys(store, gone)) == {"head"}
    assert await _seen_anew(store, "second") == both


async def test_all_shards_are_cloned(database: Database, store: FaultyStore) -> None:
    made = await database.create_collection(replace(SPEC, name="many", shard_count=3))
    await _fill(made, range(90))
    before = await _all(made)
    clone = await database.clone_collection("many", "trial")
    assert len(clone.shards) == 3
    await _fill(clone, range(30), "new")
    await database.drop_collection("many")
    await database.collect_garbage()
    seen = await _seen_anew(store, "trial")
    assert [point for point in seen if int(point[0]) >= 30] == [p for p in before if int(p[0]) >= 30]


async def test_requests_of_the_origin_were_not_made_to_the_clone(database: Database, points: Collection) -> None:
    data = np.zeros((1, DIM), np.float32)
    await points.upsert(["a"], data, idempotency_key="k")
    clone = await database.clone_collection("points", "trial")
    await clone.delete(["a"])
    assert await clone.upsert(["a"], data, idempotency_key="k") == clone.lsn
    assert await clone.count() == 1


async def test_a_clone_under_a_key_is_made_once(database: Database, points: Collection, store: FaultyStore) -> None:
    await _fill(points, range(5))
    made = await database.clone_collection("points", "trial", idempotency_key="k")
    other = await Database.open(store, SETTINGS)
    again = await other.clone_collection("points", "trial", idempotency_key="k")
    assert again.uuid == made.uuid
    with pytest.raises(InvalidInputError) as reused:
        await other.clone_collection("points", "another", idempotency_key="k")
    assert reused.value.code == "idempotency_key_reused"
    await other.drop_collection("points")
    assert (await other.clone_collection("points", "trial", idempotency_key="k")).uuid == made.uuid
    await other.close()


async def test_what_can_not_be_cloned_is_refused_and_keeps_nothing(
    database: Database, points: Collection, store: FaultyStore
) -> None:
    await points.create_snapshot("first")
    with pytest.raises(ConflictError) as taken:
        await database.clone_collection("points", "points")
    assert taken.value.code == "collection_exists"
    for arguments, code in (
        (("none", "trial"), "collection_not_found"),
        (("points", "trial", "x"), "snapshot_not_found"),
    ):
        with pytest.raises(NotFoundError) as missing:
            await database.clone_collection(*arguments[:2], as_of=arguments[2] if len(arguments) > 2 else None)
        assert missing.value.code == code
    with pytest.raises(InvalidInputError) as bad:
        await database.clone_collection("points", "a/b")
    assert bad.value.code == "invalid_collection"
    reader = await Database.open(store, SETTINGS, read_only=True)
    with pytest.raises(ReadOnlyError):
        await reader.clone_collection("points", "trial")
    await reader.close()
    await points.shards[0].refresh()
    assert points.shards[0].state.head.lent == ()
    assert list(await database.list_collections()) == ["points"]


async def test_clones_count_as_snapshots_and_are_not_shown(
    database: Database, points: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("akidb.manifest.pins.PINS_MAX", 2)
    await _fill(points, range(20))
    for name in ("first", "second"):
        await database.clone_collection("points", name)
    assert await points.list_snapshots() == []
    with pytest.raises(ConflictError) as full:
        await database.clone_collection("points", "third")
    assert full.value.code == "too_many_snapshots"


async def test_what_is_kept_for_clones_that_are_gone_makes_room_for_others(
    database: Database, points: Collection, store: FaultyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the next round of garbage collection, whatever needs the room, and on whatever node the clones went."""
    monkeypatch.setattr("akidb.manifest.pins.PINS_MAX", 2)
    await _fill(points, range(20))
    elsewhere = await Database.open(store.inner, SETTINGS)
    await points.create_snapshot("kept")
    for name in ("first", "second"):
        await database.clone_collection("points", name)
        with pytest.raises(ConflictError) as full:
            await elsewhere.clone_collection("points", "another")
        assert full.value.code == "too_many_snapshots", "the clone is there"
        await elsewhere.drop_collection(name)
    await points.create_snapshot("third")
    with pytest.raises(ConflictError):
        await points.revert("kept")
    await points.drop_snapshot("third")
    await database.clone_collection("points", "third")
    await elsewhere.drop_collection("third")
    assert (await points.revert("kept")).before
    await elsewhere.close()


async def test_there_is_no_room_when_it_can_not_be_told_who_needs_what(
    database: Database, points: Collection, store: FaultyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("akidb.manifest.pins.PINS_MAX", 1)
    clone = await database.clone_collection("points", "first")
    await database.drop_collection("first")
    key = clone.shards[0].heads.key
    whole = store.inner._objects.pop(key)
    with pytest.raises(ConflictError) as full:
        await points.create_snapshot("second")
    assert full.value.code == "too_many_snapshots"
    store.inner._objects[key] = whole
    await points.create_snapshot("second")


async def test_a_fault_at_any_call_loses_nothing(
    database: Database, points: Collection, store: FaultyStore, at_once: None
) -> None:
    await _fill(points, range(20))
    await _fold(points)
    await _fill(points, range(20, 25))
    before = await _all(points)
    made = 0
    for kind in ("before", "after"):
        step, is_reached = 0, True
        while is_reached:
            step, made, name = step + 1, made + 1, f"{kind}{step}"
            store.heal()
            store.fault = lambda number, call, key, at=step, how=kind: how if number == at else None  # type: ignore[misc]
            try:
                await database.clone_collection("points", name, idempotency_key=name)
                is_reached = len(store.calls) >= step
            except AkiDBError:
                store.heal()
                await database.clone_collection("points", name, idempotency_key=name)
            store.heal()
            assert await _seen_anew(store, name) == before
        assert step > 6
    for _ in range(2):
        await database.collect_garbage()
    await points.shards[0].refresh()
    assert len(points.shards[0].state.head.lent) == made  # none of those who failed is left
    assert await _all(points) == before


@pytest.mark.parametrize("at", ["/head", "/cat/wal/"])
async def test_a_clone_is_not_made_of_what_was_dropped_meanwhile(
    database: Database, points: Collection, store: FaultyStore, at: str, at_once: None
) -> None:
    await _fill(points, range(20))
    store.pause_at = ("put_if_absent", at)
    cloning = asyncio.create_task(database.clone_collection("points", "trial"))
    await store.paused.wait()
    other = await Database.open(store.inner, SETTINGS)
    await other.drop_collection("points")
    store.go.set()
    with pytest.raises(NotFoundError, match="dropped meanwhile"):
        await cloning
    assert not await other.list_collections()
    await other.collect_garbage()
    await other.collect_garbage()
    assert set(await _keys(store, points)) == {"head"}
    await other.close()


async def test_a_maker_that_stood_still_does_not_finish(
    database: Database, points: Collection, store: FaultyStore, at_once: None
) -> None:
    """What it kept for the clone is gone by then."""
    await _fill(points, range(20))
    store.pause_at = ("put_if_absent", "/head")
    cloning = asyncio.create_task(database.clone_collection("points", "trial"))
    await store.paused.wait()
    other = await Database.open(store.inner, SETTINGS)
    await other.collect_garbage()
    theirs = await other.collection("points")
    await theirs.shards[0].refresh()
    assert theirs.shards[0].state.head.lent == ()
    store.go.set()
    with pytest.raises(DeadlineExceededError, match="given up"):
        await cloning
    assert list(await other.list_collections()) == ["points"]
    await other.clone_collection("points", "trial")
    await other.collect_garbage()
    assert len(await _seen_anew(store, "trial")) == 20
    await other.close()


async def test_a_maker_has_an_hour(database: Database, points: Collection, store: FaultyStore) -> None:
    await _fill(points, range(20))
    store.pause_at = ("put_if_absent", "/head")
    cloning = asyncio.create_task(database.clone_collection("points", "trial"))
    await store.paused.wait()
    other = await Database.open(store.inner, SETTINGS)
    await other.collect_garbage()
    store.go.set()
    assert await (await cloning).count() == 20
    await other.close()


async def test_a_write_beside_a_clone_is_in_both_or_in_one(
    database: Database, points: Collection, store: FaultyStore
) -> None:
    """The clone is of one slot, which no write acknowledged before comes after."""
    await _fill(points, range(20))
    store.pause_at = ("put_if_match", points.shards[0].prefix)
    cloning = asyncio.create_task(database.clone_collection("points", "trial"))
    await store.paused.wait()
    other = await Database.open(store.inner, SETTINGS)
    theirs = await other.collection("points")
    await _fill(theirs, range(20, 30))
    store.go.set()
    clone = await cloning
    assert await clone.count() in (20, 30)
    assert await theirs.count() == 30
    await other.close()


async def test_a_store_that_is_away_is_told(database: Database, points: Collection, store: FaultyStore) -> None:
    await _fill(points, range(3))
    store.fault = lambda number, call, key: "before"
    with pytest.raises((UnavailableError, DeadlineExceededError)):
        await database.clone_collection("points", "trial")
