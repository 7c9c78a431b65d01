"""A collection against a dictionary: whatever is written, folded, indexed and reopened, the answers are the same."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import uuid4

import numpy as np
import pytest

from akidb.collection import Collection
from akidb.config import Settings
from akidb.database import Database
from akidb.errors import CorruptionError, DeadlineExceededError, InvalidInputError, NotFoundError, ReadOnlyError
from akidb.filter import parse
from akidb.query import SearchQuery
from akidb.session import session_token
from akidb.storage import open_location
from akidb.storage.memory import MemoryStore
from akidb.types import EVENTUAL, CollectionSpec, Consistency, Metric

DIM = 8


@pytest.fixture
async def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
async def database(store: MemoryStore) -> AsyncIterator[Database]:
    database = await Database.open(store, Settings())
    yield database
    await database.close()


@pytest.fixture
async def collection(database: Database) -> Collection:
    return await database.create_collection(CollectionSpec("points", DIM, Metric.EUCLIDEAN))


def vectors(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, DIM)).astype(np.float32)


async def nearest(collection: Collection, query: np.ndarray, k: int = 10, **options: object) -> list[str]:
    (hits,) = await collection.search([SearchQuery(query, top_k=k, **options)])
    return [hit.id for hit in hits]


async def test_upsert_get_search_and_delete(collection: Collection) -> None:
    data = vectors(50)
    lsn = await collection.upsert(range(50), data, [{"n": n} for n in range(50)])
    assert lsn == 1
    (point, missing) = await collection.get(["7", "nobody"])
    assert point is not None
    assert missing is None
    assert point.payload == {"n": 7}
    assert np.array_equal(point.vector, data[7])
    assert (await nearest(collection, data[7]))[0] == "7"
    await collection.delete(["7", "nobody"])
    assert await collection.get(["7"]) == [None]
    assert "7" not in await nearest(collection, data[7], 50)
    assert await collection.count() == 49


@pytest.mark.parametrize("seed", range(5))
async def test_random_history_with_folds_and_reopening_equals_a_dictionary(store: MemoryStore, seed: int) -> None:
    rng = np.random.default_rng(seed)
    database = await Database.open(store, Settings())
    collection = await database.create_collection(CollectionSpec("points", DIM, Metric.EUCLIDEAN))
    truth: dict[str, np.ndarray] = {}
    for step in range(60):
        ids = [str(i) for i in rng.choice(300, size=int(rng.integers(1, 60)), replace=False)]
        match int(rng.integers(0, 10)):
            case 0 | 1 | 2:
                await collection.delete(ids)
                for id_ in ids:
                    truth.pop(id_, None)
            case 3 | 4:
                await collection.writers[0].maintenance.fold()
            case 5:
                await collection.wait_indexed()
            case 6:
                await database.close()
                database = await Database.open(store, Settings())
                collection = await database.collection("points")
            case _:
                data = rng.standard_normal((len(ids), DIM)).astype(np.float32)
                await collection.upsert(ids, data)
                truth.update(zip(ids, data, strict=True))
        assert await collection.count() == len(truth), f"after step {step}"
        query = rng.standard_normal(DIM).astype(np.float32)
        expected = sorted(truth, key=lambda id_: (float(np.linalg.norm(truth[id_] - query)), id_))[:5]
        assert await nearest(collection, query, 5, exact=True) == expected
    found = await collection.get(sorted(truth))
    assert all(np.array_equal(point.vector, truth[point.id]) for point in found)
    await database.close()


async def test_two_nodes_over_one_store_see_each_other_at_once(store: MemoryStore) -> None:
    nodes = [await Database.open(store, Settings()) for _ in range(2)]
    first = await nodes[0].create_collection(CollectionSpec("points", DIM, Metric.EUCLIDEAN))
    second = await nodes[1].collection("points")
    for step in range(40):
        writer, reader = (first, second) if step % 2 else (second, first)
        data = vectors(20, step)
        await writer.upsert([f"{step}-{i}" for i in range(20)], data)
        assert await reader.count() == 20 * (step + 1)
        if step % 8 == 3:
            await writer.writers[0].maintenance.fold()
        if step % 8 == 6:
            await reader.writers[0].maintenance.fold()
    for node in nodes:
        await node.close()


async def test_reads_weaker_than_strong_need_no_new_state(store: MemoryStore) -> None:
    nodes = [await Database.open(store, Settings()) for _ in range(2)]
    first = await nodes[0].create_collection(CollectionSpec("points", DIM))
    second = await nodes[1].collection("points")
    assert await second.count() == 0
    await first.upsert(["a"], vectors(1))
    assert await second.count(consistency=EVENTUAL) == 0
    assert await second.count(consistency=Consistency("bounded", bounded_ms=3_600_000)) == 0
    assert await second.count(consistency=Consistency("session", token=first.token)) == 1
    for node in nodes:
        await node.close()


async def test_a_session_beyond_the_logs_end_is_waited_for_and_never_answered_from_before(store: MemoryStore) -> None:
    nodes = [await Database.open(store, Settings()) for _ in range(2)]
    ours = await nodes[0].create_collection(CollectionSpec("points", DIM))
    theirs = await nodes[1].collection("points")
    later = Consistency("session", token=session_token(ours.uuid, [1]))
    for node in (ours, theirs):
        with pytest.raises(DeadlineExceededError, match="slot 1, the log ends at 0") as refused:
            await node.snapshot(later, deadline=time.monotonic() + 0.5)
        assert refused.value.code == "session_not_reached"
        assert node.snapshot_now(later) is None
    looked, reading = theirs.shards[0].last_caught_up, asyncio.create_task(theirs.count(consistency=later))
    while theirs.shards[0].last_caught_up == looked:  # noqa: ASYNC110 - until it has looked once, in vain
        await asyncio.sleep(0)
    await ours.upsert(["a"], vectors(1))
    assert await reading == 1
    for node in nodes:
        await node.close()


async def test_a_session_token_is_of_one_collection(collection: Collection) -> None:
    await collection.upsert(["a"], vectors(1))
    for token, says in (
        (session_token(uuid4(), [1]), "another collection"),
        ("1", "no token"),
        ("é", "no token"),
    ):
        with pytest.raises(InvalidInputError, match=says) as refused:
            await collection.count(consistency=Consistency("session", token=token))
        assert refused.value.code == "invalid_token"
    assert await collection.count(consistency=Consistency("session", token=session_token(collection.uuid, [1]))) == 1


async def test_patch_merges_the_payload_and_keeps_the_vector(collection: Collection) -> None:
    data = vectors(1)
    await collection.upsert(["a"], data, [{"keep": 1, "drop": 2}])
    await collection.patch("a", {"drop": None, "new": {"x": 1}})
    (point,) = await collection.get(["a"])
    assert point is not None
    assert point.payload == {"keep": 1, "new": {"x": 1}}
    assert np.array_equal(point.vector, data[0])
    await collection.writers[0].maintenance.fold()
    await collection.patch("a", {"keep": 3})
    (point,) = await collection.get(["a"])
    assert point is not None
    assert point.payload == {"keep": 3, "new": {"x": 1}}
    with pytest.raises(NotFoundError, match="no point 'b'"):
        await collection.patch("b", {"x": 1})


async def test_delete_where_deletes_what_matches(collection: Collection) -> None:
    await collection.upsert(range(30), vectors(30), [{"odd": bool(n % 2)} for n in range(30)])
    await collection.writers[0].maintenance.fold()
    await collection.upsert(range(30, 40), vectors(10, 1), [{"odd": bool(n % 2)} for n in range(30, 40)])
    deleted, _ = await collection.delete_where(parse({"must": [{"field": "odd", "match": True}]}))
    assert deleted == 20
    assert await collection.count() == 20


async def test_graph_is_built_and_reported(collection: Collection) -> None:
    await collection.upsert(range(500), vectors(500))
    before = (await collection.info()).index
    await collection.wait_indexed()
    info = await collection.info()
    assert (before.state, before.pending) == ("building", 500)
    assert (info.index.state, info.index.indexed, info.index.pending) == ("ready", 500, 0)
    assert info.segments == 1
    query = vectors(1, 9)[0]
    assert await nearest(collection, query) == await nearest(collection, query, exact=True)


async def test_wait_indexed_gives_up_at_its_deadline(collection: Collection) -> None:
    await collection.upsert(range(500), vectors(500))
    with pytest.raises(DeadlineExceededError, match="500 points are still to be indexed"):
        await collection.wait_indexed(timeout_ms=0)


async def test_flat_collections_need_no_graph(database: Database) -> None:
    from akidb.types import IndexParams

    flat = await database.create_collection(CollectionSpec("flat", DIM, index=IndexParams("flat")))
    await flat.upsert(range(500), vectors(500))
    await flat.writers[0].maintenance.fold()
    assert (await flat.info()).index.state == "ready"


@pytest.mark.parametrize(
    ("ids", "data", "code", "message"),
    [
        (
            ["a", "b"],
            np.ones((2, DIM + 1)),
            "dimension_mismatch",
            r"vectors\.0\.vector: has 9 dimensions, the collection has 8",
        ),
        (["a", "a"], np.ones((2, DIM)), "duplicate_id", r"ids\.1: id 'a' stands at positions 0 and 1"),
        (["a", ""], np.ones((2, DIM)), "invalid_id", r"ids\.1: has 0 UTF-8 bytes"),
        (["a", "x" * 513], np.ones((2, DIM)), "invalid_id", r"ids\.1: has 513 UTF-8 bytes, expected 1 to 512"),
        (["a", 1.5], np.ones((2, DIM)), "invalid_id", r"ids\.1: is float, expected text or an integer"),
        (["a"], np.ones((2, DIM)), "count_mismatch", "there are 2 vectors for 1 ids"),
        (["a"], np.full((1, DIM), np.nan), "not_finite", r"vectors\.0\.vector\.0: is nan"),
        (["a"], np.full((1, DIM), 1e200), "not_finite", r"vectors\.0\.vector\.0: is inf"),
        (["a"], np.full((1, DIM), 3e38), "not_finite", "square overflows float32"),
        (["a"], [["x"] * DIM], "invalid_vector", "expected numbers"),
        (["a", "b"], [[1.0], [1.0, 2.0]], "invalid_vector", "different lengths"),
    ],
)
async def test_bad_points_are_refused_and_change_nothing(
    collection: Collection, ids: list, data: object, code: str, message: str
) -> None:
    await collection.upsert(["kept"], vectors(1))
    with pytest.raises(InvalidInputError, match=message) as refused:
        await collection.upsert(ids, data)
    assert refused.value.code == code
    assert refused.value.faults
    assert collection.lsn == 1
    assert await collection.count() == 1


@pytest.mark.parametrize("payload", [b"", b"{", b"[1]", [1], {"x": object()}, {"x": 2**70}, b'{"a": NaN}'])
async def test_payloads_that_cannot_be_indexed_never_reach_the_log(collection: Collection, payload: object) -> None:
    with pytest.raises(InvalidInputError, match=r"payloads\.0"):
        await collection.upsert(["a"], vectors(1), [payload])
    assert collection.lsn == 0
    await collection.upsert(["a"], vectors(1))
    if not isinstance(payload, list):
        with pytest.raises(InvalidInputError):
            await collection.patch("a", payload)
    assert collection.lsn == 1


async def test_zero_vector_is_refused_under_cosine(database: Database) -> None:
    collection = await database.create_collection(CollectionSpec("cosine", DIM))
    with pytest.raises(InvalidInputError, match=r"vectors\.1\.vector: is a zero vector"):
        await collection.upsert(["a", "b"], np.array([[1.0] * DIM, [0.0] * DIM]))
    with pytest.raises(InvalidInputError, match="zero vector"):
        await collection.search([SearchQuery(np.zeros(DIM))])


async def test_read_only_handle_refuses_writes(store: MemoryStore, collection: Collection) -> None:
    await collection.upsert(["a"], vectors(1))
    reader = await Database.open(store, Settings(), read_only=True)
    opened = await reader.collection("points")
    assert await opened.count() == 1
    with pytest.raises(ReadOnlyError):
        await opened.upsert(["b"], vectors(1))
    with pytest.raises(ReadOnlyError):
        await reader.create_collection(CollectionSpec("other", DIM))
    await reader.close()


async def test_bad_queries_are_named_by_their_position(collection: Collection) -> None:
    good = SearchQuery(np.ones(DIM))
    for bad, message in (
        (SearchQuery(np.full(DIM, np.nan)), r"queries\.1\.vector\.0: is nan"),
        (SearchQuery(np.ones(DIM + 1)), r"queries\.1\.vector: has 9 dimensions"),
        (SearchQuery(np.ones(DIM), top_k=0), r"queries\.1\.top_k: is 0, expected 1 to 1000, an integer"),
        (SearchQuery(np.ones(DIM), top_k=2.5), r"queries\.1\.top_k: is 2\.5, expected 1 to 1000, an integer"),
        (SearchQuery(np.ones(DIM), top_k=True), r"queries\.1\.top_k: is True, expected 1 to 1000, an integer"),
        (SearchQuery(np.ones(DIM), ef_search=0), r"queries\.1\.ef_search: is 0"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            await collection.search([good, bad])


@pytest.mark.s3
async def test_a_segment_damaged_in_the_bucket_is_named_and_never_searched(s3_settings: Settings) -> None:
    database = await Database.open(open_location("s3://damaged", s3_settings), s3_settings)
    collection = await database.create_collection(CollectionSpec("points", DIM, Metric.EUCLIDEAN))
    await collection.upsert(range(50), vectors(50))
    await collection.writers[0].maintenance.fold()
    await database.close()
    store = open_location("s3://damaged", s3_settings)
    (key,) = [info.key async for info in store.list_from("t/") if "/seg/" in info.key]
    body = bytearray((await store.get(key)).body)
    at = bytes(body).index(vectors(50)[7].tobytes())
    body[at] ^= 1
    await store.put(key, bytes(body))
    elsewhere = replace(s3_settings, cache=replace(s3_settings.cache, hot_path=f"{s3_settings.cache.hot_path}-2"))
    await store.close()
    database = await Database.open(open_location("s3://damaged", elsewhere), elsewhere)
    with pytest.raises(CorruptionError, match=key):
        await database.collection("points")
    await database.close()


@pytest.mark.parametrize("metric", list(Metric))
async def test_the_longest_vectors_that_are_taken_have_finite_scores(database: Database, metric: Metric) -> None:
    collection = await database.create_collection(CollectionSpec("long", 3, metric))
    longest, ends = np.float32(np.sqrt(np.finfo(np.float32).max)), 0
    for share in np.linspace(1.0, 0.4, 61, dtype=np.float32):
        ends_of_a_line = np.array([[1, 0, 0], [-1, 0, 0]], np.float32) * (share * longest)
        try:
            await collection.upsert(["a", "b"], ends_of_a_line)
        except InvalidInputError as refused:
            assert refused.code == "not_finite"  # noqa: PT017  what is not refused is the point
            continue
        ends += 1
        for query in ends_of_a_line:
            (hits,) = await collection.search([SearchQuery(query, top_k=2)])
            assert len(hits) == 2
            assert all(np.isfinite(hit.score) for hit in hits)
    assert ends
