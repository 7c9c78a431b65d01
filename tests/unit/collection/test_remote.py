"""A node whose segments are in a bucket answers by ranges of them, and fetches them afterwards."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from dataclasses import replace

import numpy as np
import pytest

from akidb.collection import Collection, fetching
from akidb.collection.shard import Shard
from akidb.collection.workers import INLINE_ROWS
from akidb.config.settings import Cache
from akidb.database import Database
from akidb.errors import CorruptionError, DeadlineExceededError, NotFoundError
from akidb.filter import parse
from akidb.query import SearchQuery, remote
from akidb.segment import lists
from akidb.segment.lists_format import BLOCK_BYTES
from akidb.storage.memory import MemoryStore
from akidb.storage.object_store import Reply, Status
from akidb.types import CollectionSpec, Consistency, IndexParams, Metric, VectorArray
from tests.unit.collection.far import Bucket, SlowBucket
from tests.unit.collection.faults import SETTINGS

ROWS, DIM = 3000, 16


@pytest.fixture(autouse=True)
def small_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "LISTS_BYTES_MIN", 64 << 10)
    monkeypatch.setattr(lists, "ROWS_PER_LIST", 24)
    monkeypatch.setattr(remote, "GAP_BYTES_MAX", 0)
    monkeypatch.setattr(fetching, "PATIENCE_SECS", 0.01)


@pytest.fixture(params=list(Metric), ids=lambda metric: metric.value)
def metric(request: pytest.FixtureRequest) -> Metric:
    metric: Metric = request.param
    return metric


@pytest.fixture
def vectors() -> VectorArray:
    rng = np.random.default_rng(5)
    centres = rng.normal(size=(40, DIM)) * 3
    return (centres[rng.integers(0, 40, ROWS)] + rng.normal(size=(ROWS, DIM))).astype(np.float32)


async def _filled(
    store: MemoryStore, vectors: VectorArray, metric: Metric = Metric.COSINE, shard_count: int = 1
) -> None:
    """A collection `p` of these vectors, each shard folded into one segment."""
    database = await Database.open(store, SETTINGS)
    index = IndexParams(min_vectors_threshold=10**9)
    collection = await database.create_collection(CollectionSpec("p", DIM, metric, index, shard_count=shard_count))
    payloads = [None if i % 7 == 0 else b'{"n":%d}' % i for i in range(ROWS)]
    await collection.upsert([f"id-{i}" for i in range(ROWS)], vectors, payloads)
    for writer in collection.writers:
        assert writer.maintenance is not None
        await writer.maintenance.fold()
    await database.close()


def _maintenance(collection: Collection):  # type: ignore[no-untyped-def]
    assert collection.writers[0].maintenance is not None
    return collection.writers[0].maintenance


def _shard(collection: Collection) -> Shard:
    return collection.shards[0]


@pytest.fixture
async def memory(vectors: VectorArray) -> MemoryStore:
    store = MemoryStore()
    await _filled(store, vectors)
    return store


@pytest.fixture
async def bucket(memory: MemoryStore) -> AsyncIterator[Bucket]:
    bucket = Bucket(memory)
    bucket.open.clear()
    yield bucket
    bucket.open.set()


@pytest.fixture
async def cold(bucket: Bucket) -> AsyncIterator[Collection]:
    database = await Database.open(bucket, SETTINGS)
    yield await database.collection("p")
    bucket.open.set()
    await database.close()


def _queries(vectors: VectorArray, count: int = 10, **options: object) -> list[SearchQuery]:
    rng = np.random.default_rng(9)
    near = vectors[:: len(vectors) // count][:count] + rng.normal(size=(count, DIM)) * 0.3
    return [SearchQuery(row.astype(np.float32), **options) for row in near]  # type: ignore[arg-type]


async def test_a_cold_search_answers_without_the_segment(metric: Metric, vectors: VectorArray) -> None:
    memory = MemoryStore()
    await _filled(memory, vectors, metric)
    bucket = Bucket(memory)
    bucket.open.clear()
    database = await Database.open(bucket, SETTINGS)
    collection = await database.collection("p")
    queries = _queries(vectors, with_vector=True)
    size = sum(ref.bytes for ref in _shard(collection).known.head.segments)
    found = [(await collection.search([query], timeout_ms=20_000))[0] for query in queries]
    assert not bucket.fetched
    assert not _shard(collection).is_warm
    directory = sum(ref.coarse_bytes for ref in _shard(collection).known.head.segments)
    assert (bucket.range_bytes - directory) / len(queries) < size / 2
    bucket.open.set()
    exact = await collection.search([replace(query, exact=True) for query in queries], timeout_ms=20_000)
    assert _shard(collection).is_warm
    recall = []
    for mine, best in zip(found, exact, strict=True):
        by_id = {point.id: point for point in best}
        recall.append(len(by_id.keys() & {point.id for point in mine}) / len(best))
        assert [point.score for point in mine] == sorted(
            (point.score for point in mine), reverse=metric is not Metric.EUCLIDEAN
        )
        for point in mine:
            row = int(point.id.removeprefix("id-"))
            np.testing.assert_array_equal(point.vector, vectors[row])
            assert point.payload_json == (None if row % 7 == 0 else b'{"n":%d}' % row)
            if point.id in by_id:
                assert point.score == pytest.approx(by_id[point.id].score, rel=1e-5, abs=1e-6)
    assert np.mean(recall) >= 0.9
    await database.close()


async def test_a_cold_search_takes_three_rounds_beyond_head(memory: MemoryStore, vectors: VectorArray) -> None:
    writer = await Database.open(memory, SETTINGS)
    await (await writer.collection("p")).upsert(["new"], vectors[:1])
    await writer.close()
    bucket = SlowBucket(memory)
    bucket.open.clear()
    database = await Database.open(bucket, SETTINGS)
    collection = await database.collection("p")
    bucket.slow = True
    answering = asyncio.create_task(bucket.answer_in_rounds())
    (found,) = await collection.search([SearchQuery(vectors[0])], timeout_ms=60_000)
    assert {point.id for point in found} >= {"new", "id-0"}
    assert bucket.rounds <= 3
    assert not bucket.fetched
    bucket.slow = False
    answering.cancel()
    bucket.open.set()
    await database.close()


class HeldBucket(Bucket):
    """Does not answer for vectors until it is told to."""

    def __init__(self, inner: MemoryStore) -> None:
        super().__init__(inner)
        self.asked, self.go = asyncio.Event(), asyncio.Event()

    async def get(
        self, key: str, *, byte_range: tuple[int, int] | None = None, if_none_match: str | None = None
    ) -> Reply:
        if byte_range is not None and byte_range[1] - byte_range[0] == BLOCK_BYTES:
            self.asked.set()
            await self.go.wait()
        return await super().get(key, byte_range=byte_range, if_none_match=if_none_match)


@pytest.mark.parametrize("rows", [1, 2 * INLINE_ROWS], ids=["few", "many"])
async def test_what_is_applied_during_a_search_is_in_its_answer_once_or_not_at_all(
    memory: MemoryStore, vectors: VectorArray, rows: int
) -> None:
    bucket = HeldBucket(memory)
    bucket.open.clear()
    database = await Database.open(bucket, SETTINGS)
    collection = await database.collection("p")
    searching = asyncio.create_task(collection.search([SearchQuery(vectors[0])], timeout_ms=60_000))
    await asyncio.wait_for(bucket.asked.wait(), 30)
    writer = await Database.open(memory, SETTINGS)
    await (await writer.collection("p")).upsert([f"id-{i}" for i in range(rows)], vectors[:rows])
    await writer.close()
    shard = _shard(collection).remote
    assert shard is not None
    await shard.follow()
    bucket.go.set()
    (before,) = await searching
    assert [point.id for point in before].count("id-0") == 1
    assert len({point.id for point in before}) == len(before)
    (after,) = await collection.search([SearchQuery(vectors[0])], timeout_ms=60_000)
    assert [point.id for point in after].count("id-0") == 1
    bucket.open.set()
    await database.close()


async def test_a_node_answers_from_nothing_in_seven_rounds(memory: MemoryStore, vectors: VectorArray) -> None:
    writer = await Database.open(memory, SETTINGS)
    await (await writer.collection("p")).upsert(["new"], vectors[:1])
    await writer.close()
    bucket = SlowBucket(memory)
    bucket.open.clear()
    bucket.slow = True
    answering = asyncio.create_task(bucket.answer_in_rounds())
    database = await Database.open(bucket, SETTINGS, read_only=True)
    collection = await database.collection("p")
    (found,) = await collection.search([SearchQuery(vectors[0])], timeout_ms=60_000)
    assert {point.id for point in found} >= {"new", "id-0"}
    assert bucket.rounds <= 7
    assert not bucket.fetched
    bucket.slow = False
    answering.cancel()
    bucket.open.set()
    await database.close()


async def test_what_lies_between_two_lists_is_read_to_spare_a_request(
    cold: Collection, bucket: Bucket, vectors: VectorArray, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, found = [], []
    for gap in (0, 8 << 10):
        monkeypatch.setattr(remote, "GAP_BYTES_MAX", gap)
        bucket.ranges.clear()
        found.append(await cold.search(_queries(vectors, 1), timeout_ms=20_000))
        asked.append(len(bucket.ranges))
    assert asked[0] > asked[1] > 0
    assert [point.id for point in found[0][0]] == [point.id for point in found[1][0]]


async def test_more_lists_are_read_for_a_wider_search(cold: Collection, bucket: Bucket, vectors: VectorArray) -> None:
    read = []
    for options in ({"target_recall": 0.5}, {}, {"ef_search": 2000}, {"target_recall": 0.999}):
        bucket.ranges.clear()
        await cold.search(_queries(vectors, **options), timeout_ms=20_000)
        read.append(bucket.range_bytes)
    assert read[0] < read[1] < read[2]
    assert read[1] < read[3]


async def test_a_cold_search_sees_the_tail(
    cold: Collection, memory: MemoryStore, bucket: Bucket, vectors: VectorArray
) -> None:
    query = SearchQuery(vectors[4], top_k=3)
    assert (await cold.search([query], timeout_ms=20_000))[0][0].id == "id-4"
    writer = await Database.open(memory, SETTINGS)
    other = await writer.collection("p")
    await other.delete(["id-4"])
    await other.upsert(["id-5"], vectors[4:5], [b'{"new":1}'])
    first, second, _ = (await cold.search([query], timeout_ms=20_000))[0]
    assert (first.id, first.payload_json) == ("id-5", b'{"new":1}')
    assert second.id not in ("id-4", "id-5")
    await _maintenance(other).fold()
    assert not _shard(cold).is_warm
    assert not bucket.fetched
    await writer.close()


async def test_an_eventual_cold_search_asks_for_no_newer_slot(
    cold: Collection, memory: MemoryStore, vectors: VectorArray
) -> None:
    query = SearchQuery(vectors[4], top_k=1)
    await cold.search([query], timeout_ms=20_000)
    writer = await Database.open(memory, SETTINGS)
    lsn = await (await writer.collection("p")).delete(["id-4"])
    token = (await writer.collection("p")).token
    assert (await cold.search([query], timeout_ms=20_000, consistency=Consistency("eventual")))[0][0].id == "id-4"
    seen = await cold.search([query], timeout_ms=20_000, consistency=Consistency("session", token=token))
    assert seen[0][0].id != "id-4"
    assert cold.lsn == lsn
    await writer.close()


async def test_what_needs_the_segments_waits_for_them(cold: Collection, bucket: Bucket, vectors: VectorArray) -> None:
    only = SearchQuery(vectors[15], top_k=1, filter=parse({"must": [{"field": "n", "range": {"gte": 15}}]}))
    with pytest.raises(DeadlineExceededError) as late:
        await cold.search([only], timeout_ms=500)
    assert late.value.code == "warming"
    bucket.open.set()
    assert [point.id for point in (await cold.search([only], timeout_ms=20_000))[0]] == ["id-15"]
    assert _shard(cold).remote is None


async def test_gets_and_counts_are_answered_without_the_segment(
    memory: MemoryStore, cold: Collection, bucket: Bucket, vectors: VectorArray
) -> None:
    """With what was deleted and replaced below HEAD, and in the log's tail."""
    writer = await Database.open(Bucket(memory), SETTINGS)
    points = await writer.collection("p")
    maintenance = _maintenance(points)
    await points.delete(["id-3"])
    await maintenance.fold()
    await points.upsert(["id-5", "new"], -vectors[:2], [b'{"n":15}', None])
    await points.delete(["id-4"])
    ids = ["id-8", "id-3", "id-4", "id-5", "new", "no", "id-2999", "id-7"]
    wanted = await points.get(ids)
    assert [point is None for point in wanted] == [False, True, True, False, False, True, False, False]
    few, some = parse({"field": "n", "match": 15}), parse({"field": "n", "range": {"lt": 100}})
    counts = [await points.count(), await points.count(few), await points.count(some)]
    await writer.close()
    size = sum(ref.bytes for ref in _shard(cold).known.head.segments)
    for with_vector in (False, True, True):
        found = await cold.get(ids, with_vector=with_vector)
        for point, same in zip(found, wanted, strict=True):
            if point is None or same is None:
                assert point is same
                continue
            assert (point.id, point.version, point.payload_json) == (same.id, same.version, same.payload_json)
            assert np.array_equal(point.vector, same.vector) if with_vector else point.vector is None
    assert [await cold.count(), await cold.count(few), await cold.count(some)] == counts
    assert counts[:2] == [ROWS - 1, 2]
    assert not _shard(cold).is_warm
    assert not bucket.fetched
    assert bucket.range_bytes < 1.5 * size  # of so small a segment ids are half; of 1M x 384 a thirtieth


async def test_a_filter_that_few_points_match_is_answered_without_the_segment(
    memory: MemoryStore, cold: Collection, bucket: Bucket, vectors: VectorArray
) -> None:
    writer = await Database.open(memory, SETTINGS)
    points = await writer.collection("p")
    await points.upsert(["id-15", "new"], -vectors[:2], [b'{"n":1}', b'{"n":17}'])
    await points.delete(["id-18"])
    few = parse({"field": "n", "range": {"lt": 60}})
    queries = _queries(vectors, 4, filter=few, top_k=20) + _queries(
        vectors, 2, filter=few, exact=True, with_vector=True
    )
    wanted = await points.search([replace(query, exact=True) for query in queries], timeout_ms=20_000)
    await writer.close()
    found = await cold.search(queries, timeout_ms=20_000)
    told = [[[(hit.id, hit.payload_json) for hit in hits] for hits in each] for each in (found, wanted)]
    assert told[0] == told[1]
    for hits, same in zip(found, wanted, strict=True):
        np.testing.assert_allclose([hit.score for hit in hits], [hit.score for hit in same], rtol=1e-6)
    assert "id-18" not in {hit.id for hits in found for hit in hits}
    assert not _shard(cold).is_warm
    assert not bucket.fetched


async def test_a_get_whose_ranges_are_damaged_reads_them_again_or_is_refused(
    cold: Collection, bucket: Bucket, vectors: VectorArray
) -> None:
    bucket.damaged = 2
    (point,) = await cold.get(["id-8"])
    assert point is not None
    assert np.array_equal(point.vector, vectors[8])
    bucket.damaged = 10**6
    with pytest.raises(CorruptionError, match="object t/"):
        await cold.get(["id-2000"])
    bucket.damaged = 0
    (point,) = await cold.get(["id-2000"])
    assert point is not None
    assert np.array_equal(point.vector, vectors[2000])


async def test_a_write_on_a_cold_node_waits_and_is_found(
    cold: Collection, bucket: Bucket, vectors: VectorArray
) -> None:
    bucket.open.set()
    await cold.patch("id-9", {"seen": True})
    assert (await cold.get(["id-9"]))[0].payload == {"n": 9, "seen": True}  # type: ignore[union-attr]


async def test_a_patch_in_the_tail_is_answered_by_the_segments(
    memory: MemoryStore, cold: Collection, bucket: Bucket, vectors: VectorArray
) -> None:
    writer = await Database.open(memory, SETTINGS)
    await (await writer.collection("p")).patch("id-8", {"seen": True})
    await writer.close()
    bucket.open.set()
    (found,) = await cold.search([SearchQuery(vectors[8], top_k=1)], timeout_ms=20_000)
    assert found[0].payload == {"n": 8, "seen": True}


async def test_segments_are_fetched_after_the_first_answer(
    cold: Collection, bucket: Bucket, vectors: VectorArray
) -> None:
    await cold.search(_queries(vectors, 1), timeout_ms=20_000)
    assert not _shard(cold).is_warm
    bucket.open.set()
    warm = asyncio.Event()
    _shard(cold).on_adopted = warm.set
    async with asyncio.timeout(20):
        await warm.wait()
    ranges = len(bucket.ranges)
    assert (await cold.search([SearchQuery(vectors[3], top_k=1)]))[0][0].id == "id-3"
    assert len(bucket.ranges) == ranges


async def test_segments_that_do_not_fit_the_cache_are_not_fetched(bucket: Bucket, vectors: VectorArray) -> None:
    bucket.open.set()
    tiny = replace(SETTINGS, cache=Cache(hot_size_gb=1e-6))
    database = await Database.open(bucket, tiny)
    collection = await database.collection("p")
    for _ in range(3):
        await collection.search(_queries(vectors, 2), timeout_ms=20_000)
        await asyncio.sleep(0.05)
    assert await collection.count() == ROWS
    assert not bucket.fetched
    assert len(await collection.scroll(limit=ROWS)) == ROWS  # what needs them still gets them
    assert bucket.fetched
    await database.close()


async def test_ranges_damaged_on_their_way_are_read_again(
    cold: Collection, bucket: Bucket, vectors: VectorArray
) -> None:
    bucket.damaged = 2
    (found,) = await cold.search([SearchQuery(vectors[7], top_k=1)], timeout_ms=20_000)
    assert found[0].id == "id-7"
    assert bucket.damaged == 0


async def test_damage_in_the_store_is_no_answer(cold: Collection, bucket: Bucket, vectors: VectorArray) -> None:
    await cold.search([SearchQuery(vectors[7], top_k=1)], timeout_ms=20_000)
    bucket.damaged = 10**6
    (ref,) = _shard(cold).known.head.segments
    with pytest.raises(CorruptionError, match=f"object {ref.key}: list"):
        await cold.search([SearchQuery(vectors[7], top_k=1)], timeout_ms=20_000)


async def test_damaged_vectors_are_no_answer(cold: Collection, bucket: Bucket, vectors: VectorArray) -> None:
    await cold.search([SearchQuery(vectors[7], top_k=1)], timeout_ms=20_000)
    remote = _shard(cold).remote
    assert remote is not None
    (segment,) = [task.result() for task in remote._segments.values()]
    assert segment is not None
    bucket.spoils = range(segment.directory.vectors_at, segment.directory.block_of(ROWS * DIM * 4 // BLOCK_BYTES)[1])
    for ask in (cold.search([SearchQuery(vectors[7], top_k=1)], timeout_ms=20_000), cold.get(["id-2000"])):
        with pytest.raises(CorruptionError, match="of region vectors fails its checksum"):
            await ask


async def test_a_segment_that_another_node_replaced_is_followed(
    cold: Collection, bucket: Bucket, memory: MemoryStore, vectors: VectorArray
) -> None:
    (before,) = _shard(cold).known.head.segments
    writer = await Database.open(memory, SETTINGS)
    other = await writer.collection("p")
    await other.upsert([f"more-{i}" for i in range(ROWS)], vectors)
    await _maintenance(other).fold()  # absorbs the first segment
    await writer.close()
    assert (await memory.get(before.key)).status is Status.NOT_FOUND
    (found,) = await cold.search([SearchQuery(vectors[7], top_k=2)], timeout_ms=20_000)
    assert {point.id for point in found} == {"id-7", "more-7"}
    assert not bucket.fetched


async def test_a_collection_dropped_by_another_node_is_not_found(
    cold: Collection, memory: MemoryStore, vectors: VectorArray
) -> None:
    writer = await Database.open(memory, SETTINGS)
    await writer.drop_collection("p")
    await writer.close()
    with pytest.raises(NotFoundError):
        await cold.search([SearchQuery(vectors[7])], timeout_ms=20_000)


async def test_shards_that_are_here_and_shards_that_are_not_answer_together(vectors: VectorArray) -> None:
    memory = MemoryStore()
    await _filled(memory, vectors, shard_count=2)
    bucket = Bucket(memory)
    database = await Database.open(bucket, replace(SETTINGS, cache=Cache(hot_size_gb=0)))  # nothing fetched unasked
    collection = await database.collection("p")
    queries = _queries(vectors)
    cold = [(await collection.search([query], timeout_ms=20_000))[0] for query in queries]
    assert [shard.is_warm for shard in collection.shards] == [False, False]
    await collection.shards[1].warm(deadline=math.inf)
    mixed = [(await collection.search([query], timeout_ms=20_000))[0] for query in queries]
    assert [shard.is_warm for shard in collection.shards] == [False, True]
    exact = await collection.search([replace(query, exact=True) for query in queries], timeout_ms=20_000)
    for found in (cold, mixed):
        shares = [
            len({point.id for point in mine} & {point.id for point in best}) / len(best)
            for mine, best in zip(found, exact, strict=True)
        ]
        assert np.mean(shares) > 0.9
        assert [len(mine) for mine in found] == [10] * len(queries)
    await database.close()


async def test_what_can_not_be_fetched_can_be_dropped(memory: MemoryStore) -> None:
    (key,) = [info.key async for info in memory.list_from("t/") if "/seg/" in info.key]
    await memory.put(key, (await memory.get(key)).body[:-8])
    database = await Database.open(Bucket(memory), SETTINGS)
    assert (await database.collection("p")).sealed is False
    await database.drop_collection("p")
    with pytest.raises(NotFoundError):
        await database.collection("p")
    await database.close()
