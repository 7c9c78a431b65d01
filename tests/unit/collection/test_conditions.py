"""Conditional writes: exact against every other write, wherever it comes from, and refused only by the present."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import numpy as np
import pytest

from akidb.collection import Collection
from akidb.collection.writes import INLINE_IDS_MAX
from akidb.database import Database
from akidb.errors import ConflictError, InvalidInputError, NotFoundError
from akidb.storage.memory import MemoryStore
from akidb.types import EVENTUAL, CollectionSpec, Metric
from tests.unit.collection.faults import DIM, SETTINGS, FaultyStore

ONE = np.ones((1, DIM), np.float32)


@pytest.fixture
async def nodes() -> AsyncIterator[list[Collection]]:
    store = MemoryStore()
    databases = [await Database.open(FaultyStore(store), SETTINGS) for _ in range(2)]
    await databases[0].create_collection(CollectionSpec("points", DIM, Metric.EUCLIDEAN))
    yield [await database.collection("points") for database in databases]
    for database in databases:
        await database.close()


async def version(collection: Collection, id_: str) -> int:
    (point,) = await collection.get([id_])
    return 0 if point is None else point.version


async def test_a_version_is_the_lsn_of_the_last_write_to_the_point(nodes: list[Collection]) -> None:
    ours, theirs = nodes
    first = await ours.upsert(["a", "b"], np.ones((2, DIM)))
    patched = await theirs.patch("a", {"n": 1})
    assert [await version(node, "a") for node in nodes] == [patched, patched]
    assert await version(ours, "b") == first
    await ours.writers[0].maintenance.fold()
    assert await version(ours, "b") == first
    (page,) = [await theirs.scroll()]
    assert [(point.id, point.version) for point in page] == [("a", patched), ("b", first)]


@pytest.mark.parametrize("folded", [False, True])
async def test_conditions_hold_or_name_what_differs(nodes: list[Collection], folded: bool) -> None:
    ours, theirs = nodes
    there = await ours.upsert(["a"], ONE, if_absent=True)
    if folded:
        await ours.writers[0].maintenance.fold()
    with pytest.raises(ConflictError, match="point 'a' has version 1, expected none") as exists:
        await theirs.upsert(["b", "a"], np.ones((2, DIM)), if_absent=True)
    assert (exists.value.code, exists.value.faults[0].loc) == ("point_exists", ("if_absent",))
    with pytest.raises(ConflictError, match="point 'b' is not there, expected version 1") as differs:
        await theirs.upsert(["a", "b"], np.ones((2, DIM)), if_version=[there, there])
    assert (differs.value.code, differs.value.faults[0].loc) == ("version_mismatch", ("if_version", 1))
    with pytest.raises(ConflictError, match="has version 1, expected version 2"):
        await theirs.delete(["a"], if_version=2)
    with pytest.raises(ConflictError):
        await theirs.patch("a", {}, if_version=2)
    with pytest.raises(NotFoundError):
        await theirs.patch("b", {}, if_version=1)
    assert [await node.count() for node in nodes] == [1, 1]
    later = await theirs.upsert(["a", "b", "c"], np.ones((3, DIM)), if_version=[there, 0, None])
    assert await ours.patch("a", {}, if_version=later) == later + 1
    assert await ours.delete(["a", "b"], if_version=[None, later]) == later + 2
    assert [await node.count() for node in nodes] == [1, 1]


async def test_of_many_creates_at_once_one_happens(nodes: list[Collection]) -> None:
    tries = [nodes[n % 2].upsert(["a"], np.full((1, DIM), n), if_absent=True) for n in range(20)]
    answers = await asyncio.gather(*tries, return_exceptions=True)
    (won,) = [n for n, answer in enumerate(answers) if isinstance(answer, int)]
    assert {type(answer) for n, answer in enumerate(answers) if n != won} == {ConflictError}
    (point,) = await nodes[0].get(["a"])
    assert point is not None
    assert (point.vector[0], point.version) == (won, answers[won])


async def test_counting_up_by_versions_loses_no_count(nodes: list[Collection]) -> None:
    await nodes[0].upsert(["n"], ONE, [{"n": 0}])
    assert [await node.count() for node in nodes] == [1, 1]

    async def count_up(node: Collection, times: int) -> None:
        while times:
            (point,) = await node.get(["n"], consistency=EVENTUAL)
            try:
                await node.upsert(["n"], ONE, [{"n": point.payload["n"] + 1}], if_version=point.version)
                times -= 1
            except ConflictError:
                pass

    await asyncio.gather(*(count_up(nodes[n % 2], 5) for n in range(6)))
    (point,) = await nodes[1].get(["n"])
    assert point.payload == {"n": 30}


async def test_a_version_seen_in_a_slot_names_one_content(nodes: list[Collection]) -> None:
    """Two writes of a point that wait together must not share a slot: the first writer's version would be the other's
    content."""
    ours, _ = nodes
    lsns = await asyncio.gather(*(ours.upsert(["a"], np.full((1, DIM), n)) for n in range(5)))
    assert len(set(lsns)) == 5
    for lsn in sorted(lsns)[:-1]:
        with pytest.raises(ConflictError):
            await ours.upsert(["a"], ONE, if_version=lsn)


async def test_a_node_that_lags_does_not_refuse_what_holds_by_now(nodes: list[Collection]) -> None:
    ours, theirs = nodes
    await ours.upsert(["a"], ONE)
    await theirs.count()
    await ours.delete(["a"])
    assert await theirs.upsert(["a"], ONE, if_absent=True) == 3
    assert await ours.delete(["a"]) == 4
    assert await ours.upsert(["a"], ONE) == 5
    assert await theirs.patch("a", {"n": 1}, if_version=5) == 6


async def test_large_conditional_writes_are_judged_beside_the_loop(nodes: list[Collection]) -> None:
    ours, theirs = nodes
    rows = 2 * INLINE_IDS_MAX
    lsn = await ours.upsert(range(rows), np.ones((rows, DIM)), if_absent=True)
    answers = await asyncio.gather(
        *(node.upsert(range(rows), np.ones((rows, DIM)), if_version=lsn) for node in nodes), return_exceptions=True
    )
    assert sorted(type(answer) is int for answer in answers) == [False, True]
    (refused,) = [answer for answer in answers if isinstance(answer, ConflictError)]
    assert len(refused.faults) == 100
    assert f"and {rows - 1} more points" in str(refused)
    assert await theirs.count() == rows


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"if_version": -1}, "if_version: is -1, expected a version"),
        ({"if_version": True}, "if_version: is True"),
        ({"if_version": "1"}, "if_version: is '1'"),
        ({"if_version": [1, 1.5]}, "if_version.1: is 1.5"),
        ({"if_version": [1]}, "if_version: has 1 versions for 2 ids"),
        ({"if_version": 1 << 63}, "expected a version"),
        ({"if_absent": 1}, "if_absent: is 1, expected True or False"),
        ({"if_absent": True, "if_version": 0}, "given beside if_absent"),
    ],
)
async def test_what_is_no_condition_is_refused(nodes: list[Collection], arguments: dict, says: str) -> None:
    with pytest.raises(InvalidInputError, match=says) as caught:
        await nodes[0].upsert(["a", "b"], np.ones((2, DIM)), **arguments)
    assert caught.value.code == "invalid_condition"
    assert await nodes[0].count() == 0
