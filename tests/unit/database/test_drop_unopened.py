"""A collection that can't be opened is dropped whole or not at all."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from akidb.database import Database, unopened
from akidb.errors import CorruptionError
from akidb.storage.memory import MemoryStore
from akidb.types import CollectionSpec, IndexParams, Metric
from tests.unit.collection.faults import SETTINGS


async def test_where_one_logs_end_can_not_be_told_no_shard_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unopened, "RETRY_SECS_MIN", 0.0)
    store = MemoryStore()
    database = await Database.open(store, SETTINGS)
    spec = CollectionSpec("p", 4, Metric.EUCLIDEAN, IndexParams("flat"), shard_count=2)
    collection = await database.create_collection(spec)
    vectors = np.random.default_rng(1).normal(size=(50, 4)).astype(np.float32)
    await collection.upsert([str(i) for i in range(50)], vectors)
    for writer in collection.writers:
        await writer.maintenance.fold()
    await database.close()
    heads = sorted(
        [info.key async for info in store.list_from("t/") if "/c/" in info.key and info.key.endswith("/head")]
    )
    whole = (await store.get(heads[0])).body
    await store.put(heads[0], whole[:-1])
    database = await Database.open(store, SETTINGS)
    tasks = asyncio.all_tasks()
    with pytest.raises(CorruptionError):
        await database.drop_collection("p")
    assert asyncio.all_tasks() <= tasks  # nothing goes on after the answer
    await store.put(heads[0], whole)
    assert await (await database.collection("p")).count() == 50
    await database.close()
