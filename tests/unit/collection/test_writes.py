"""Writes that meet other writes, and slots so large that they are applied beside the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import numpy as np
import pytest

from akidb.collection import Collection
from akidb.collection.workers import INLINE_ROWS
from akidb.database import Database
from akidb.filter import parse
from akidb.segment import MemTable
from akidb.storage.memory import MemoryStore
from akidb.types import EVENTUAL, CollectionSpec, Metric
from tests.unit.collection.faults import DIM, SETTINGS, Oracle

SPEC = CollectionSpec("points", DIM, Metric.EUCLIDEAN)
ODD = parse({"must": [{"field": "odd", "match": True}]})


@pytest.fixture
async def nodes() -> AsyncIterator[list[Collection]]:
    store = MemoryStore()
    databases = [await Database.open(store, SETTINGS) for _ in range(2)]
    await databases[0].create_collection(SPEC)
    yield [await database.collection("points") for database in databases]
    for database in databases:
        await database.close()


async def test_delete_by_filter_spares_what_stops_matching_meanwhile(
    nodes: list[Collection], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = nodes
    await ours.upsert(["a", "b"], np.ones((2, DIM)), [{"odd": True}, {"odd": True}])
    resolve, resolved = ours.writers[0]._in_thread, 0

    async def resolve_slowly(work: object) -> object:
        nonlocal resolved
        ids = await resolve(work)
        if resolved < 10:
            await theirs.upsert(["a"], np.ones((1, DIM)), [{"odd": resolved < 7}])
        resolved += 1
        return ids

    with monkeypatch.context() as slow:
        slow.setattr(ours.writers[0], "_in_thread", resolve_slowly)
        deleted, _ = await ours.delete_where(ODD)
    assert deleted == 1
    (a, b) = await ours.get(["a", "b"])
    assert a is not None
    assert a.payload == {"odd": False}
    assert b is None


async def test_delete_by_filter_comes_to_an_end_while_this_node_writes(
    nodes: list[Collection], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, _ = nodes
    await ours.upsert(range(10), np.ones((10, DIM)), [{"odd": bool(n % 2)} for n in range(10)])
    resolve, writes = ours.writers[0]._in_thread, []

    async def resolve_beside_writes(work: object) -> object:
        ids = await resolve(work)
        writes.append(asyncio.create_task(ours.upsert([f"new{len(writes)}"], np.ones((1, DIM)))))
        for _ in range(50):
            await asyncio.sleep(0)
        return ids

    with monkeypatch.context() as slow:
        slow.setattr(ours.writers[0], "_in_thread", resolve_beside_writes)
        deleted, _ = await asyncio.wait_for(ours.delete_where(ODD), 30)
    assert deleted == 5
    await asyncio.gather(*writes)
    assert await ours.count() == 5 + len(writes)


async def test_readers_see_a_large_slot_whole_or_not_at_all(nodes: list[Collection]) -> None:
    ours, theirs = nodes
    rows = 4 * INLINE_ROWS
    oracle = Oracle()
    await oracle.upsert(ours, range(rows))
    writing = asyncio.create_task(oracle.upsert(ours, range(rows // 2, rows + rows // 2)))
    seen = set()
    while not writing.done():
        seen.add(await ours.count(consistency=EVENTUAL))
        found = await ours.get([str(rows // 2), str(rows - 1)], consistency=EVENTUAL)
        assert None not in found
    assert seen <= {rows, rows + rows // 2}
    await oracle.check(ours)
    await oracle.check(theirs)


async def test_patch_finds_the_point_while_a_large_slot_replaces_it(nodes: list[Collection]) -> None:
    ours, theirs = nodes
    rows = 4 * INLINE_ROWS
    await ours.upsert(range(rows), np.ones((rows, DIM)))
    await ours.writers[0].maintenance.fold()
    for n in range(5):
        replacing = asyncio.create_task(theirs.upsert(range(rows), np.full((rows, DIM), n)))
        patches = [asyncio.create_task(ours.patch(id_, {"n": n})) for id_ in range(0, rows, rows // 4)]
        await asyncio.gather(replacing, *patches)
    assert await ours.count() == rows


@pytest.mark.parametrize("turns", [1, 3, 10, 30, 100])
async def test_a_writer_that_is_cancelled_leaves_the_state_whole(nodes: list[Collection], turns: int) -> None:
    ours, _ = nodes
    rows = 4 * INLINE_ROWS
    writing = asyncio.create_task(ours.upsert(range(rows), np.ones((rows, DIM))))
    for _ in range(turns):
        await asyncio.sleep(0)
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    await ours.upsert(["after"], np.ones((1, DIM)))
    counts = [await node.count() for node in nodes]
    assert counts[0] == counts[1]
    assert counts[0] in (1, rows + 1)


async def test_a_slot_whose_applying_failed_is_applied_whole_later(
    nodes: list[Collection], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, _ = nodes
    oracle = Oracle()
    await oracle.upsert(ours, range(10))
    await ours.writers[0].maintenance.fold()
    with monkeypatch.context() as short:

        def out_of_memory(*args: object) -> None:
            raise MemoryError

        short.setattr(MemTable, "apply_upsert", out_of_memory)
        data = oracle.rng.standard_normal((5, DIM)).astype(np.float32)
        with pytest.raises(MemoryError):
            await ours.upsert(range(5), data)
    oracle.points.update(zip(map(str, range(5)), data, strict=True))
    await oracle.check(ours)
