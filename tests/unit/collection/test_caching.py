"""A file cache before a bucket: pinned collections stay, and one that is too small costs speed, not answers."""

from __future__ import annotations

import asyncio
import errno
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from akidb.collection import Collection, fetching
from akidb.config.settings import Cache, Settings
from akidb.database import Database
from akidb.errors import InvalidInputError
from akidb.query import SearchQuery
from akidb.segment import lists
from akidb.storage.cache_folder import CacheFolder
from akidb.storage.file_cache import FileCachedStore
from akidb.storage.memory import MemoryStore
from akidb.types import CacheState, CollectionSpec, IndexParams, VectorArray
from tests.unit.collection.far import Bucket
from tests.unit.collection.faults import SETTINGS

ROWS, DIM = 20_000, 64


class Ranged(Bucket):
    """Fetched whole by ranges, as a bucket is."""

    async def has_local(self, key: str) -> bool:
        return False

    @property
    def whole(self) -> int:
        """Ranges that are the beginning of an object's fetching."""
        return sum(size > 1 << 20 for _, size in self.ranges)


@pytest.fixture(autouse=True)
def small_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "LISTS_BYTES_MIN", 64 << 10)
    monkeypatch.setattr(lists, "ROWS_PER_LIST", 64)
    monkeypatch.setattr(fetching, "PATIENCE_SECS", 0.01)


@pytest.fixture(scope="module")
def vectors() -> VectorArray:
    rng = np.random.default_rng(5)
    return (rng.normal(size=(80, DIM))[rng.integers(0, 80, ROWS)] * 3 + rng.normal(size=(ROWS, DIM))).astype(np.float32)


@pytest.fixture
async def memory(vectors: VectorArray) -> MemoryStore:
    store = MemoryStore()
    database = await Database.open(store, SETTINGS)
    spec = CollectionSpec("p", DIM, index=IndexParams(min_vectors_threshold=10**9))
    collection = await database.create_collection(spec)
    await collection.upsert([f"id-{i}" for i in range(ROWS)], vectors)
    (writer,) = collection.writers
    assert writer.maintenance is not None
    await writer.maintenance.fold()
    await database.close()
    return store


def _bytes(collection: Collection) -> int:
    return sum(ref.bytes for ref in collection.shards[0].known.head.segments)


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def _opened(bucket: Bucket, folder: Path, size: int) -> tuple[Database, Collection]:
    settings: Settings = replace(SETTINGS, cache=Cache(hot_size_gb=size / (1 << 30)))
    database = await Database.open(FileCachedStore(bucket, folder, size), settings)
    return database, await database.collection("p")


async def _fetched(collection: Collection) -> CacheState:
    async with asyncio.timeout(20):
        while (state := await collection._caching.state()).cached_bytes < state.bytes:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return state


async def test_a_pinned_collection_is_fetched_and_stays_after_a_restart(memory: MemoryStore, tmp_path: Path) -> None:
    database, collection = await _opened(Ranged(memory), tmp_path, 64 << 20)
    size = _bytes(collection)
    assert (await collection.pin()).pinned
    assert await _fetched(collection) == CacheState(True, size, size)
    assert (await collection.info()).cache == CacheState(True, size, size)
    await database.close()
    bucket = Ranged(memory)
    database, collection = await _opened(bucket, tmp_path, 64 << 20)
    CacheFolder(tmp_path, 1)._evict(1)
    assert await collection._caching.state() == CacheState(True, size, size)
    assert bucket.whole == 0
    assert (await collection.unpin()) == CacheState(False, size, size)
    await database.close()


async def test_a_pin_that_does_not_fit_is_refused_with_the_sizes(memory: MemoryStore, tmp_path: Path) -> None:
    database, collection = await _opened(Ranged(memory), tmp_path, 1 << 20)
    size = _bytes(collection)
    with pytest.raises(
        InvalidInputError, match=f"its segments take {size} bytes.*0, the file cache is {1 << 20} bytes"
    ) as no:
        await collection.pin()
    assert no.value.code == "cache_too_small"
    assert not (await collection._caching.state()).pinned
    await database.close()


async def test_a_dropped_collection_is_not_kept(memory: MemoryStore, tmp_path: Path) -> None:
    database, collection = await _opened(Ranged(memory), tmp_path, 64 << 20)
    await collection.pin()
    await _fetched(collection)
    await database.drop_collection("p")
    assert not [path for path in _files(tmp_path) if path.name == "pinned"]
    await database.close()


async def test_a_dropped_clone_keeps_nothing_of_what_it_was_made_from(memory: MemoryStore, tmp_path: Path) -> None:
    database, _ = await _opened(Ranged(memory), tmp_path, 64 << 20)
    clone = await database.clone_collection("p", "trial")
    assert (await clone.pin()).pinned
    assert [path for path in _files(tmp_path) if path.name == "pinned"]
    await database.drop_collection("trial")
    assert not [path for path in _files(tmp_path) if path.name == "pinned"]
    await database.close()


async def test_on_a_store_of_this_machine_all_is_here(memory: MemoryStore) -> None:
    database = await Database.open(memory, SETTINGS)
    collection = await database.collection("p")
    size = _bytes(collection)
    assert await collection.pin() == CacheState(False, size, size)
    assert await collection.unpin() == CacheState(False, size, size)
    await database.close()


async def test_a_cache_of_a_seventh_answers_from_ranges_that_it_keeps(
    memory: MemoryStore, tmp_path: Path, vectors: VectorArray
) -> None:
    bucket = Ranged(memory)
    size = 900 << 10
    database, collection = await _opened(bucket, tmp_path, size)
    assert size < 0.15 * _bytes(collection)
    queries = [SearchQuery(vectors[i], top_k=1) for i in range(0, ROWS, ROWS // 40)]
    for query, row in zip(queries, range(0, ROWS, ROWS // 40), strict=True):
        assert (await collection.search([query], timeout_ms=20_000))[0][0].id == f"id-{row}"
    await asyncio.gather(*database._store._keeping)  # type: ignore[attr-defined]
    assert bucket.whole == 0
    assert sum(path.stat().st_size for path in _files(tmp_path)) <= size * 1.1
    bucket.ranges.clear()
    assert (await collection.search([queries[-1]], timeout_ms=20_000))[0][0].id
    assert not bucket.ranges
    await database.close()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS])
async def test_a_cache_that_takes_nothing_costs_no_answer(
    memory: MemoryStore, tmp_path: Path, vectors: VectorArray, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, "no")

    monkeypatch.setattr(CacheFolder, "keep_range", refuse)
    monkeypatch.setattr(CacheFolder, "reserve", refuse)
    database, collection = await _opened(Ranged(memory), tmp_path, 1 << 20)
    assert (await collection.search([SearchQuery(vectors[5], top_k=1)], timeout_ms=20_000))[0][0].id == "id-5"
    assert await collection.count() == ROWS
    await database.close()


async def test_damaged_ranges_in_the_cache_are_read_from_the_store_again(
    memory: MemoryStore, tmp_path: Path, vectors: VectorArray
) -> None:
    query = SearchQuery(vectors[5], top_k=3)
    database, collection = await _opened(Ranged(memory), tmp_path, 1 << 20)
    first = await collection.search([query], timeout_ms=20_000)
    await database.close()
    ranges = [path for path in _files(tmp_path) if "-" in path.suffix]
    assert ranges
    for path in ranges:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    database, collection = await _opened(Ranged(memory), tmp_path, 1 << 20)
    assert await collection.search([query], timeout_ms=20_000) == first
    await database.close()
