"""What a write, a read and a large object cost in requests to a real store: they are latency, and on S3 money."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest

from akidb.config import Settings
from akidb.database import Database
from akidb.query import SearchQuery
from akidb.storage import open_location
from akidb.telemetry.metrics import METRICS
from akidb.types import EVENTUAL, CollectionSpec

pytestmark = pytest.mark.s3

DIM = 4
VECTOR = np.ones(DIM, np.float32)


def _requests() -> Counter[str]:
    """Every request of this process so far, by operation; InstrumentedStore counts right above the client."""
    counted: Counter[str] = Counter()
    for sample in METRICS.storage_operations.collect()[0].samples:
        if sample.name.endswith("_total"):
            counted[sample.labels["operation"]] += int(sample.value)
    return counted


@asynccontextmanager
async def _costs(**expected: int) -> AsyncIterator[None]:
    before = _requests()
    yield
    assert dict(_requests() - before) == expected


async def test_a_commit_is_one_put_and_a_strong_read_one_get_shared_by_all(s3_settings: Settings) -> None:
    database = await Database.open(open_location(f"s3://test-{uuid.uuid4()}", s3_settings), s3_settings)
    collection = await database.create_collection(CollectionSpec("c", DIM))
    await collection.upsert(["first"], VECTOR[None])
    query = [SearchQuery(VECTOR, top_k=1)]
    async with _costs(put=1):
        await collection.upsert(["a"], VECTOR[None])
    async with _costs(put=1):  # what came at the same time shares a slot
        await asyncio.gather(*(collection.upsert([f"b{n}"], VECTOR[None]) for n in range(30)))
    async with _costs(get=1):
        assert len(await asyncio.gather(*(collection.search(query, timeout_ms=60_000) for _ in range(30)))) == 30
    async with _costs():
        await collection.search(query, timeout_ms=60_000, consistency=EVENTUAL)
    await database.close()


async def test_large_objects_go_and_come_in_parts(s3_settings: Settings) -> None:
    store = open_location(f"s3://test-{uuid.uuid4()}", s3_settings)
    body = np.random.default_rng(1).bytes(65 << 20)
    assert (await store.put("seg/large", body)).ok
    async with _costs(get=9):  # 8 MiB each
        path = await store.local_path("seg/large")
    assert path is not None
    assert path.read_bytes() == body
    async with _costs():
        assert await store.local_path("seg/large") == path
    await store.close()
