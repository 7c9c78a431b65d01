"""Garbage: what goes, what stays, and who may not be disturbed."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from akidb.errors import UnavailableError
from akidb.manifest import Head, SegmentRef
from akidb.wal import collect
from tests.unit.stores import FaultyStore
from tests.unit.wal.nodes import FOREIGN, PREFIX, SHARD, Node, put_foreign

SEGMENT, DELETES = f"seg/0-{'a' * 32}", f"del/0-{'a' * 32}"


async def _keys(store: FaultyStore) -> list[str]:
    return [info.key.removeprefix(f"{PREFIX}/") async for info in store.list_from(f"{PREFIX}/")]


async def _folded(store: FaultyStore, slots: int = 3) -> Node:
    """A node that wrote `slots` slots and folded all but the last, into a segment with a deletes object."""
    node = await Node.start(store)
    for i in range(slots):
        await node.say(str(i))
        if i == slots - 2:
            folded, chain = node.state.applied + 1, node.state.chain
    ref = SegmentRef(SHARD, f"{PREFIX}/{SEGMENT}", 4, 3, 10, folded - 1, deletes_key=f"{PREFIX}/{DELETES}")
    for key in (SEGMENT, f"seg/0-{'b' * 32}", DELETES, f"del/0-{'b' * 32}"):
        await store.put(f"{PREFIX}/{key}", b"x")

    def change(head: Head) -> Head:
        return replace(head, folded=folded, chain=chain, segments=(ref,), live_count=3)

    await node.heads.swap(change)
    return node


async def test_folded_slots_and_unnamed_objects_go() -> None:
    store = FaultyStore()
    node = await _folded(store)
    assert await collect(node.log, node.heads) == 4
    assert await _keys(store) == [DELETES, "head", SEGMENT, node.log.key(3).removeprefix(f"{PREFIX}/")]
    assert (await node.heads.read())[0].garbage == 3
    assert await collect(node.log, node.heads) == 0


async def test_what_others_put_there_stays_and_holds_up_nothing() -> None:
    store = FaultyStore()
    node = await _folded(store)
    foreign = [*(f"wal/{name}" for name in FOREIGN), "seg/Readme.TXT", "seg/0-mine", "del/notes", "man/0-Readme.TXT"]
    await put_foreign(store, *foreign)
    assert await collect(node.log, node.heads) == 4
    slot = node.log.key(3).removeprefix(f"{PREFIX}/")
    assert await _keys(store) == sorted([DELETES, "head", SEGMENT, slot, *foreign])


async def test_nothing_is_deleted_without_a_real_lock() -> None:
    store = FaultyStore(can_delete=False)
    node = await _folded(store)
    before = await _keys(store)
    assert await collect(node.log, node.heads) == 0
    assert await _keys(store) == before
    assert (await node.heads.read())[0].garbage == 1


async def test_dying_after_head_leaves_what_the_next_call_takes() -> None:
    store = FaultyStore()
    node = await _folded(store)
    real = store.inner.delete_many

    async def dies(keys: object) -> None:
        raise UnavailableError("died")

    store.inner.delete_many = dies  # type: ignore[method-assign,assignment]
    with pytest.raises(UnavailableError):
        await collect(node.log, node.heads)
    store.inner.delete_many = real  # type: ignore[method-assign]
    assert await collect(node.log, node.heads) == 4


async def test_garbage_is_raised_before_anything_goes() -> None:
    store = FaultyStore()
    node = await _folded(store)
    store.faults["put_if_match"] = ["lost"] * 20
    node.heads._retry = replace(node.heads._retry, initial_backoff_ms=1, max_backoff_ms=1)
    with pytest.raises(UnavailableError):
        await collect(node.log, node.heads)
    assert len(await _keys(store)) == 8


async def test_who_puts_and_then_names_an_object_is_waited_for() -> None:
    store = FaultyStore()
    node = await _folded(store)
    young = f"seg/0-{'c' * 32}"
    async with store.lock(PREFIX, exclusive=False):
        collecting = asyncio.create_task(collect(node.log, node.heads))
        await store.put(f"{PREFIX}/{young}", b"x")
        for _ in range(20):
            await asyncio.sleep(0)
        new = SegmentRef(node.appender.writer, f"{PREFIX}/{young}", 1, 0, 10, 2)
        await node.heads.swap(lambda head: replace(head, segments=(*head.segments, new)))
    await collecting
    assert young in await _keys(store)


async def test_a_put_waits_for_the_collector_and_then_sees_that_its_slot_is_gone() -> None:
    store = FaultyStore()
    node = await _folded(store)
    slow = await Node.start(store)
    slow.state.source = node.state
    async with store.lock(PREFIX, exclusive=True):
        saying = asyncio.create_task(slow.say("late"))
        for _ in range(20):
            await asyncio.sleep(0)
    await collect(node.log, node.heads)
    assert await saying == 4
    assert (await node.heard())[-1] == b"late"
