"""Keys, and reading slots back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from akidb.errors import CorruptionError
from akidb.storage.memory import MemoryStore
from akidb.wal import CHAIN_START, Batch, Entry, Log, Slot, encode_slot, log
from tests.unit.stores import FaultyStore
from tests.unit.wal.nodes import FOREIGN, PREFIX, SHARD, put_foreign


async def _filled(count: int, *, skip: int | None = None) -> tuple[FaultyStore, Log, list[Slot]]:
    store = FaultyStore()
    filled, slots, chain = Log(store, PREFIX, SHARD), [], CHAIN_START
    for lsn in range(1, count + 1):
        body, slot = encode_slot(Slot(lsn, SHARD, SHARD, chain, [Batch(SHARD, [Entry(b"%d" % lsn)])]))
        if lsn != skip:
            await store.put(filled.key(lsn), body)
        slots.append(slot)
        chain = slot.digest
    return store, filled, slots


async def _all(slots: AsyncIterator[Slot]) -> list[int]:
    return [slot.lsn async for slot in slots]


def test_keys_are_of_fixed_width_and_in_lsn_order() -> None:
    keys = [Log(MemoryStore(), "p", SHARD).key(lsn) for lsn in (1, 4095, 4096, 2**40, 2**63)]
    assert keys[0] == "p/wal/0000000000000/0000000000000001"
    assert keys[2] == "p/wal/0000000000001/0000000000001000"
    assert sorted(keys) == keys
    assert len({len(key) for key in keys}) == 1


async def test_read_gives_the_slot_or_none() -> None:
    _, filled, slots = await _filled(2)
    assert (await filled.read(2)) == slots[1]
    assert (await filled.read(3)) is None


async def test_a_slot_under_another_slots_key_is_corruption() -> None:
    store, filled, _ = await _filled(2)
    await store.put(filled.key(1), (await store.get(filled.key(2))).body)
    with pytest.raises(CorruptionError, match=f"object {filled.key(1)}: it says it is slot 2"):
        await filled.read(1)


async def test_a_slot_that_was_damaged_on_its_way_is_read_again() -> None:
    store, filled, slots = await _filled(1)
    whole = await store.get(filled.key(1))
    damaged = replace(whole, body=whole.body[:-1])
    store.faults["get"] = [damaged, damaged]
    assert await filled.read(1) == slots[0]
    store.faults["get"] = [damaged] * log.DAMAGED_READS_MAX
    with pytest.raises(CorruptionError, match=f"object {filled.key(1)}"):
        await filled.read(1)


@pytest.mark.parametrize("start", [1, 2, 150, 151, 152])
async def test_read_from_gives_the_rest_in_order(start: int) -> None:
    _, filled, _ = await _filled(150)
    assert await _all(filled.read_from(start)) == list(range(start, 151))


async def test_read_from_reads_listed_slots_in_bounded_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    store, filled, _ = await _filled(20)
    size = (await store.head(filled.key(1))).size
    monkeypatch.setattr(log, "READ_BYTES_AT_ONCE", 3 * size + 1)
    most = now = 0

    async def count(name: str, key: str) -> None:
        nonlocal most, now
        now += 1

    store.before = count
    async for _slot in filled.read_from(1):
        most, now = max(most, now), 0
    assert most == 3


async def test_read_from_goes_on_past_what_the_list_showed() -> None:
    store, filled, slots = await _filled(3)
    body, _ = encode_slot(Slot(4, SHARD, SHARD, slots[2].digest, []))
    reads: list[str] = []

    async def write_meanwhile(name: str, key: str) -> None:
        if name == "get":
            if not reads:
                await store.put(filled.key(4), body)
            reads.append(key)

    store.before = write_meanwhile
    assert await _all(filled.read_from(1)) == [1, 2, 3, 4]
    assert reads == [filled.key(lsn) for lsn in (1, 2, 3, 4, 5)]


async def test_read_from_reaches_the_end_of_a_log_that_grows_by_two_slots_with_every_round_of_reads() -> None:
    store, filled, slots = await _filled(3)
    rounds, is_new = 0, True

    def begin() -> None:
        nonlocal is_new
        is_new = True

    async def write_on(name: str, key: str) -> None:
        nonlocal rounds, is_new
        await asyncio.sleep(0)
        if name != "get" or not is_new or rounds == 100:
            return
        rounds, is_new = rounds + 1, False
        asyncio.get_running_loop().call_soon(begin)
        for _ in range(2):
            body, slot = encode_slot(Slot(slots[-1].lsn + 1, SHARD, SHARD, slots[-1].digest, []))
            await store.inner.put_if_absent(filled.key(slot.lsn), body)
            slots.append(slot)

    store.before = write_on
    read = await _all(filled.read_from(1))
    assert read == list(range(1, len(read) + 1))
    assert rounds < 10


async def test_read_from_stops_before_a_gap() -> None:
    _, filled, _ = await _filled(10, skip=4)
    assert await _all(filled.read_from(1)) == [1, 2, 3]
    assert await filled.exists_after(4)
    assert not await filled.exists_after(10)


@pytest.mark.parametrize("count", [0, 3, 70])
async def test_what_others_put_among_the_slots_is_passed_over(count: int) -> None:
    store, filled, _ = await _filled(count)
    await put_foreign(store, *(f"wal/{name}" for name in FOREIGN))
    assert await _all(filled.read_from(1)) == list(range(1, count + 1))
    assert [info.key async for info in filled.slots()] == [filled.key(lsn) for lsn in range(1, count + 1)]
    for lsn in range(1, count + 2):
        assert await filled.exists_after(lsn) == (lsn < count)


async def test_a_key_that_a_slot_may_have_is_one() -> None:
    store, filled, _ = await _filled(3)
    await put_foreign(store, f"wal/{0xFFF:013x}/{0xFFFFFF:016x}")
    assert await filled.exists_after(3)


async def test_a_slot_that_continues_another_log_is_corruption() -> None:
    store, filled, slots = await _filled(5)
    body, _ = encode_slot(Slot(3, SHARD, SHARD, bytes(16), []))
    await store.put(filled.key(3), body)
    with pytest.raises(CorruptionError, match=f"object {filled.key(3)}: it continues"):
        await _all(filled.read_from(1))
    with pytest.raises(CorruptionError, match=f"object {filled.key(4)}: it continues"):
        await _all(filled.read_from(4, chain=bytes(16)))
    assert await _all(filled.read_from(4, chain=slots[2].digest)) == [4, 5]


async def test_large_slots_are_checked_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    _, filled, _ = await _filled(1)
    threads = 0
    in_thread = asyncio.to_thread

    async def counted(*arguments: object) -> object:
        nonlocal threads
        threads += 1
        return await in_thread(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(asyncio, "to_thread", counted)
    await filled.read(1)
    assert threads == 0
    monkeypatch.setattr(log, "THREAD_BYTES_MIN", 10)
    assert await filled.read(1) is not None
    assert threads == 1
