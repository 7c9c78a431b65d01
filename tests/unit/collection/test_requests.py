"""Requests under a key are done once: sent again to any node, while the first is under way, after folds, restarts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from akidb.collection import Collection, requests
from akidb.collection.requests import Request, RequestsObject, Written, decode_requests, encode_requests
from akidb.database import Database
from akidb.errors import ConflictError, CorruptionError, DeadlineExceededError, InvalidInputError
from akidb.filter import parse
from akidb.manifest import RequestsRef
from akidb.storage.memory import MemoryStore
from akidb.types import CollectionSpec, Metric
from tests.unit.collection.faults import DIM, SETTINGS, FaultyStore

ONE = np.ones((1, DIM), np.float32)
SPEC = CollectionSpec("points", DIM, Metric.EUCLIDEAN)
NEW = parse({"must": [{"field": "new", "match": True}]})


@pytest.fixture
async def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
async def nodes(store: MemoryStore) -> AsyncIterator[list[Collection]]:
    databases = [await Database.open(FaultyStore(store), SETTINGS) for _ in range(2)]
    await databases[0].create_collection(SPEC)
    yield [await database.collection("points") for database in databases]
    for database in databases:
        await database.close()


async def test_every_kind_of_write_is_done_once_wherever_it_is_sent_again(
    nodes: list[Collection], store: MemoryStore
) -> None:
    ours, theirs = nodes

    async def all_of(node: Collection) -> list[object]:
        return [
            await node.upsert(
                ["a", "b"], np.ones((2, DIM)), [{"new": True}, None], idempotency_key="1", if_absent=True
            ),
            await node.patch("b", {"n": 1}, idempotency_key="2", if_version=1),
            await node.delete_where(NEW, idempotency_key="3"),
            await node.delete_where(NEW, idempotency_key="none-matched"),
            await node.delete(["c"], idempotency_key="4"),
        ]

    first = await all_of(ours)
    assert first == [1, 2, (1, 3), (0, 4), 5]
    assert await all_of(theirs) == first
    await theirs.upsert(["a"], ONE, [{"new": True}])
    await theirs.writers[0].maintenance.fold()
    restarted = await Database.open(FaultyStore(store), SETTINGS)
    for node in (ours, theirs, await restarted.collection("points")):
        assert await all_of(node) == first
        assert node.lsn == 6
        assert [point.id for point in await node.scroll()] == ["a", "b"]
        await node.writers[0].maintenance.fold()
    await restarted.close()


@pytest.mark.parametrize("folded", [False, True])
async def test_another_request_under_a_key_is_refused(nodes: list[Collection], folded: bool) -> None:
    ours, theirs = nodes
    await ours.upsert(["a"], ONE, [{"n": 1}], idempotency_key="k")
    if folded:
        await ours.writers[0].maintenance.fold()
    for other in (
        theirs.upsert(["a"], ONE, [{"n": 2}], idempotency_key="k"),
        theirs.upsert(["a"], 2 * ONE, [{"n": 1}], idempotency_key="k"),
        theirs.upsert(["b"], ONE, [{"n": 1}], idempotency_key="k"),
        theirs.upsert(["a"], ONE, [{"n": 1}], idempotency_key="k", if_version=1),
        theirs.delete(["a"], idempotency_key="k"),
        theirs.patch("a", {"n": 1}, idempotency_key="k"),
        theirs.delete_where(NEW, idempotency_key="k"),
    ):
        with pytest.raises(InvalidInputError, match="'k' was used for another request, at log position 1") as caught:
            await other
        assert caught.value.code == "idempotency_key_reused"
    assert theirs.lsn == 1


async def test_the_same_request_many_times_at_once_is_done_once(nodes: list[Collection]) -> None:
    tries = [nodes[n % 2].upsert(["a"], ONE, idempotency_key="k") for n in range(20)]
    others = [nodes[n % 2].upsert([f"b{n}"], ONE) for n in range(20)]
    answers = await asyncio.gather(*tries, *others)
    assert len(set(answers[:20])) == 1
    assert await nodes[0].count() == 21


async def test_a_request_whose_condition_does_not_hold_leaves_its_key_free(nodes: list[Collection]) -> None:
    ours, theirs = nodes
    with pytest.raises(ConflictError):
        await ours.delete(["a"], if_version=1, idempotency_key="k")
    await ours.upsert(["a"], ONE)
    assert await theirs.delete(["a"], if_version=1, idempotency_key="k") == 2
    assert await ours.delete(["a"], if_version=1, idempotency_key="k") == 2


async def test_an_unknown_outcome_is_resolved_by_sending_it_again(nodes: list[Collection], store: MemoryStore) -> None:
    ours, theirs = nodes
    faulty = ours.shards[0].store
    assert isinstance(faulty, FaultyStore)
    faulty.fault = lambda _, call, key: "after" if call == "put_if_absent" else None
    with pytest.raises(DeadlineExceededError) as caught:
        await ours.upsert(["a"], ONE, idempotency_key="k", timeout_ms=50)
    assert caught.value.code == "outcome_unknown"
    assert await theirs.upsert(["a"], ONE, idempotency_key="k") == 1
    faulty.heal()
    assert await ours.upsert(["a"], ONE, idempotency_key="k") == 1
    assert await theirs.upsert(["b"], ONE) == 2


async def test_a_group_is_not_taken_for_won_by_a_request_of_it_that_another_node_wrote(nodes: list[Collection]) -> None:
    """The group of a request that was sent again holds other writes too, which the other node's slot does not."""
    ours, theirs = nodes
    faulty = ours.shards[0].store
    assert isinstance(faulty, FaultyStore)
    faulty.pause_at = ("put_if_absent", "/wal/")
    together = [
        asyncio.create_task(ours.upsert(["a"], ONE, idempotency_key="k")),
        asyncio.create_task(ours.upsert(["b"], ONE)),
    ]
    await faulty.paused.wait()
    assert await theirs.upsert(["a"], ONE, idempotency_key="k") == 1
    faulty.go.set()
    assert await asyncio.gather(*together) == [1, 2]
    assert await theirs.count() == 2


async def test_objects_merge_and_old_ones_are_forgotten(
    nodes: list[Collection], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = nodes
    for n in range(20):
        await ours.upsert(["a"], ONE, idempotency_key=f"key-{n}")
        await ours.writers[0].maintenance.fold()
        assert len(ours.shards[0].state.head.requests) <= 5
    assert sum(ref.count for ref in ours.shards[0].state.head.requests) == 20
    assert await theirs.upsert(["a"], ONE, idempotency_key="key-0") == 1
    listed = [info.key async for info in ours.shards[0].store.list_from(f"{ours.shards[0].prefix}/req/")]
    assert sorted(listed) == sorted(ref.key(ours.shards[0].prefix) for ref in ours.shards[0].state.head.requests)
    monkeypatch.setattr(requests, "RETENTION_SECS", -1)
    await ours.upsert(["a"], ONE, idempotency_key="last")
    await ours.writers[0].maintenance.fold()
    assert [ref.count for ref in ours.shards[0].state.head.requests] == [1]


async def test_a_store_without_a_clock_forgets_nothing(
    nodes: list[Collection], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, _ = nodes
    monkeypatch.setattr(requests, "RETENTION_SECS", -1)
    read = ours.shards[0].heads.read

    async def dateless() -> object:
        head = await read()
        ours.shards[0].heads.date = None
        return head

    monkeypatch.setattr(ours.shards[0].heads, "read", dateless)
    for n in range(3):
        await ours.upsert(["a"], ONE, idempotency_key=f"{n}")
        await ours.writers[0].maintenance.fold()
    assert sum(ref.count for ref in ours.shards[0].state.head.requests) == 3


@pytest.mark.parametrize("key", ["", "a b", "é", "x" * 256, "\n", 5])
async def test_what_is_no_key_is_refused(nodes: list[Collection], key: object) -> None:
    with pytest.raises(InvalidInputError) as caught:
        await nodes[0].upsert(["a"], ONE, idempotency_key=key)
    assert caught.value.code == "invalid_idempotency_key"
    assert nodes[0].lsn == 0


written = st.builds(Written, st.integers(1, 2**63), st.integers(0, 10**6), st.binary(min_size=16, max_size=16))
some = st.dictionaries(st.uuids() | st.builds(UUID, int=st.integers(0, 9)), written)


@given(some, st.uuids())
def test_requests_come_back_and_are_found(given: dict, other: object) -> None:
    uuid = uuid4()
    body = encode_requests(RequestsObject.of(given), uuid=uuid)
    back = decode_requests(body, RequestsRef(uuid, len(given), 0), name="x")
    assert {key: back.find(key) for key in given} == given
    assert back.find(other) == given.get(other)
    with pytest.raises(CorruptionError, match="object x: it is"):
        decode_requests(body, RequestsRef(uuid, len(given) + 1, 0), name="x")


def test_a_fingerprint_tells_where_one_value_ends_and_the_next_begins() -> None:
    contents = [(b"ab", b"c"), (b"a", b"bc"), (b"abc",), (["ab", "c"],), (["a", "bc"],), (np.zeros(2),), (np.zeros(3),)]
    assert len({Request.of("k", *content).once for content in contents}) == len(contents)
