"""Garbage of a shard on a store without locks: what goes after how many rounds, what stays, what is refused."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from akidb.errors import CorruptionError, UnavailableError
from akidb.manifest import Head, SegmentRef, object_key
from akidb.telemetry.metrics import METRICS
from akidb.wal import Collected, collect_by_epoch, epochs
from tests.unit.stores import FaultyStore
from tests.unit.wal.nodes import FOREIGN, PREFIX, Node, put_foreign


async def _node() -> tuple[FaultyStore, Node]:
    store = FaultyStore(can_delete=False)
    node = await Node.start(store)
    await node.say("1")
    return store, node


async def _put(store: FaultyStore, folder: str = "seg", epoch: int = 0, size: int = 10) -> str:
    key = object_key(PREFIX, folder, epoch, uuid4())
    await store.put(key, bytes(size))
    return key


async def _name(node: Node, *keys: str) -> None:
    """A fold of what was said that leaves these segments of no rows."""
    refs = tuple(SegmentRef(UUID(key.rpartition("-")[2]), key, 0, 0, 10, 1) for key in keys)
    folded, chain = node.state.applied + 1, node.state.chain

    def change(head: Head) -> Head:
        return replace(head, segments=refs, folded=folded, chain=chain)

    await node.heads.swap(change)


async def _round(node: Node, **how: object) -> Collected:
    return await collect_by_epoch(node.log, node.heads, interval_secs=0, **how)  # type: ignore[arg-type]


async def _stored(store: FaultyStore) -> set[str]:
    return {info.key async for info in store.list_from(f"{PREFIX}/") if "/wal/" not in info.key} - {f"{PREFIX}/head"}


async def test_what_nothing_names_goes_in_the_second_round() -> None:
    store, node = await _node()
    named, unnamed = await _put(store), await _put(store)
    deletes, requests = await _put(store, "del"), await _put(store, "req", size=30)
    await _name(node, named)
    slot = sum([info.size async for info in store.list_from(f"{PREFIX}/wal/")])
    assert await _round(node) == Collected(0, 0, 3 + 1, 50 + slot, kept=4)
    assert await _stored(store) == {named, unnamed, deletes, requests}
    before = METRICS.gc_bytes._value.get()
    assert await _round(node) == Collected(3, 50, 1, slot, kept=1)
    assert await _stored(store) == {named}
    assert METRICS.gc_bytes._value.get() == before + 50


async def test_what_is_young_by_its_key_stays() -> None:
    store, node = await _node()
    await _round(node)
    young = await _put(store, epoch=1)
    await _round(node)
    assert await _stored(store) == {young}
    await _round(node)
    assert await _stored(store) == set()


async def test_what_a_snapshot_names_stays_until_it_is_dropped() -> None:
    store, node = await _node()
    kept, named = await _put(store), await _put(store)
    await _name(node, kept)
    head, _ = await node.heads.read()
    pin = await node.heads.manifests.put(head, "first", uuid4())
    await node.heads.swap(lambda head: replace(head, pins=(pin,)))
    await node.say("2")
    await _name(node, named)
    for _ in range(3):
        await _round(node)
    assert await _stored(store) == {kept, named, pin.key(PREFIX)}
    await node.say("3")
    folded, chain = node.state.applied + 1, node.state.chain
    await node.heads.swap(lambda head: replace(head, pins=(), folded=folded, chain=chain))
    await _round(node)
    assert await _stored(store) == {named}


async def test_of_a_dropped_collection_nothing_is_left_but_head(monkeypatch: pytest.MonkeyPatch) -> None:
    """However large a share that is."""
    monkeypatch.setattr(epochs, "REFUSED_BYTES_MIN", 1)
    store, node = await _node()
    await _name(node, await _put(store))
    await _round(node, dropped=True)
    done = await _round(node, dropped=True)
    assert (done.objects, done.bytes, done.kept) == (1, 10, 0)
    assert await _stored(store) == set()
    assert (await store.get(f"{PREFIX}/head")).ok


async def test_rounds_keep_their_distance_by_the_stores_clock() -> None:
    store, node = await _node()
    await _put(store)
    for _ in range(3):
        await collect_by_epoch(node.log, node.heads, interval_secs=3600)
    assert (await node.heads.read())[0].gc_epoch == 1
    assert len(await _stored(store)) == 1


async def test_two_collectors_of_one_round_raise_the_epoch_once() -> None:
    _, node = await _node()
    seen, _ = await node.heads.read()
    assert epochs._raised(replace(seen, gc_epoch=1), seen, 5) is None
    raised = epochs._raised(seen, seen, 5)
    assert raised is not None
    assert (raised.gc_epoch, raised.collected) == (1, 5)


@pytest.mark.parametrize("how", ["missing", "older_head", "share"])
async def test_a_head_that_does_not_fit_is_refused(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store, node = await _node()
    monkeypatch.setattr(epochs, "REFUSED_BYTES_MIN", 20)
    named = await _put(store)
    await _name(node, named)
    if how == "missing":
        await store.delete_many([named])
    if how == "older_head":
        await _put(store, epoch=7)
    await _put(store, size=100)
    await _round(node)
    before = await _stored(store)
    counter = METRICS.gc_refused.labels(how)
    count = counter._value.get()
    done = await _round(node)
    assert (done.objects, done.refused) == (0, how)
    assert named in done.detail or how != "missing"
    assert await _stored(store) == before
    assert counter._value.get() == count + 1
    forced = await _round(node, force=True)
    assert (forced.objects, forced.refused) == ((1, None) if how == "share" else (0, how))


async def test_a_missing_head_is_refused() -> None:
    store, node = await _node()
    unnamed = await _put(store)
    await _round(node)
    await store.delete_many([f"{PREFIX}/head"])
    with pytest.raises(CorruptionError, match="head"):
        await _round(node)
    assert await _stored(store) == {unnamed}


async def test_an_object_with_a_strange_name_stops_the_round() -> None:
    store, node = await _node()
    await store.put(f"{PREFIX}/seg/mine", b"x")
    await _put(store)
    counter = METRICS.gc_refused.labels("foreign")
    before = counter._value.get()
    for _ in range(2):
        done = await _round(node, force=True)
        assert (done.objects, done.refused) == (0, "foreign")
        assert "seg/mine" in done.detail
    assert counter._value.get() == before + 2
    assert len(await _stored(store)) == 2


@pytest.mark.parametrize("name", ["seg/Readme.TXT", "seg/0-Readme.TXT", *(f"wal/{name}" for name in FOREIGN)])
async def test_what_others_put_anywhere_is_named(name: str) -> None:
    store, node = await _node()
    await _put(store)
    for _ in range(3):
        await _round(node)
    await put_foreign(store, name)
    counter = METRICS.gc_refused.labels("foreign")
    before = counter._value.get()
    done = await _round(node, force=True)
    assert (done.objects, done.refused) == (0, "foreign")
    assert f"object {PREFIX}/{name}:" in done.detail
    assert counter._value.get() == before + 1


async def test_who_dies_in_between_leaves_what_the_next_round_takes() -> None:
    store, node = await _node()
    await _put(store)
    await _round(node)
    real = store.inner.delete_many

    async def dies(keys: object) -> None:
        raise UnavailableError("died")

    store.inner.delete_many = dies  # type: ignore[method-assign,assignment]
    with pytest.raises(UnavailableError):
        await _round(node)
    store.inner.delete_many = real  # type: ignore[method-assign]
    assert (await _round(node)).objects == 1
