"""Bits that flip in a bucket and in the file cache before it: found under a running node, named by fsck, healed."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from akidb.collection import Collection
from akidb.config import Settings
from akidb.database import Database
from akidb.database.fsck import Fsck
from akidb.errors import CorruptionError
from akidb.query import SearchQuery
from akidb.storage import file_cache, open_store
from akidb.types import CollectionSpec, IndexParams, Metric

pytestmark = pytest.mark.s3
DIM, ROWS, FLIPS = 8, 200, 12
SPEC = CollectionSpec("points", DIM, Metric.EUCLIDEAN, IndexParams(m=4, ef_construction=16, min_vectors_threshold=50))
VECTORS = np.random.default_rng(2).standard_normal((ROWS, DIM)).astype(np.float32)
QUERY = SearchQuery(VECTORS[5], top_k=5, exact=True)


def _flipped(body: bytes, rng: random.Random) -> bytes:
    """In one of the last two thirds of the bytes that are not zero: between regions lies what nobody reads."""
    place = rng.choice([i for i in range(len(body) // 3, len(body)) if body[i]])
    altered = bytearray(body)
    altered[place] ^= 1 << rng.randrange(8)
    return bytes(altered)


def _overwrite(path: Path, body: bytes) -> None:
    """In place, so that what is mapped changes with it."""
    with path.open("r+b") as file:
        file.write(body)


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - what happens in the background has no event for it
            await asyncio.sleep(0.01)


async def _scrubbed(collection: Collection) -> None:
    """Has everything that is open compared with its checksums."""
    opened = collection.shards[0].opener.opened
    for segment in opened:
        segment.verified_at = -math.inf
    collection._scrubbing._wake.set()
    await _until(lambda: not any(each.verified_at == -math.inf and each.damage is None for each in opened))


async def test_flips_are_found_in_the_bucket_and_in_the_cache(s3_settings: Settings, tmp_path: Path) -> None:
    settings = replace(s3_settings, storage=replace(s3_settings.storage, s3_prefix="damage"))
    rng = random.Random(3)
    store = open_store(settings)
    database = await Database.open(store, settings)
    collection = await database.create_collection(SPEC)
    await collection.upsert(range(ROWS), VECTORS, [{"n": i} for i in range(ROWS)])
    await collection.wait_indexed()
    wanted = await collection.search([QUERY], timeout_ms=60_000)
    (key,) = [segment.ref.key for segment in collection.shards[0].state.segments]
    whole = (await store.get(key)).body
    cache = file_cache(store)
    assert cache is not None

    async def faults() -> list[str]:
        return [fault.key async for fault in Fsck(cache.inner).run()]

    assert await faults() == []
    for _ in range(FLIPS):
        path = await store.local_path(key)
        assert path is not None
        _overwrite(path, _flipped(whole, rng))
        await _scrubbed(collection)
        await _until(lambda: not collection._scrubbing.damaged)
        assert await collection.search([QUERY], timeout_ms=60_000) == wanted
        assert await faults() == []
    for _ in range(FLIPS):
        await store.put(key, _flipped(whole, rng))
        assert await faults() == [key]
    path = await store.local_path(key)
    assert path is not None
    _overwrite(path, _flipped(whole, rng))
    await _scrubbed(collection)
    with pytest.raises(CorruptionError, match=key):
        await collection.search([QUERY], timeout_ms=60_000)
    assert (await collection.info()).damaged == (key,)
    await store.put(key, whole)
    collection._scrubbing._retries[key] = (0.0, 1.0)
    collection._scrubbing._wake.set()
    await _until(lambda: not collection._scrubbing.damaged)
    assert await collection.search([QUERY], timeout_ms=60_000) == wanted
    await database.close()
