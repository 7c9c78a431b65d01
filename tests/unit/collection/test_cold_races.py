"""A node without segments whose state begins anew, or is told of other parameters, while it is being asked."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator

import numpy as np
import pytest

from akidb.collection import Collection, fetching
from akidb.database import Database
from akidb.query import SearchQuery, remote
from akidb.segment import MemTable, lists
from akidb.segment.lists_format import BLOCK_BYTES
from akidb.storage.memory import MemoryStore
from akidb.storage.object_store import Reply
from akidb.types import EVENTUAL, CollectionSpec, Consistency, IndexParams, Metric
from tests.unit.collection.far import Bucket
from tests.unit.collection.faults import SETTINGS

_ROWS, _DIM = 3000, 16
VECTORS = np.random.default_rng(5).normal(size=(_ROWS, _DIM)).astype(np.float32)


class _Holding(Bucket):
    """Keeps the answers about rows, or about the log, until it may go on."""

    def __init__(self, inner: MemoryStore) -> None:
        super().__init__(inner)
        self.held: dict[str, tuple[asyncio.Event, asyncio.Event]] = {}

    def hold(self, what: str) -> tuple[asyncio.Event, asyncio.Event]:
        """Whether it was asked, and whether it may go on."""
        self.held[what] = asyncio.Event(), asyncio.Event()
        return self.held[what]

    async def get(
        self, key: str, *, byte_range: tuple[int, int] | None = None, if_none_match: str | None = None
    ) -> Reply:
        is_row = byte_range is not None and byte_range[1] - byte_range[0] == BLOCK_BYTES
        what = "rows" if is_row else "log" if "/wal/" in key else ""
        if what in self.held:
            asked, go = self.held[what]
            asked.set()
            await go.wait()
        return await super().get(key, byte_range=byte_range, if_none_match=if_none_match)


@pytest.fixture
async def ours(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Collection]:
    """The writer's, with a segment of all vectors."""
    monkeypatch.setattr(lists, "LISTS_BYTES_MIN", 64 << 10)
    monkeypatch.setattr(lists, "ROWS_PER_LIST", 24)
    monkeypatch.setattr(remote, "GAP_BYTES_MAX", 0)
    database = await Database.open(_Holding(MemoryStore()), SETTINGS)
    spec = CollectionSpec("p", _DIM, Metric.EUCLIDEAN, IndexParams(min_vectors_threshold=10**9))
    collection = await database.create_collection(spec)
    await collection.upsert([f"id-{i}" for i in range(_ROWS)], VECTORS)
    await collection.writers[0].maintenance.fold()
    yield collection
    await database.close()


@pytest.fixture
async def bucket(ours: Collection) -> _Holding:
    return _Holding(ours.writers[0].shard.store.inner)


@pytest.fixture
async def node(ours: Collection, bucket: _Holding, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Database]:
    monkeypatch.setattr(fetching.Fetching, "begin_soon", lambda self: None)
    database = await Database.open(bucket, SETTINGS)
    yield database
    for _, go in bucket.held.values():
        go.set()
    await database.close()


async def _nearest(cold: Collection, consistency: Consistency | None = None) -> list[str]:
    (found,) = await cold.search([SearchQuery(VECTORS[0], top_k=4)], timeout_ms=60_000, consistency=consistency)
    return [point.id for point in found]


async def test_a_strong_search_sees_all_though_another_looks_at_head(
    ours: Collection, bucket: _Holding, node: Database
) -> None:
    cold = await node.collection("p")
    await _nearest(cold)
    await ours.upsert(["x"], VECTORS[:1] + 50)
    await ours.writers[0].maintenance.fold()
    await ours.upsert(["new"], VECTORS[:1])
    await ours.delete(["id-0"])
    asked, go = bucket.hold("rows")
    first = asyncio.create_task(_nearest(cold))
    await asked.wait()
    shard = cold.shards[0].remote
    assert shard is not None
    shard._read_head -= 3600  # so the next looks at HEAD, and begins with a log that it has not read
    log_asked, log_go = bucket.hold("log")
    second = asyncio.create_task(_nearest(cold))
    await log_asked.wait()
    del bucket.held["rows"]
    go.set()
    await asyncio.sleep(0.2)
    log_go.set()
    for found in (await first, await second):
        assert found[0] == "new"
        assert "id-0" not in found


async def test_a_strong_search_sees_all_though_the_state_is_renewed(
    ours: Collection, bucket: _Holding, node: Database
) -> None:
    cold = await node.collection("p")
    await _nearest(cold)
    await ours.upsert(["new"], VECTORS[:1])
    await ours.delete(["id-0"])
    asked, go = bucket.hold("log")
    searching = asyncio.create_task(_nearest(cold))
    await asked.wait()
    renewing = asyncio.create_task(cold.shards[0].renew())  # as when a damaged segment is whole again
    await asyncio.sleep(0.05)
    go.set()
    found = await searching
    await renewing
    assert found[0] == "new"
    assert "id-0" not in found


async def test_other_parameters_wait_for_the_slot_that_is_applied(
    ours: Collection, node: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    cold = await node.collection("p")
    before = await _nearest(cold)
    several = (range(600), range(600, 1200))
    await asyncio.gather(
        ours.upsert(["z"], VECTORS[:1] + 9),
        *(ours.upsert([f"id-{i}" for i in some], VECTORS[some]) for some in several),
    )
    inside, go = threading.Event(), threading.Event()
    whole = MemTable._supersede

    def slow(self: MemTable, ids: list[str], start: int) -> list[str]:
        died = whole(self, ids, start)
        if len(ids) == 600 and ids[0] == "id-600" and threading.current_thread() is not threading.main_thread():
            inside.set()
            go.wait(60)
        return died

    monkeypatch.setattr(MemTable, "_supersede", slow)
    shard = cold.shards[0]
    assert shard.remote is not None
    following = asyncio.create_task(shard.remote.follow())
    await asyncio.to_thread(inside.wait, 60)
    taking = asyncio.create_task(shard.take_spec(shard.spec))
    await asyncio.sleep(0.05)
    assert await _nearest(cold, consistency=EVENTUAL) == before
    go.set()
    await asyncio.gather(following, taking)
    assert await _nearest(cold) == before


async def test_parameters_that_change_while_segments_are_fetched_are_not_lost(ours: Collection) -> None:
    bucket = Bucket(ours.writers[0].shard.store.inner)
    bucket.open.clear()
    database = await Database.open(bucket, SETTINGS)
    cold = await database.collection("p")
    warming = asyncio.create_task(cold.shards[0].warm(deadline=time.monotonic() + 60))
    await asyncio.sleep(0.2)
    await database.alter_index("p", {"ef_search": 777})
    bucket.open.set()
    await warming
    assert cold.shards[0].state.spec.index.ef_search == 777
    await database.close()
