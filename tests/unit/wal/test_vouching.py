"""A log whose folded slots are deleted without a lock: who stood still meanwhile notices, by the store's own clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from akidb.errors import DeadlineExceededError
from akidb.manifest import Head
from akidb.storage.object_store import Reply, Status
from akidb.wal import Collected, Entry, collect_by_epoch
from tests.unit.stores import FaultyStore
from tests.unit.wal.nodes import Node

HOUR = 3600.0


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets the store's clock go on; nodes' own clocks stand still, as in a machine that is suspended."""
    offset, real = [0.0], time.time
    monkeypatch.setattr(time, "time", lambda: real() + offset[0])

    def go_on(secs: float) -> None:
        offset[0] += secs

    return go_on


async def _fold(node: Node) -> None:
    def folded(head: Head) -> Head:
        return replace(head, folded=node.state.applied + 1, chain=node.state.chain)

    assert await node.heads.swap(folded) is not None


async def _round(node: Node) -> Collected:
    return await collect_by_epoch(node.log, node.heads, interval_secs=0)


async def _slots(store: FaultyStore, node: Node) -> list[int]:
    return [int(info.key[-16:], 16) async for info in store.list_from(f"{node.log.prefix}/wal/")]


async def _world(passes: Callable[[float], None]) -> tuple[FaultyStore, Node, Node]:
    """A node that wrote 5 slots and folded 4, all of which are deleted, and one that knows the first alone."""
    store = FaultyStore(can_delete=False)
    node, slow = await Node.start(store), await Node.start(store)
    slow.state.source = node.state
    await node.say("1")
    await slow.heard()
    for text in ("2", "3", "4"):
        await node.say(text)
    await _fold(node)
    await node.say("5")
    for _ in range(3):
        await _round(node)
        passes(HOUR + 1)
    assert await _slots(store, node) == [5]
    return store, node, slow


async def test_slots_go_an_hour_after_head_was_seen_to_say_that_they_may(passes: Callable[[float], None]) -> None:
    store = FaultyStore(can_delete=False)
    node = await Node.start(store)
    for text in ("1", "2"):
        await node.say(text)
    await _fold(node)
    await node.say("3")
    passes(100 * HOUR)
    await _round(node)  # says that they may be gone
    head, _ = await node.heads.read()
    assert (head.garbage, head.settled) == (3, 1)
    passes(100 * HOUR)
    await _round(node)  # remembers when it was said
    passes(HOUR - 60)
    await _round(node)
    assert await _slots(store, node) == [1, 2, 3]
    passes(HOUR + 1)
    done = await _round(node)
    assert done.objects == 2
    assert await _slots(store, node) == [3]


async def test_a_strong_read_after_a_pause_looks_at_head(passes: Callable[[float], None]) -> None:
    store = FaultyStore(can_delete=False)
    node = await Node.start(store)
    await node.heard()
    store.counts.clear()
    await node.heard()
    assert store.counts == {"get": 1}
    passes(61)
    await node.heard()
    await node.heard()
    assert store.counts == {"get": 3, "get_head": 1}


async def test_a_reader_that_stood_still_jumps_ahead(passes: Callable[[float], None]) -> None:
    _, _, slow = await _world(passes)
    assert await slow.heard() == [b"1", b"2", b"3", b"4", b"5"]
    assert slow.state.reloads == 1


async def test_a_writer_that_stood_still_is_told_the_truth(passes: Callable[[float], None]) -> None:
    """Its put creates a slot again that was folded and deleted: nobody may read it, and it is no success."""
    store, node, slow = await _world(passes)
    with pytest.raises(DeadlineExceededError) as caught:
        await slow.say("late")
    assert caught.value.code == "outcome_unknown"
    assert 2 in await _slots(store, node)
    assert await slow.say("again") == 6
    assert await slow.heard() == await node.heard() == [b"1", b"2", b"3", b"4", b"5", b"again"]
    third = await Node.start(store)
    third.state.source = node.state
    assert (await third.heard())[-1] == b"again"
    for _ in range(2):
        await _round(node)
        passes(HOUR + 1)
    assert 2 not in await _slots(store, node)


async def test_a_writer_that_knows_that_it_stood_still_writes_nothing_in_vain(
    passes: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, node, slow = await _world(passes)
    slow.heads._read_at -= HOUR
    assert await slow.say("late") == 6
    assert await _slots(store, node) == [5, 6]


async def test_a_reader_does_not_take_a_slot_that_was_created_again(passes: Callable[[float], None]) -> None:
    store, node, slow = await _world(passes)
    other = await Node.start(store)
    other.state.source = node.state
    with pytest.raises(DeadlineExceededError):
        await slow.say("late")
    other.heads._seen = None
    assert await other.heard() == [b"1", b"2", b"3", b"4", b"5"]


@pytest.mark.parametrize("date", [None, -5.0])
async def test_a_date_that_is_missing_or_goes_backward_proves_nothing(
    date: float | None, passes: Callable[[float], None]
) -> None:
    store = FaultyStore(can_delete=False)
    node = await Node.start(store)
    await node.heard()
    told = None if date is None else time.time() + date
    store.faults["get"] = [Reply(Status.NOT_FOUND, date=told)]
    store.counts.clear()
    await node.heard()
    assert store.counts["get_head"] == 1


async def test_a_put_that_head_can_not_vouch_for_is_tried_again(passes: Callable[[float], None]) -> None:
    store = FaultyStore(can_delete=False)
    node = await Node.start(store)
    await node.heard()
    passes(61)
    refused = []

    async def before(name: str, key: str) -> None:
        if name == "get_head" and not refused:
            refused.append(key)
            store.faults["get_head"] = ["lost"]

    store.before = before
    assert await node.say("1") == 1
    assert refused
    assert await node.heard() == [b"1"]
    assert [entry for entry in node.state.entries if entry == b"1"] == [Entry(b"1").json]
