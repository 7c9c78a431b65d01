"""Collections of several shards: points spread by their ids, batches atomic in each, one answer of them all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from uuid import uuid4

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from akidb.collection import Collection
from akidb.collection.routing import route
from akidb.database import Database
from akidb.errors import (
    ConflictError,
    DeadlineExceededError,
    InvalidInputError,
    NotFoundError,
    PartialWriteError,
    UnavailableError,
)
from akidb.filter import parse
from akidb.session import joined, parse_token, session_token
from akidb.storage.memory import MemoryStore
from akidb.types import EVENTUAL, SHARDS_MAX, CollectionSpec, Consistency, IndexParams, Metric
from tests.unit.collection.faults import DIM, SETTINGS, FaultyStore, Oracle

SHARDS = 3
SPEC = CollectionSpec("points", DIM, Metric.EUCLIDEAN, shard_count=SHARDS)
ALL = parse({"must": [{"exists": "x"}]})
NAMES = {number: [f"{n}" for n in range(30) if route([f"{n}"], SHARDS)[0][0] == number] for number in range(SHARDS)}


@pytest.fixture
async def stores() -> list[FaultyStore]:
    inner = MemoryStore()
    return [FaultyStore(inner), FaultyStore(inner)]


@pytest.fixture
async def nodes(stores: list[FaultyStore]) -> AsyncIterator[list[Database]]:
    databases = [await Database.open(store, SETTINGS) for store in stores]
    await databases[0].create_collection(SPEC)
    yield databases
    for store in stores:
        store.heal()
    for database in databases:
        await database.close()


@pytest.fixture
async def collection(nodes: list[Database]) -> Collection:
    return await nodes[0].collection("points")


def test_where_points_go_stays_as_it_is() -> None:
    """Another hash would look for stored points in shards where they are not."""
    ids = ["0", "1", "2", "east", "köln", "x" * 512]
    numbers = np.empty(len(ids), np.int64)
    for number, chosen in route(ids, 7):
        numbers[chosen] = number
    assert numbers.tolist() == [3, 6, 2, 4, 3, 5]


@given(ids=st.lists(st.text(min_size=1).filter(lambda text: text.isprintable())), shards=st.integers(1, SHARDS_MAX))
def test_every_id_goes_to_one_shard_which_depends_on_nothing_else(ids: list[str], shards: int) -> None:
    routed = route(ids, shards)
    places = np.concatenate([chosen for _, chosen in routed]) if routed else np.empty(0, np.int64)
    assert sorted(places.tolist()) == list(range(len(ids)))
    for number, chosen in routed:
        assert 0 <= number < shards
        assert all(route([ids[i]], shards)[0][0] == number for i in chosen.tolist())


def test_points_are_spread_evenly() -> None:
    sizes = [len(chosen) for _, chosen in route([str(n) for n in range(16_000)], 16)]
    assert len(sizes) == 16
    assert 850 < min(sizes) <= max(sizes) < 1150  # a binomial's 1000 within five standard deviations


async def test_all_shards_answer_as_one(nodes: list[Database], collection: Collection) -> None:
    oracle = Oracle()
    await oracle.upsert(collection, range(60))
    await oracle.delete(collection, range(0, 60, 7))
    beside = await nodes[1].collection("points")
    await oracle.check(collection)
    await oracle.check(beside)
    for writer in collection.writers:
        assert writer.maintenance is not None
        await writer.maintenance.fold()
    await oracle.upsert(beside, range(50, 80))
    await oracle.check(collection)
    await oracle.check(beside)
    pages, after = [], None
    while page := await collection.scroll(after=after, limit=7):
        pages, after = [*pages, *(point.id for point in page)], page[-1].id
    assert pages == sorted(oracle.points)
    info = await collection.info()
    assert (info.count, info.segments) == (len(oracle.points), SHARDS)
    assert info.lsn == max(shard.applied for shard in collection.shards)
    assert info.bytes == sum(
        sum(segment.ref.bytes for segment in shard.state.segments) + shard.state.tail_bytes
        for shard in collection.shards
    )


async def test_what_is_folded_is_found_by_a_node_that_comes_later(
    nodes: list[Database], stores: list[FaultyStore]
) -> None:
    made = await nodes[0].create_collection(
        CollectionSpec("graphs", DIM, Metric.EUCLIDEAN, IndexParams(min_vectors_threshold=8), shard_count=SHARDS)
    )
    oracle = Oracle()
    await oracle.upsert(made, range(90))
    await made.wait_indexed()
    state = (await made.info()).index
    assert (state.state, state.indexed, state.pending) == ("ready", 90, 0)
    anew = await Database.open(stores[0].inner, SETTINGS)
    found = await anew.collection("graphs")
    assert [len(shard.state.segments) for shard in found.shards] == [1] * SHARDS
    await oracle.check(found)
    await found.close()


async def test_a_part_that_is_not_written_is_named_and_written_under_the_same_key(
    collection: Collection, stores: list[FaultyStore], nodes: list[Database]
) -> None:
    stores[0].fault = lambda _, call, key: "after" if call == "put_if_absent" and "/0001/wal/" in key else None
    ids, vectors = [names[0] for names in NAMES.values()], np.eye(SHARDS, DIM, dtype=np.float32)

    async def write(node: Collection, timeout_ms: int) -> int:
        return await node.upsert(ids, vectors, if_absent=True, idempotency_key="one", timeout_ms=timeout_ms)

    with pytest.raises(PartialWriteError, match=r"1 of 3 shards.*shard 1: ") as partial:
        await write(collection, 300)
    assert partial.value.written == {0: 1, 2: 1}
    assert {number: error.code for number, error in partial.value.failures.items()} == {1: "outcome_unknown"}
    assert partial.value.retryable
    stores[0].heal()
    beside = await nodes[1].collection("points")
    assert await write(beside, 10_000) == 1
    assert await write(collection, 10_000) == 1
    assert [shard.applied for shard in beside.shards] == [1, 1, 1]
    assert [None if point is None else point.version for point in await beside.get(ids)] == [1, 1, 1]


async def test_nothing_is_called_partial_if_no_part_was_written(
    collection: Collection, stores: list[FaultyStore]
) -> None:
    stores[0].fault = lambda _, call, key: "before" if call == "put_if_absent" else None
    with pytest.raises(DeadlineExceededError) as unknown:
        await collection.upsert(range(30), np.ones((30, DIM)), timeout_ms=200)
    assert unknown.value.code == "outcome_unknown"


async def test_conditions_are_judged_by_each_shard_and_told_by_their_place(collection: Collection) -> None:
    there, elsewhere = NAMES[1][0], NAMES[2][0]
    await collection.upsert([there], np.ones((1, DIM)))
    with pytest.raises(PartialWriteError) as partial:
        await collection.upsert([elsewhere, there], np.ones((2, DIM)), if_version=[0, 0])
    assert partial.value.written == {2: 1}
    assert [fault.loc for fault in partial.value.faults] == [("if_version", 1)]
    assert isinstance(partial.value.failures[1], ConflictError)
    assert not partial.value.retryable
    with pytest.raises(ConflictError) as conflict:
        await collection.delete([elsewhere, there], if_version=7)
    assert conflict.value.code == "version_mismatch"
    assert len(conflict.value.faults) == 2
    with pytest.raises(NotFoundError, match="'nobody'"):
        await collection.patch("nobody", {})
    assert await collection.patch(there, {"n": 1}, if_version=1) == 2


async def test_a_key_is_refused_for_another_request_in_another_shard(collection: Collection) -> None:
    await collection.upsert([NAMES[0][0]], np.ones((1, DIM)), idempotency_key="one")
    with pytest.raises(InvalidInputError) as reused:
        await collection.upsert([NAMES[1][0]], np.ones((1, DIM)), idempotency_key="one")
    assert reused.value.code == "idempotency_key_reused"
    assert [shard.applied for shard in collection.shards] == [1, 0, 0]


async def test_a_filter_deletes_in_all_shards_once(collection: Collection, nodes: list[Database]) -> None:
    await collection.upsert(range(30), np.ones((30, DIM)), [{"x": 1}] * 30)
    assert await collection.delete_where(ALL, idempotency_key="all") == (30, 2)
    await collection.upsert(["0"], np.ones((1, DIM)), [{"x": 1}])
    assert await (await nodes[1].collection("points")).delete_where(ALL, idempotency_key="all") == (30, 2)
    assert await collection.count() == 1


async def test_a_session_sees_its_writes_to_every_shard(collection: Collection, nodes: list[Database]) -> None:
    beside = await nodes[1].collection("points")
    await collection.upsert(range(30), np.ones((30, DIM)))
    token = collection.token
    assert await beside.count(consistency=EVENTUAL) == 0
    assert await beside.count(consistency=Consistency("session", token=token)) == 30
    for wrong in (session_token(collection.uuid, [1]), session_token(collection.uuid, [1] * 4)):
        with pytest.raises(InvalidInputError) as refused:
            await beside.count(consistency=Consistency("session", token=wrong))
        assert refused.value.code == "invalid_token"


def test_tokens_are_joined_shard_by_shard() -> None:
    uuid, other = uuid4(), uuid4()
    joint = joined(session_token(uuid, [3, 1, 2]), session_token(uuid, [1, 4, 2]))
    assert parse_token(joint) == (uuid, (3, 4, 2))
    assert joined("", joint) == joined(joint, "") == joined(session_token(other, [9]), joint) == joint
    assert joined(joint, "another server's") == "another server's"


async def test_strong_reads_ask_all_shards_at_once(collection: Collection, stores: list[FaultyStore]) -> None:
    await collection.count()
    stores[0].calls.clear()
    stores[0].pause_at = ("get", "/0000/wal/")
    counting = asyncio.create_task(collection.count())
    await asyncio.wait_for(stores[0].paused.wait(), 10)
    for _ in range(20):
        await asyncio.sleep(0)
    assert stores[0].calls.count("get") >= SHARDS
    stores[0].go.set()
    assert await counting == 0


async def test_a_point_is_read_with_one_look_at_its_shard(collection: Collection, stores: list[FaultyStore]) -> None:
    await collection.upsert(range(30), np.ones((30, DIM)))
    await collection.count()
    stores[0].calls.clear()
    (point,) = await collection.get([NAMES[2][0]])
    assert point is not None
    assert len(stores[0].calls) <= 2  # the slot after the last, and where slots are deleted HEAD


async def test_who_meets_a_seal_finishes_the_drop(
    nodes: list[Database], collection: Collection, stores: list[FaultyStore]
) -> None:
    """The node that drops dies between the first seal and the second."""
    await collection.upsert(range(30), np.ones((30, DIM)))
    await collection.writers[0].seal(time.monotonic() + 10)
    assert [shard.state.sealed for shard in collection.shards] == [True, False, False]
    stores[0].fault = lambda *_: "before"
    with pytest.raises(NotFoundError):
        await nodes[1].collection("points")
    assert nodes[1].at_hand == []
    made = await nodes[1].create_collection(SPEC)
    assert await made.count() == 0
    with pytest.raises((NotFoundError, UnavailableError)):
        await collection.count()


@pytest.mark.parametrize("count", [0, -1, SHARDS_MAX + 1, True, 1.5, "2"])
async def test_shard_counts_that_cannot_be(nodes: list[Database], count: object) -> None:
    with pytest.raises(InvalidInputError, match="shard_count") as refused:
        await nodes[0].create_collection(CollectionSpec("other", DIM, shard_count=count))  # type: ignore[arg-type]
    assert refused.value.code == "invalid_collection"
