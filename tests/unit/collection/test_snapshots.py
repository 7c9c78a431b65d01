"""Snapshots: exact points in time, readable, revertible, forgotten; on this node, on others and after a restart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from types import SimpleNamespace

import numpy as np
import pytest

from akidb.collection import Collection
from akidb.database import Database
from akidb.errors import ConflictError, InvalidInputError, NotFoundError, ReadOnlyError
from akidb.manifest.pins import PINS_BYTES_MAX
from akidb.query import SearchQuery
from akidb.types import CollectionSpec, Consistency, IndexParams, Metric, Point
from tests.unit.collection.faults import DIM, SETTINGS, FaultyStore

SPEC = CollectionSpec("points", DIM, Metric.EUCLIDEAN, IndexParams(min_vectors_threshold=50))
RNG = np.random.default_rng(3)


async def _fill(collection: Collection, ids: range | list[int], tag: str = "") -> None:
    data = RNG.standard_normal((len(ids), DIM)).astype(np.float32)
    await collection.upsert([str(i) for i in ids], data, [{"tag": tag} for _ in ids])


async def _all(collection: Collection, as_of: str | None = None) -> list[tuple[str, bytes, bytes | None, int]]:
    points = await collection.scroll(limit=1000, with_vector=True, consistency=Consistency.parse(None, as_of))
    assert len(points) == await collection.count(consistency=Consistency.parse(None, as_of))
    return [_told(point) for point in points]


def _told(point: Point) -> tuple[str, bytes, bytes | None, int]:
    assert point.vector is not None
    return point.id, point.vector.tobytes(), point.payload_json, point.version


@pytest.fixture
async def points(database: Database) -> Collection:
    return await database.create_collection(SPEC)


@pytest.fixture
async def other(store: FaultyStore, points: Collection) -> AsyncIterator[Collection]:
    """The same collection on another node."""
    node = await Database.open(store, SETTINGS)
    yield await node.collection("points")
    for opened in node.at_hand:
        await opened.close()


async def test_a_snapshot_is_of_what_was_acknowledged_before_it(points: Collection, other: Collection) -> None:
    await _fill(points, range(10))
    made = await other.create_snapshot("first")
    assert (made.name, made.lsn, made.points) == ("first", 1, 10)
    assert made.created is not None
    assert await points.list_snapshots() == [made]


async def test_a_snapshot_is_read_as_it_was(points: Collection, other: Collection) -> None:
    await _fill(points, range(60), "old")
    await points.delete(["3"])
    before = await _all(points)
    await points.create_snapshot("first")
    await _fill(points, range(30, 90), "new")
    await points.delete(["1", "2", "40"])
    await points.wait_indexed()
    for node in (points, other):
        assert await _all(node, as_of="first") == before
        assert await _all(node) != before
        as_of = Consistency.parse(None, "first")
        gone, there = await node.get(["3", "4"], consistency=as_of)
        assert gone is None
        assert there is not None
        assert _told(there) == dict(zip([p[0] for p in before], before, strict=True))["4"]
        query = np.frombuffer(before[40][1], np.float32)
        ((hit,),) = await node.search([SearchQuery(query, top_k=1, exact=True)], consistency=as_of)
        assert hit.id == before[40][0]


async def test_a_revert_is_one_write_that_every_node_sees(points: Collection, other: Collection) -> None:
    await _fill(points, range(60), "old")
    before = await _all(points)
    await points.create_snapshot("first")
    await _fill(points, range(30, 90), "new")
    await points.delete(["1"])
    assert await _all(other) == await _all(points)  # both hold the tail that is to be reverted
    lsn = points.lsn
    done = await other.revert("first")
    assert done.lsn == lsn + 1
    assert await _all(points) == await _all(other) == before
    await _fill(points, [1, 100], "after")
    after = await _all(points)
    assert {point[0]: point[3] for point in after}["100"] == done.lsn + 1
    assert await _all(other) == after
    assert [point for point in after if point[0] not in ("1", "100")] == [p for p in before if p[0] != "1"]


async def test_a_revert_can_be_reverted(points: Collection, other: Collection) -> None:
    await _fill(points, range(20), "old")
    await points.create_snapshot("first")
    await _fill(points, range(10, 30), "new")
    changed = await _all(points)
    done = await points.revert("first")
    assert [made.name for made in await other.list_snapshots()] == ["first", done.before]
    assert await _all(other, as_of=done.before) == changed
    again = await other.revert(done.before)
    assert await _all(points) == changed
    assert [made.name for made in await points.list_snapshots()] == ["first", done.before, again.before]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The store's: `now` in seconds, and how RFC 3339 writes it."""

    def told(seconds: float, zone: tzinfo = UTC) -> str:
        return datetime.fromtimestamp(seconds, zone).isoformat()

    made = SimpleNamespace(now=1_000_000.0, told=told, time=lambda: made.now)
    monkeypatch.setattr("akidb.storage.memory.time", made)
    return made


async def test_a_time_means_the_newest_snapshot_made_by_then(
    points: Collection, other: Collection, clock: SimpleNamespace
) -> None:
    states = []
    for n, seconds in enumerate((100.0, 200.9, 300.0)):
        clock.now = seconds
        await _fill(points, range(n + 1), f"{n}")
        await points.create_snapshot(f"s{n}")
        states.append(await _all(points))
        clock.now += 50
        await _fill(points, range(50), "between")
    clock.now = 400.0
    done = await points.revert("s0")  # what it kept was true before the time at which it was kept
    assert (await points.list_snapshots())[-1].name == done.before
    for seconds, state in ((100, 0), (199, 0), (200, 1), (299.5, 1), (300, 2), (399, 2), (400, 2), (9e9, 2)):
        assert await _all(other, as_of=clock.told(seconds)) == states[state], seconds
    assert await _all(other, as_of="1970-01-01T00:03:20Z") == states[1]
    assert await _all(other, as_of=clock.told(200, timezone(timedelta(hours=-5)))) == states[1]
    await points.drop_snapshot("s1")
    assert await _all(other, as_of=clock.told(250)) == states[0]


async def test_a_time_before_all_snapshots_is_refused_with_the_oldest(
    points: Collection, other: Collection, clock: SimpleNamespace
) -> None:
    for seconds, oldest in ((100.0, "there is none"), (200.0, "made at 1970-01-01T00:01:40")):
        with pytest.raises(NotFoundError, match=oldest) as refused:
            await _all(other, as_of=clock.told(99.9))
        assert refused.value.code == "snapshot_not_found"
        clock.now = seconds
        await points.create_snapshot(f"at-{seconds}")


@pytest.mark.parametrize("as_of", ["2026-01-31T18:00:00", "18:00Z", "yesterday 18:00", "a:b", ":"])
async def test_what_is_no_name_and_no_time_with_a_zone_is_refused(points: Collection, as_of: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        await _all(points, as_of=as_of)
    assert (refused.value.code, refused.value.faults[0].loc) == ("invalid_snapshot", ("as_of",))


async def test_reverts_that_are_not_folded_are_in_the_log(points: Collection, store: FaultyStore) -> None:
    await _fill(points, range(20), "old")
    before = await _all(points)
    await points.create_snapshot("first")
    await _fill(points, range(10, 30), "new")
    store.fault = lambda number, call, key: "before" if call == "put_if_match" else None  # no fold gets through
    first = await points.revert("first")
    await _fill(points, range(40, 50), "between")
    between = await _all(points)
    second = await points.revert("first")
    await _fill(points, [7], "last")
    last = await _all(points)
    assert [p for p in last if p[0] != "7"] == [p for p in before if p[0] != "7"]
    store.heal()
    fresh = await Database.open(store.inner, SETTINGS)
    anew = await fresh.collection("points")
    assert await _all(anew) == last
    for _ in range(3):
        await points.writers[0].maintenance.fold()  # type: ignore[union-attr]
    assert await _all(points) == await _all(anew) == last
    assert await _all(anew, as_of=second.before) == between
    assert len(await _all(anew, as_of=first.before)) == 30
    await anew.close()


async def test_requests_are_not_undone_by_a_revert(points: Collection, other: Collection) -> None:
    await _fill(points, range(5))
    await points.create_snapshot("first")
    data = np.zeros((1, DIM), np.float32)
    lsn = await points.upsert(["new"], data, idempotency_key="k")
    await points.revert("first")
    assert await other.upsert(["new"], data, idempotency_key="k") == lsn
    assert await other.get(["new"]) == [None]


async def test_conditions_go_by_the_reverted_points(points: Collection, other: Collection) -> None:
    await _fill(points, range(5))
    await points.create_snapshot("first")
    await _fill(points, range(5))
    await points.revert("first")
    data = np.zeros((1, DIM), np.float32)
    with pytest.raises(ConflictError, match="version"):
        await other.upsert(["1"], data, if_version=2)
    await other.upsert(["1"], data, if_version=1)


async def test_a_dropped_snapshot_is_gone_and_its_name_free(points: Collection, other: Collection) -> None:
    await _fill(points, range(5))
    await points.create_snapshot("first")
    await _fill(points, range(9))
    await other.drop_snapshot("first")
    for node in (points, other):
        assert await node.list_snapshots() == []
        for call in (node.drop_snapshot, node.revert):
            with pytest.raises(NotFoundError, match="no snapshot 'first'"):
                await call("first")
        with pytest.raises(NotFoundError, match="no snapshot 'first'"):
            await _all(node, as_of="first")
    assert (await points.create_snapshot("first")).points == 9


async def test_a_drop_does_not_overtake_a_revert(points: Collection, other: Collection, store: FaultyStore) -> None:
    await _fill(points, range(20), "old")
    before = await _all(points)
    await points.create_snapshot("first")
    await _fill(points, range(10, 30), "new")
    await other.count()
    store.fault = lambda number, call, key: "before" if call == "put_if_match" else None  # no fold gets through
    await points.revert("first")
    await other.drop_snapshot("first")
    assert [made.name for made in await points.list_snapshots()] == []
    store.heal()
    assert await _all(other) == before
    for _ in range(4):
        await other.writers[0].maintenance.fold()  # type: ignore[union-attr]
    assert await _all(points) == await _all(other) == before
    assert [pin.name for pin in other.shards[0].state.head.pins] == ["before-revert-3"]


async def test_what_a_snapshot_keeps_is_not_collected(points: Collection, store: FaultyStore) -> None:
    await _fill(points, range(60))
    await points.wait_indexed()
    before = await _all(points)
    await points.create_snapshot("first")
    await points.delete([str(i) for i in range(50)])
    await points.writers[0].maintenance.fold()  # type: ignore[union-attr]
    await points.writers[0].maintenance.merge(points.shards[0].state.segments)  # type: ignore[union-attr]
    kept = [info.key async for info in store.list_from(points.shards[0].prefix) if "/seg/" in info.key]
    assert len(kept) == 2
    points.shards[0]._pinned.clear()
    assert await _all(points, as_of="first") == before
    await points.drop_snapshot("first")
    await points.writers[0].maintenance.fold()  # type: ignore[union-attr]
    keys = [info.key.split("/")[-2] async for info in store.list_from(points.shards[0].prefix)]
    assert "man" not in keys
    assert keys.count("seg") == 1


@pytest.mark.parametrize("name", ["", "a b", "../x", "x" * 65, "-x", None, 3, "before-revert-7", "at-20260131T180000Z"])
async def test_a_bad_name_is_refused(points: Collection, name: object) -> None:
    with pytest.raises(InvalidInputError) as caught:
        await points.create_snapshot(name)  # type: ignore[arg-type]
    assert caught.value.code == "invalid_snapshot"
    assert await points.list_snapshots() == []


async def test_a_taken_name_is_refused(points: Collection, other: Collection) -> None:
    made = await points.create_snapshot("first")
    assert (made.lsn, made.points) == (0, 0)
    with pytest.raises(ConflictError) as caught:
        await other.create_snapshot("first")
    assert caught.value.code == "snapshot_exists"


async def test_racing_creators_of_one_name_make_one(points: Collection, other: Collection) -> None:
    await _fill(points, range(5))
    both = await asyncio.gather(*(n.create_snapshot("x") for n in (points, other)), return_exceptions=True)
    assert sorted(type(made).__name__ for made in both) == ["ConflictError", "SnapshotInfo"]


async def test_more_snapshots_than_head_has_room_for_are_refused(
    points: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("akidb.manifest.pins.PINS_BYTES_MAX", 150)
    assert PINS_BYTES_MAX == 56 << 10
    for name in ("a", "b", "c"):
        await points.create_snapshot(name)
    with pytest.raises(ConflictError) as caught:
        await points.create_snapshot("d")
    assert caught.value.code == "too_many_snapshots"
    with pytest.raises(ConflictError) as caught:
        await points.revert("a")
    assert caught.value.code == "too_many_snapshots"


async def test_a_read_only_handle_reads_snapshots_and_makes_none(points: Collection, store: FaultyStore) -> None:
    await _fill(points, range(5))
    made = await points.create_snapshot("first")
    node = await Database.open(store, SETTINGS, read_only=True)
    reader = await node.collection("points")
    assert await reader.list_snapshots() == [made]
    assert len(await _all(reader, as_of="first")) == 5
    for call in (reader.create_snapshot, reader.drop_snapshot, reader.revert):
        with pytest.raises(ReadOnlyError):
            await call("first")
    await reader.close()
