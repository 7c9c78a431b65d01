"""Following the log: what is the end, what is a gap, and when to jump to HEAD."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from akidb.errors import CorruptionError, StorageFullError, UnavailableError
from akidb.manifest import Head
from akidb.storage.memory import MemoryStore
from akidb.storage.object_store import Reply, Status
from akidb.wal import Entry, Slot, encode_slot, tail
from akidb.wal.collect import collect
from akidb.wal.record import Batch
from akidb.wal.tail import Put, Tail
from tests.unit.stores import FaultyStore
from tests.unit.wal.nodes import FOREIGN, PREFIX, SHARD, Node, put_foreign, soon, until


def _tail(node: Node) -> Tail:
    return Tail(node.log, node.state, node.heads)


async def _fold(node: Node) -> None:
    """HEAD as a fold of everything `node` has applied would leave it, without segments."""

    def folded(head: Head) -> Head:
        return replace(head, folded=node.state.applied + 1, chain=node.state.chain)

    assert await node.heads.swap(folded) is not None


async def test_an_idle_log_costs_one_read_where_nothing_is_deleted() -> None:
    store = FaultyStore(can_delete=False)
    node = await Node.start(store)
    await node.say("one")
    await node.heard()
    store.counts.clear()
    assert await node.heard() == [b"one"]
    assert store.counts == {"get": 1}


async def test_where_slots_are_deleted_the_end_is_checked_against_head() -> None:
    store = FaultyStore()
    node = await Node.start(store)
    await node.heard()
    store.counts.clear()
    await node.heard()
    assert store.counts == {"get": 1, "get_head": 1}


async def test_the_end_can_be_told_at_once_once_it_was_seen() -> None:
    store = MemoryStore()
    node, other = await Node.start(store), await Node.start(store)
    assert not node.appender.ends_at(0)  # nobody looked for slots behind a missing one
    await node.heard()
    assert node.appender.ends_at(0)
    await other.say("one")
    assert not node.appender.ends_at(0)
    await node.heard()
    assert node.appender.ends_at(1)


async def test_a_slot_that_was_folded_and_collected_is_no_end() -> None:
    store = MemoryStore()
    node, other = await Node.start(store), await Node.start(store)
    node.state.source = other.state
    await node.heard()
    await other.say("one")
    await _fold(other)
    assert await collect(other.log, other.heads) == 1
    assert not node.appender.ends_at(0)
    await node.heard()
    assert node.appender.ends_at(1)


async def test_a_store_that_can_not_answer_at_once_tells_no_end() -> None:
    node = await Node.start(FaultyStore())
    await node.heard()
    assert not node.appender.ends_at(0)


async def test_far_behind_is_caught_up_in_order() -> None:
    store = FaultyStore()
    writer, reader = await Node.start(store), await Node.start(store)
    for i in range(30):
        await writer.say(str(i))
    assert await reader.heard() == [b"%d" % i for i in range(30)]
    assert reader.state.chain == writer.state.chain


async def test_a_few_slots_behind_need_no_list_once_others_are_known_to_write() -> None:
    store = FaultyStore(can_delete=False)
    writer, reader = await Node.start(store), await Node.start(store)
    await writer.say("0")
    await reader.heard()
    for i in range(2):
        await writer.say(str(i))
    store.counts.clear()
    assert len(await reader.heard()) == 3
    assert store.counts["list"] == 0


async def test_slots_folded_away_are_jumped_over() -> None:
    store = FaultyStore()
    writer, reader = await Node.start(store), await Node.start(store)
    reader.state.source = writer.state
    await writer.say("seen")
    await reader.heard()
    for i in range(5):
        await writer.say(str(i))
    await _fold(writer)
    assert await collect(writer.log, writer.heads) == 6
    await writer.say("after")
    assert (await reader.heard())[-2:] == [b"4", b"after"]
    assert reader.state.reloads == 1
    assert reader.state.applied == 7


async def test_many_slots_that_are_folded_are_jumped_over_though_they_are_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tail, "FAR", 100)
    store = FaultyStore(can_delete=False)
    writer, reader = await Node.start(store), await Node.start(store)
    reader.state.source = writer.state
    for i in range(400):
        await writer.say(str(i))
    await _fold(writer)
    await writer.say("after")
    store.counts.clear()
    assert await reader.heard() == writer.state.entries
    assert reader.state.reloads == 1
    assert store.counts["get"] < 200


async def test_few_slots_that_are_folded_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "FAR", 100)
    store = FaultyStore(can_delete=False)
    writer, reader = await Node.start(store), await Node.start(store)
    for i in range(190):
        await writer.say(str(i))
    await _fold(writer)
    assert await reader.heard() == writer.state.entries
    assert reader.state.reloads == 0


async def test_a_fresh_node_whose_tail_is_gone_reloads() -> None:
    store = FaultyStore()
    writer, fresh = await Node.start(store), await Node.start(store)
    fresh.state.source = writer.state
    await writer.say("one")
    await _fold(writer)
    await collect(writer.log, writer.heads)
    assert await fresh.heard() == [b"one"]


async def test_a_reload_that_stays_behind_is_corruption() -> None:
    store = FaultyStore()
    writer, reader = await Node.start(store), await Node.start(store)
    await writer.say("one")
    reader.state.source = reader.state
    await _fold(writer)
    await collect(writer.log, writer.heads)
    with pytest.raises(CorruptionError, match=f"object {PREFIX}/head: slots below 2 are gone"):
        await reader.heard()


async def test_what_others_put_behind_the_slots_tells_of_none_that_is_missing() -> None:
    store = FaultyStore()
    writer = await Node.start(store)
    await writer.say("one")
    await put_foreign(store, *(f"wal/{name}" for name in FOREIGN))
    reader = await Node.start(store)
    assert await reader.heard() == [b"one"]
    assert await reader.say("two") == 2
    assert await writer.heard() == [b"one", b"two"]


@pytest.mark.parametrize("foreign", [(), FOREIGN])
@pytest.mark.parametrize("lost", [1, 3, 5])
async def test_a_missing_slot_before_others_is_corruption(lost: int, foreign: tuple[str, ...]) -> None:
    store = FaultyStore()
    writer, reader = await Node.start(store), await Node.start(store)
    for i in range(6):
        await writer.say(str(i))
    await put_foreign(store, *(f"wal/{name}" for name in foreign))
    await store.delete_many([writer.log.key(lost)])
    for _ in range(2):
        with pytest.raises(CorruptionError, match=writer.log.key(lost)) as caught:
            await reader.heard()
        assert caught.value.code == "missing_slot"
    assert reader.state.applied == lost - 1


async def test_a_fresh_writer_does_not_fill_a_gap() -> None:
    store = FaultyStore()
    writer, fresh = await Node.start(store), await Node.start(store)
    for i in range(3):
        await writer.say(str(i))
    await store.delete_many([writer.log.key(2)])
    with pytest.raises(CorruptionError, match=writer.log.key(2)):
        await fresh.say("mine")
    assert (await store.get(writer.log.key(2))).status is Status.NOT_FOUND


async def test_a_slot_missing_among_those_probed_together_is_corruption() -> None:
    store = FaultyStore()
    writer, reader = await Node.start(store), await Node.start(store)
    await writer.say("0")
    await reader.heard()
    for i in range(3):
        await writer.say(str(i))
    await store.delete_many([writer.log.key(3)])
    with pytest.raises(CorruptionError, match=writer.log.key(3)):
        await reader.heard()


async def test_a_damaged_slot_stops_readers_and_writers_and_is_named() -> None:
    store = FaultyStore()
    writer, reader = await Node.start(store), await Node.start(store)
    await writer.say("good")
    await writer.say("bad")
    key = writer.log.key(2)
    body = bytearray((await store.get(key)).body)
    body[-40] ^= 4
    await store.put(key, bytes(body))
    for _ in range(2):
        with pytest.raises(CorruptionError, match=key):
            await reader.heard()
        with pytest.raises(CorruptionError, match=key):
            await reader.say("more")
    assert reader.state.entries == [b"good"]


async def test_a_slot_of_another_history_stops_everything() -> None:
    store = FaultyStore()
    writer, reader = await Node.start(store), await Node.start(store)
    await writer.say("one")
    body, _ = encode_slot(Slot(2, SHARD, SHARD, bytes(16), [Batch(SHARD, [Entry(b"alien")])]))
    await store.put(writer.log.key(2), body)
    with pytest.raises(CorruptionError, match=f"object {writer.log.key(2)}: it continues"):
        await writer.say("two")
    with pytest.raises(CorruptionError, match=f"object {writer.log.key(2)}: it continues"):
        await reader.heard()
    assert b"alien" not in writer.state.entries + reader.state.entries


async def test_put_below_garbage_writes_nothing() -> None:
    store = FaultyStore()
    writer, other = await Node.start(store), await Node.start(store)
    await writer.say("one")
    await _fold(writer)
    await collect(writer.log, writer.heads)
    body, _ = encode_slot(Slot(1, SHARD, SHARD, bytes(16), []))
    assert await _tail(other).put(1, body) is Put.GONE
    assert (await store.get(other.log.key(1))).status is Status.NOT_FOUND


async def test_put_tells_what_is_known() -> None:
    store = FaultyStore()
    node = await Node.start(store)
    tail, body = _tail(node), encode_slot(Slot(1, SHARD, SHARD, bytes(16), []))[0]
    store.faults["put_if_absent"] = [UnavailableError("away"), Reply(Status.CONFLICT), StorageFullError("full")]
    assert await tail.put(1, body) is Put.UNKNOWN
    assert await tail.put(1, body) is Put.CONFLICT
    with pytest.raises(StorageFullError):
        await tail.put(1, body)
    assert await tail.put(1, body) is Put.WON
    found = await tail.put(1, body)
    assert isinstance(found, Slot)
    store.faults["get"] = ["lost"]
    assert await tail.put(1, body) is Put.UNKNOWN
    store.faults["put_if_absent"] = [Reply(Status.CONDITION_FAILED)]
    assert await tail.put(2, body) is Put.CONFLICT


async def test_catch_up_sees_what_was_acknowledged_before_it() -> None:
    store = FaultyStore()
    one, other = await Node.start(store), await Node.start(store)
    for i in range(20):
        node, reader = (one, other) if i % 3 else (other, one)
        lsn = await node.say(str(i))
        assert await reader.appender.catch_up(deadline=soon()) >= lsn
        assert reader.state.at[b"%d" % i] == lsn


async def test_a_cancelled_put_keeps_its_lock_until_the_store_is_done_with_it() -> None:
    store = FaultyStore()
    writer = await Node.start(store)
    store.gates["put_if_absent"] = asyncio.Event()
    body, _ = encode_slot(Slot(1, SHARD, SHARD, bytes(16), []))
    putting = asyncio.create_task(_tail(writer).put(1, body))
    await until(lambda: store.counts["put_if_absent"] == 2)
    putting.cancel()
    await asyncio.wait({putting})
    collecting = asyncio.create_task(collect(writer.log, writer.heads))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not collecting.done()
    store.gates["put_if_absent"].set()
    await collecting
    assert (await store.get(writer.log.key(1))).ok
