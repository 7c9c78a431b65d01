"""Leases: one node works at a time, a dead one's work is taken over, and no answer depends on any of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import numpy as np
import pytest

from akidb.codec.frame import KIND_LEASE
from akidb.collection import Collection, compaction, lease, maintenance
from akidb.collection.lease import EXPIRY_SECS, NOBODY, Held, Lease, decode_lease, encode_lease
from akidb.database import Database
from akidb.errors import CorruptionError
from akidb.storage.memory import MemoryStore
from akidb.types import CollectionSpec, IndexParams, Metric
from tests.unit.clock import Clock
from tests.unit.collection.faults import DIM, SETTINGS, FaultyStore, Oracle

SHARD = uuid4()
KEY = "p/lease/fold"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(lease, "time", clock)
    return clock


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore(MemoryStore())


@pytest.fixture
def leases(store: FaultyStore) -> list[Lease]:
    return [Lease(store, "p", "fold", SHARD, UUID(int=n)) for n in (7, 8)]


async def held(store: FaultyStore) -> Held:
    return decode_lease((await store.inner.get(KEY)).body, shard=SHARD, name=KEY)


async def test_one_node_has_it_and_then_the_other(leases: list[Lease], store: FaultyStore) -> None:
    ours, theirs = leases
    async with ours.held() as first:
        assert first
        async with theirs.held() as second:
            assert not second
        assert await held(store) == Held(UUID(int=7), 1, 1)
    assert await held(store) == Held(NOBODY, 1, 2)
    async with theirs.held() as second:
        assert second
        assert await held(store) == Held(UUID(int=8), 2, 3)


async def test_of_two_that_ask_at_once_one_gets_it(leases: list[Lease]) -> None:
    async def work(own: Lease) -> bool:
        async with own.held() as mine:
            await asyncio.sleep(0.01)
            return mine

    assert sorted(await asyncio.gather(*map(work, leases))) == [False, True]


async def test_what_does_not_change_for_long_is_taken_over(
    leases: list[Lease], store: FaultyStore, clock: Clock
) -> None:
    ours, theirs = leases
    async with ours.held():
        for now, expected in ((1000.0, False), (1000.0 + EXPIRY_SECS - 1, False), (1000.0 + EXPIRY_SECS, True)):
            clock.now = now
            async with theirs.held() as taken:
                assert taken is expected
                if taken:
                    assert not await ours._change(owner=UUID(int=7))  # it does not take it back
                    assert (await held(store)).owner == UUID(int=8)
    assert await held(store) == Held(NOBODY, 2, 3)  # and does not let go of what is not its own


async def test_an_owner_that_goes_on_keeps_it(leases: list[Lease], clock: Clock) -> None:
    ours, theirs = leases
    async with ours.held():
        for _ in range(5):
            clock.now += EXPIRY_SECS - 1
            assert await ours._change(owner=UUID(int=7))
            async with theirs.held() as taken:
                assert not taken


async def test_it_is_renewed_while_the_work_goes_on(
    leases: list[Lease], store: FaultyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "RENEW_SECS", 0.0)
    async with leases[0].held():
        for _ in range(100):
            await asyncio.sleep(0)
        assert (await held(store)).counter > 3
    assert (await held(store)).owner == NOBODY


async def test_what_cannot_be_read_expires_like_any(leases: list[Lease], store: FaultyStore, clock: Clock) -> None:
    await store.inner.put(KEY, b"nothing of ours")
    async with leases[0].held() as mine:
        assert not mine
    clock.now += EXPIRY_SECS
    async with leases[0].held() as mine:
        assert mine
    assert (await held(store)).owner == NOBODY


def test_bytes_tell_what_they_are() -> None:
    body = encode_lease(Held(UUID(int=7), 2, 9), shard=SHARD)
    assert decode_lease(body, shard=SHARD, name=KEY) == Held(UUID(int=7), 2, 9)
    for damaged in (body[:-1], body[:70] + b"\xff" + body[71:]):
        with pytest.raises(CorruptionError, match=KEY):
            decode_lease(damaged, shard=SHARD, name=KEY)
    with pytest.raises(CorruptionError, match=KEY):
        decode_lease(body, shard=uuid4(), name=KEY)
    assert int.from_bytes(body[8:10], "little") == KIND_LEASE


@pytest.fixture
async def nodes() -> AsyncIterator[list[Collection]]:
    inner = MemoryStore()
    databases = [await Database.open(FaultyStore(inner), SETTINGS) for _ in range(2)]
    spec = CollectionSpec("points", DIM, Metric.EUCLIDEAN, IndexParams(min_vectors_threshold=8))
    await databases[0].create_collection(spec)
    yield [await database.collection("points") for database in databases]
    for database in databases:
        await database.close()


async def test_two_nodes_do_not_merge_the_same_segments(
    nodes: list[Collection], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "OTHERS_SECS", 0.0)
    oracle, merged = Oracle(), []
    ours, theirs = nodes
    work = [node.writers[0].maintenance for node in nodes]
    assert work[0] is not None
    assert work[1] is not None
    for first in range(0, 4 * 60, 60):
        await oracle.upsert(ours, range(first, first + 60))
        await work[0].fold()
        await work[0].build(ours.shards[0].state.segments[-1])
    await theirs.count()
    await theirs.shards[0].refresh()
    compact = compaction.compact

    async def counted(*arguments: object) -> bool:
        merged.append(arguments)
        return await compact(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(compaction, "compact", counted)
    await asyncio.gather(*(each._index_if_due() for each in work if each is not None))
    assert len(merged) == 1
    for each in work:
        assert each is not None
        await each._index_if_due()  # looks at HEAD first, and has nothing left to do
    assert len(merged) == 1
    for node in nodes:
        await oracle.check(node)


async def test_a_node_without_the_lease_folds_what_cannot_wait(
    nodes: list[Collection], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "OTHERS_SECS", 0.0)
    monkeypatch.setattr(maintenance, "TAIL_ROWS_MAX", 10)
    ours, theirs = nodes
    own = ours.writers[0].maintenance
    other = theirs.writers[0].maintenance
    assert own is not None
    assert other is not None
    async with own._folding.held() as mine:
        assert mine
        await theirs.upsert(range(15), np.ones((15, DIM)))
        await other._fold_if_due()
        assert theirs.shards[0].state.slots_in_tail == 1
        await theirs.upsert(range(15, 30), np.ones((15, DIM)))
        await other._fold_if_due()
        assert theirs.shards[0].state.slots_in_tail == 0
