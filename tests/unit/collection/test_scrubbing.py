"""Bits that flip in a file after it was opened: found in the background, refused to who needs them, never written anew.

Each test damages files on a disk under a node that has them open, as a disk would.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from akidb.codec.frame import KIND_SEGMENT, Entry, read_directory
from akidb.collection import Collection, scrubbing
from akidb.config import Settings
from akidb.database import Database
from akidb.errors import CorruptionError, NotFoundError
from akidb.filter import parse
from akidb.query import SearchQuery
from akidb.segment import ID_REGIONS, lists
from akidb.storage.file_cache import FileCachedStore
from akidb.storage.local import LocalStore
from akidb.storage.memory import MemoryStore
from akidb.storage.object_store import ObjectStore
from akidb.storage.wrapper import StoreWrapper
from akidb.telemetry.metrics import METRICS
from akidb.types import CollectionSpec, IndexParams, Metric
from tests.unit.collection.faults import SETTINGS

DIM, ROWS = 8, 60
INDEX = IndexParams(m=4, ef_construction=16, min_vectors_threshold=50)
SPEC = CollectionSpec("points", DIM, Metric.COSINE, INDEX)
QUIET = replace(SETTINGS, storage=replace(SETTINGS.storage, verify_interval_days=0))
VECTORS = np.random.default_rng(4).standard_normal((ROWS, DIM)).astype(np.float32)
QUERY = SearchQuery(VECTORS[7] + 0.1, top_k=5, exact=True)
REGIONS = (
    "meta", "idoff", "idtext", "idhash", "idrow", "idorder", "vectors", "norms", "lsns", "paydata", "payblk", "payoff",
    "payhas", "fields", "graph", "lists", "coarse",
)  # fmt: skip


class Bucket(StoreWrapper):
    """A store whose objects are far away, as far as the engine can tell, and outlive the connection."""

    can_delete = False

    async def close(self) -> None: ...


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - what happens in the background has no event for it
            await asyncio.sleep(0.005)


@pytest.fixture(autouse=True)
def small_lists_and_short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "LISTS_BYTES_MIN", ROWS * DIM * 4)
    monkeypatch.setattr(scrubbing, "RETRY_SECS_MIN", 0.01)
    monkeypatch.setattr(scrubbing, "RETRY_SECS_MAX", 0.05)
    monkeypatch.setattr(scrubbing, "DOUBT_SECS", 0.0)


async def filled(store: ObjectStore) -> str:
    """A collection of one segment with every region, and three points in the log's tail; returns the segment's key."""
    database = await Database.open(store, QUIET)
    collection = await database.create_collection(SPEC)
    await collection.upsert(range(ROWS), VECTORS, [{"n": i % 3, "text": f"text {i}"} for i in range(ROWS)])
    await collection.wait_indexed()
    await collection.upsert(["x", "y", "z"], VECTORS[:3])
    (segment,) = collection.shards[0].state.segments
    assert set(segment.reader.regions) == set(REGIONS)
    await database.close()
    return segment.ref.key


@asynccontextmanager
async def opened(store: ObjectStore, settings: Settings = SETTINGS) -> AsyncIterator[tuple[Database, Collection]]:
    database = await Database.open(store, settings)
    try:
        collection = await database.collection("points")
        await collection.shards[0].warm(deadline=math.inf)
        yield database, collection
    finally:
        await database.close()


def entries(path: Path) -> dict[str, Entry]:
    data = path.read_bytes()
    directory = read_directory(lambda start, end: data[start:end], len(data), kind=KIND_SEGMENT, name="x")
    return {entry.name: entry for entry in directory.entries}


def flip(path: Path, region: str, seed: int) -> Callable[[], None]:
    """Flips a bit where the file lies; returns what flips it back."""
    rng, entry = random.Random(seed), entries(path)[region]
    return flip_at(path, entry.offset + rng.randrange(entry.size), 1 << rng.randrange(8))


def flip_at(path: Path, place: int, bit: int) -> Callable[[], None]:
    def turn() -> None:
        with path.open("r+b") as file:
            file.seek(place)
            (byte,) = file.read(1)
            file.seek(place)
            file.write(bytes([byte ^ bit]))

    turn()
    return turn


def look_again(collection: Collection) -> None:
    """As if the interval were over."""
    for segment in collection.shards[0].opener.opened:
        segment.verified_at = -math.inf
    collection._scrubbing._wake.set()


def is_verified(collection: Collection) -> bool:
    return all(segment.verified_at > -math.inf for segment in collection.shards[0].opener.opened)


async def answers(collection: Collection) -> object:
    (hits,) = await collection.search([QUERY], timeout_ms=60_000)
    page = await collection.scroll(limit=1000, with_vector=True)
    return [(hit.id, hit.score) for hit in hits], [(p.id, p.version, p.payload_json, p.vector.tobytes()) for p in page]


@pytest.mark.parametrize(("seed", "region"), list(enumerate(REGIONS)))
async def test_a_flip_in_a_local_folder_quarantines_the_object_until_it_is_put_back(
    seed: int, region: str, tmp_path: Path
) -> None:
    key = await filled(LocalStore(tmp_path))
    async with opened(LocalStore(tmp_path)) as (database, collection):
        wanted = await answers(collection)
        await until(lambda: is_verified(collection))
        counted = METRICS.checksum_failures.labels("store")._value.get()
        put_back = flip(tmp_path / key, region, seed)
        look_again(collection)
        await until(lambda: (collection._scrubbing.damaged) == (key,))
        assert METRICS.checksum_failures.labels("store")._value.get() > counted
        assert (await collection.info()).damaged == (key,)
        assert key in str((await database.health())["index"])
        for needs in (
            collection.search([QUERY], timeout_ms=60_000),
            collection.get(["5"]),
            collection.scroll(),
            collection.count(parse({"field": "n", "match": 1})),
            collection.patch("5", {"m": 1}),
        ):
            with pytest.raises(CorruptionError, match=key) as refused:
                await needs
            assert refused.value.code == "data_corruption"
        await collection.upsert(["new"], VECTORS[:1])
        assert [point.id for point in await collection.get(["x", "new"]) if point is not None] == ["x", "new"]
        if region in ID_REGIONS:
            with pytest.raises(CorruptionError, match=key):
                await collection.count()
        else:
            assert await collection.count() == ROWS + 4
        await collection.upsert(["4"], VECTORS[4:5], [{"n": 1, "text": "text 4"}])
        await collection.delete(["new"])
        put_back()
        await until(lambda: collection._scrubbing.damaged == ())
        assert await collection.count() == ROWS + 3
        found, (point,) = await answers(collection), await collection.get(["4"])
        assert (found[0], [row for row in found[1] if row[0] != "4"]) == (
            wanted[0], [row for row in wanted[1] if row[0] != "4"]
        )  # fmt: skip
        assert (point.payload, point.vector.tobytes()) == ({"n": 1, "text": "text 4"}, VECTORS[4].tobytes())
        assert (await database.health())["index"] is None


@pytest.mark.parametrize(("seed", "region"), list(enumerate(REGIONS)))
async def test_nothing_is_written_anew_from_a_flipped_bit(seed: int, region: str, tmp_path: Path) -> None:
    """Not even where nobody has noticed it yet: what is refused is refused, and what was written is right."""
    key = await filled(LocalStore(tmp_path))
    refused = 0
    async with opened(LocalStore(tmp_path), QUIET) as (database, collection):
        shard, maintenance = collection.shards[0], collection.writers[0].maintenance
        put_back = flip(tmp_path / key, region, seed)
        told: dict[str, tuple[bytes, dict[str, object]] | None] = {}
        for i in range(0, ROWS, 4):
            told[str(i)] = (VECTORS[(i + 1) % ROWS].tobytes(), {})
        await collection.upsert(list(told), np.stack([VECTORS[(int(i) + 1) % ROWS] for i in told]))
        for i in range(1, ROWS, 4):
            try:
                await collection.patch(i, {"n": 9})
                told[str(i)] = (VECTORS[i].tobytes(), {"n": 9, "text": f"text {i}"})
            except (CorruptionError, NotFoundError):  # nobody has noticed yet that an id is another one
                refused += 1
        try:
            await collection.delete_where(parse({"field": "n", "match": 2}))
            told.update({str(i): None for i in range(2, ROWS, 3) if str(i) not in told})
        except CorruptionError:
            refused += 1
        await database.alter_index("points", {"m": 6})
        for work in (
            maintenance.fold,
            lambda: maintenance.build(shard.state.segments[0]),
            lambda: maintenance.merge(shard.state.segments[:1]),
        ):
            try:
                await work()
            except CorruptionError:
                refused += 1
        if (tmp_path / key).exists():
            put_back()
    async with opened(LocalStore(tmp_path), QUIET) as (_, anew):
        for point in await anew.scroll(limit=1000, with_vector=True):
            if point.id in "xyz":
                continue
            row = int(point.id)
            wanted = told.get(point.id, (VECTORS[row].tobytes(), {"n": row % 3, "text": f"text {row}"}))
            assert wanted is not None, f"{point.id} was deleted"
            assert (point.vector.tobytes(), point.payload or {}) == wanted, f"{region}: point {point.id}"
        assert await anew.count() == ROWS + 3 - sum(wanted is None for wanted in told.values())
    assert refused, "nothing met the bit"


def flip_vector_of(id_: str, collection: Collection, path: Path) -> Callable[[], None]:
    """Flips a bit of a point's vector where the file lies; returns what flips it back."""
    (segment,) = collection.shards[0].state.segments
    place = entries(path)["vectors"].offset + 4 * DIM * int(segment.reader.find([id_])[0])
    return flip_at(path, place, 1)


async def test_a_fold_takes_no_flipped_vector_over_with_a_patch(tmp_path: Path) -> None:
    key = await filled(LocalStore(tmp_path))
    async with opened(LocalStore(tmp_path), QUIET) as (_, collection):
        put_back = flip_vector_of("1", collection, tmp_path / key)
        await collection.patch("1", {"n": 9})
        with pytest.raises(CorruptionError, match="region vectors"):
            await collection.writers[0].maintenance.fold()
        put_back()


async def test_no_graph_is_built_of_a_flipped_vector_that_is_whole_when_it_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await filled(LocalStore(tmp_path))
    async with opened(LocalStore(tmp_path), QUIET) as (database, collection):
        shard, maintenance = collection.shards[0], collection.writers[0].maintenance
        await database.alter_index("points", {"m": 6})
        put_back, build = flip_vector_of("1", collection, tmp_path / key), maintenance._graph

        async def build_and_heal(*how: object) -> object:
            graph = await build(*how)
            put_back()
            return graph

        monkeypatch.setattr(maintenance, "_graph", build_and_heal)
        with pytest.raises(CorruptionError, match="section vectors fails its checksum"):
            await maintenance.build(shard.state.segments[0])
        put_back()


async def cached(bucket: Bucket, folder: Path, key: str) -> Path:
    """The segment's file in the cache, which has no other."""
    path = await FileCachedStore(bucket, folder, 1 << 30).local_path(key)
    assert path is not None
    return path


@pytest.mark.parametrize(("seed", "region"), list(enumerate(["idhash", "vectors", "payoff", "fields", "graph"])))
async def test_a_flip_in_a_cached_copy_is_mended_by_fetching_it_again(seed: int, region: str, tmp_path: Path) -> None:
    bucket = Bucket(MemoryStore())
    key = await filled(bucket)
    async with opened(FileCachedStore(bucket, tmp_path, 1 << 30)) as (database, collection):
        wanted = await answers(collection)
        counted = METRICS.checksum_failures.labels("cache")._value.get()
        path = await cached(bucket, tmp_path, key)
        flip(path, region, seed)
        look_again(collection)
        whole = (await bucket.get(key)).body
        await until(lambda: path.exists() and path.read_bytes() == whole and not collection._scrubbing.damaged)
        assert METRICS.checksum_failures.labels("cache")._value.get() == counted + 1
        assert await answers(collection) == wanted
        assert (await database.health())["index"] is None


async def test_a_copy_and_an_object_that_are_damaged_are_quarantined_until_the_object_is_whole(tmp_path: Path) -> None:
    bucket = Bucket(MemoryStore())
    key = await filled(bucket)
    whole = (await bucket.get(key)).body
    async with opened(FileCachedStore(bucket, tmp_path, 1 << 30)) as (_, collection):
        wanted = await answers(collection)
        path = await cached(bucket, tmp_path, key)
        flip(path, "vectors", 1)
        await bucket.put(key, path.read_bytes())
        look_again(collection)
        await until(lambda: collection._scrubbing._retries.get(key, (0, 0))[1] > scrubbing.RETRY_SECS_MIN)
        assert collection._scrubbing.damaged == (key,)
        with pytest.raises(CorruptionError, match=key):
            await collection.search([QUERY], timeout_ms=60_000)
        await bucket.put(key, whole)
        await until(lambda: collection._scrubbing.damaged == ())
        assert await answers(collection) == wanted


async def test_what_a_read_stumbles_over_is_looked_at_at_once(tmp_path: Path) -> None:
    """Also where nothing is compared by itself."""
    bucket = Bucket(MemoryStore())
    key = await filled(bucket)
    async with opened(FileCachedStore(bucket, tmp_path, 1 << 30), QUIET) as (_, collection):
        path = await cached(bucket, tmp_path, key)
        flip(path, "paydata", 3)
        with pytest.raises(CorruptionError, match=key):
            await collection.get([str(i) for i in range(ROWS)])
        await until(lambda: path.exists() and path.read_bytes() == bucket.inner._objects[key].body)
        await until(lambda: collection._scrubbing.damaged == ())
        assert await collection.get(["7"])


async def test_a_disk_that_gives_no_bytes_counts_as_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = await filled(LocalStore(tmp_path))
    async with opened(LocalStore(tmp_path), QUIET) as (_, collection):

        def broken(*_: object) -> bytes:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr("akidb.segment.verify._read", broken)
        (segment,) = collection.shards[0].opener.opened
        collection._scrubbing.doubt(CorruptionError("it looks odd", key=key))
        await until(lambda: segment.damage is not None)
        assert str(segment.damage) == f"object {key}: it can't be read: Input/output error"
        with pytest.raises(CorruptionError) as told:
            segment.check()
        assert (told.value.key, str(told.value)) == (key, str(segment.damage))
        assert told.value is not segment.damage  # which another thread may be raising


async def test_an_error_of_another_object_puts_none_in_doubt(tmp_path: Path) -> None:
    """Whatever its message says."""
    key = await filled(LocalStore(tmp_path))
    async with opened(LocalStore(tmp_path), QUIET) as (_, collection):
        scrubbing = collection._scrubbing
        for error in (CorruptionError(f"it is like {key}", key="another"), CorruptionError(f"object {key}: odd")):
            scrubbing.doubt(error)
        await asyncio.sleep(0)
        assert scrubbing._doubted == set()
        scrubbing.doubt(CorruptionError("it looks odd", key=key))
        await asyncio.sleep(0)
        assert scrubbing._doubted == {key}


async def test_each_segment_is_compared_once_and_again_after_the_interval(tmp_path: Path) -> None:
    await filled(LocalStore(tmp_path))
    async with opened(LocalStore(tmp_path)) as (_, collection):
        counted = METRICS.verified_bytes._value.get()
        await until(lambda: is_verified(collection))
        (segment,) = collection.shards[0].opener.opened
        assert collection._scrubbing._due(segment) == segment.verified_at + 7 * 86_400
    async with opened(LocalStore(tmp_path), QUIET) as (_, collection):
        (segment,) = collection.shards[0].opener.opened
        assert collection._scrubbing._due(segment) == math.inf
    assert METRICS.verified_bytes._value.get() - counted <= segment.bytes
