"""Collections made and dropped under a key: once, whichever node is asked, whenever, and whatever fails meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import numpy as np
import pytest

from akidb.database import Database
from akidb.errors import ConflictError, DeadlineExceededError, InvalidInputError, NotFoundError
from akidb.storage.memory import MemoryStore
from akidb.types import CollectionSpec, Metric
from tests.unit.collection.faults import DIM, SETTINGS, FaultyStore

SPEC = CollectionSpec("points", DIM, Metric.EUCLIDEAN, shard_count=2)


@pytest.fixture
async def stores() -> list[FaultyStore]:
    inner = MemoryStore()
    return [FaultyStore(inner), FaultyStore(inner)]


@pytest.fixture
async def nodes(stores: list[FaultyStore]) -> AsyncIterator[list[Database]]:
    brisk = replace(SETTINGS, api=replace(SETTINGS.api, write_timeout_ms=1000))
    databases = [await Database.open(store, brisk) for store in stores]
    yield databases
    for store in stores:
        store.heal()
    for database in databases:
        await database.close()


async def test_a_collection_is_made_once(nodes: list[Database], stores: list[FaultyStore]) -> None:
    made = await nodes[0].create_collection(SPEC, idempotency_key="one")
    await made.upsert(["a"], np.ones((1, DIM)))
    later = await Database.open(stores[0].inner, SETTINGS)
    for node in (*nodes, later):
        again = await node.create_collection(SPEC, idempotency_key="one")
        assert (again.uuid, await again.count()) == (made.uuid, 1)
    with pytest.raises(ConflictError):
        await nodes[1].create_collection(SPEC, idempotency_key="two")
    with pytest.raises(ConflictError):
        await nodes[1].create_collection(SPEC)
    await later.close()


async def test_requests_that_come_at_once_make_one_collection(nodes: list[Database]) -> None:
    made = await asyncio.gather(
        *(node.create_collection(SPEC, idempotency_key="one") for node in nodes for _ in range(3))
    )
    assert len({collection.uuid for collection in made}) == 1
    assert list(await nodes[0].list_collections()) == ["points"]


async def test_a_lost_answer_is_resolved_under_the_key(nodes: list[Database], stores: list[FaultyStore]) -> None:
    for work in ("create", "drop"):
        stores[0].fault = lambda _, call, key: "after" if call == "put_if_absent" and "/cat/wal/" in key else None
        with pytest.raises(DeadlineExceededError) as unknown:
            await _ask(nodes[0], work)
        assert unknown.value.code == "outcome_unknown"
        stores[0].heal()
        await _ask(nodes[1], work)
        await _ask(nodes[0], work)
        assert len(await nodes[0].list_collections()) == (work == "create")


async def _ask(node: Database, work: str) -> None:
    if work == "create":
        await node.create_collection(SPEC, idempotency_key="create")
    else:
        await node.drop_collection("points", idempotency_key="drop")


async def test_a_drop_never_meets_what_has_the_name_by_then(nodes: list[Database]) -> None:
    await nodes[0].create_collection(SPEC, idempotency_key="one")
    await nodes[0].drop_collection("points", idempotency_key="gone")
    await nodes[1].drop_collection("points", idempotency_key="gone")
    with pytest.raises(NotFoundError, match="dropped since"):
        await nodes[1].create_collection(SPEC, idempotency_key="one")
    made = await nodes[1].create_collection(SPEC)
    await nodes[0].drop_collection("points", idempotency_key="gone")
    assert (await nodes[0].collection("points")).uuid == made.uuid
    with pytest.raises(NotFoundError):
        await nodes[0].drop_collection("nothing", idempotency_key="other")


async def test_a_drop_that_a_node_did_not_finish_is_finished_under_the_key(
    nodes: list[Database], stores: list[FaultyStore]
) -> None:
    made = await nodes[0].create_collection(SPEC)
    await made.upsert(range(10), np.ones((10, DIM)))
    stores[0].fault = lambda _, call, key: "before" if call == "put_if_absent" and "/c/" in key else None
    with pytest.raises(DeadlineExceededError):
        await nodes[0].drop_collection("points", idempotency_key="gone")
    assert list(await nodes[1].list_collections()) == ["points"]
    await nodes[1].drop_collection("points", idempotency_key="gone")
    assert not await nodes[1].list_collections()


async def test_another_request_under_a_key_is_refused(nodes: list[Database]) -> None:
    await nodes[0].create_collection(SPEC, idempotency_key="one")
    for node in nodes:
        for other in (replace(SPEC, name="other"), replace(SPEC, shard_count=3), replace(SPEC, dim=DIM + 1)):
            with pytest.raises(InvalidInputError) as reused:
                await node.create_collection(other, idempotency_key="one")
            assert reused.value.code == "idempotency_key_reused"
        with pytest.raises(InvalidInputError):
            await node.drop_collection("points", idempotency_key="one")
    with pytest.raises(InvalidInputError) as invalid:
        await nodes[0].create_collection(SPEC, idempotency_key="two words")
    assert invalid.value.code == "invalid_idempotency_key"
