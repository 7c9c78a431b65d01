"""Index parameters that change: what follows at once, what is built anew, and what other nodes make of it."""

from __future__ import annotations

import asyncio
import contextlib

import numpy as np
import pytest

from akidb.collection import Collection
from akidb.collection import collection as module
from akidb.database import Database
from akidb.errors import AkiDBError, InvalidInputError, NotFoundError, ReadOnlyError
from akidb.query import SearchQuery
from akidb.types import CollectionSpec, IndexParams, Metric
from tests.unit.collection.faults import DIM, SETTINGS, FaultyStore, Oracle

INDEX = IndexParams(m=8, ef_construction=32, min_vectors_threshold=10)
SPEC = CollectionSpec("points", DIM, Metric.EUCLIDEAN, INDEX)


@pytest.fixture
async def collection(database: Database) -> Collection:
    collection = await database.create_collection(SPEC)
    oracle = Oracle()
    await oracle.upsert(collection, range(100))
    await collection.wait_indexed()
    return collection


def graphs(collection: Collection) -> list[tuple[int, int, int]]:
    return [segment._graph_params for segment in collection.shards[0].state.segments]


async def test_graphs_are_built_anew_and_the_old_ones_answer_meanwhile(
    database: Database, collection: Collection
) -> None:
    assert graphs(collection) == [(8, 32, 0)]
    await database.alter_index("points", {"m": 12, "ef_construction": 40, "ef_search": 77})
    assert collection.spec.index == IndexParams("auto", 12, 40, 77, 10)
    state = (await collection.info()).index
    assert (state.state, state.indexed, state.pending) == ("building", 0, 100)
    assert graphs(collection) == [(8, 32, 0)]
    (hits,) = await collection.search([SearchQuery(np.zeros(DIM, np.float32), top_k=3)], timeout_ms=60_000)
    assert len(hits) == 3
    await collection.wait_indexed()
    assert graphs(collection) == [(12, 40, 0)]
    assert (await collection.info()).index.state == "ready"


async def test_codes_are_made_beside_the_same_links(
    database: Database, collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await database.alter_index("points", {"quantization": "sq8"})
    await collection.wait_indexed()
    assert graphs(collection) == [(8, 32, 8)]
    await database.alter_index("points", {"quantization": "auto"})
    assert (await collection.info()).index.state == "ready"


async def test_ef_search_alone_builds_nothing(database: Database, collection: Collection, store: FaultyStore) -> None:
    before = list(collection.shards[0].state.segments)
    await database.alter_index("points", {"ef_search": 300})
    assert (await collection.info()).index.state == "ready"
    assert (await collection.snapshot()).spec.index.ef_search == 300
    assert collection.shards[0].state.segments == before


async def test_flat_is_exact_at_once_and_back(database: Database, collection: Collection) -> None:
    await database.alter_index("points", {"type": "flat"})
    assert (await collection.info()).index.state == "ready"
    await Oracle(1).upsert(collection, range(100, 300))
    await collection.writers[0].maintenance.fold()
    assert (await collection.info()).index.pending == 0
    await database.alter_index("points", {"type": "hnsw"})
    assert (await collection.info()).index.pending == 200
    await collection.wait_indexed()
    assert graphs(collection) == [(8, 32, 0)] * 2


@pytest.mark.parametrize("former", [{"m": 8, "ef_construction": 33}, {"m": 9}])
async def test_a_merge_builds_upon_no_graph_of_former_parameters(
    database: Database, collection: Collection, former: dict[str, int]
) -> None:
    await database.alter_index("points", former)
    oracle = Oracle(2)
    await oracle.upsert(collection, range(100, 160))
    await collection.writers[0].maintenance.fold()
    await collection.writers[0].maintenance.merge(collection.shards[0].state.segments)
    assert graphs(collection) == [(former["m"], former.get("ef_construction", 32), 0)]
    assert (await collection.info()).index.state == "ready"


async def test_it_lasts_and_other_nodes_take_it(
    database: Database, collection: Collection, store: FaultyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = await Database.open(store.inner, SETTINGS)
    beside = await node.collection("points")
    await database.alter_index("points", {"ef_search": 50})
    await database.alter_index("points", {"m": 16})
    monkeypatch.setattr(module, "SPEC_SECS", -1.0)
    await beside.count()
    await asyncio.gather(beside._looking)
    assert beside.spec.index == collection.spec.index == IndexParams("auto", 16, 32, 50, 10)
    fresh = await Database.open(store.inner, SETTINGS, read_only=True)
    assert (await fresh.collection("points")).spec == collection.spec
    with pytest.raises(ReadOnlyError):
        await fresh.alter_index("points", {"m": 8})
    await fresh.close()
    await node.close()


async def test_a_node_that_has_not_heard_does_not_build_by_former_parameters(
    database: Database, collection: Collection, store: FaultyStore
) -> None:
    node = await Database.open(store.inner, SETTINGS)
    beside = await node.collection("points")
    await database.alter_index("points", {"m": 16})
    await collection.wait_indexed()
    await beside.shards[0].refresh()
    (segment,) = beside.shards[0].state.segments
    assert beside.shards[0].state.wants_graph(segment), "by the parameters it knows"
    await beside.writers[0].maintenance.build(segment)
    assert graphs(beside) == [(16, 32, 0)]
    assert beside.shards[0].state.segments == [segment]
    await node.close()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, "index is empty, expected some of type, m"),
        ({"m": 1}, "index.m is 1, expected an integer from 2 to 512"),
        ({"ef_search": True}, "index.ef_search is True"),
        ({"type": "tree"}, "index.type is 'tree', expected auto, hnsw or flat"),
        ({"quantization": "pq"}, "index.quantization is 'pq', expected auto, none, sq4 or sq8"),
        ({"metric": "l2"}, "index.metric: is unknown"),
    ],
)
async def test_what_cannot_be_is_refused(
    database: Database, collection: Collection, changes: dict[str, object], says: str
) -> None:
    with pytest.raises(InvalidInputError, match=says.replace(".", r"\.")) as refused:
        await database.alter_index("points", changes)
    assert refused.value.code == "invalid_collection"
    assert collection.spec == SPEC
    with pytest.raises(NotFoundError):
        await database.alter_index("nothing", {"m": 8})


async def test_a_lost_answer_leaves_one_state_for_all(
    database: Database, collection: Collection, store: FaultyStore
) -> None:
    for number in range(1, 6):
        store.calls.clear()
        store.fault = lambda call, *_, at=number: "after" if call == at else None
        with contextlib.suppress(AkiDBError):
            await database.alter_index("points", {"m": 16 + number})
        store.heal()
        await database.collection("points")
        other = await Database.open(store.inner, SETTINGS, read_only=True)
        assert (await other.collection("points")).spec == collection.spec
        await other.close()
