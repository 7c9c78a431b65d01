"""Who is there, and who owns a shard: a hint that comes true by itself, whatever lies in the store."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from akidb.codec import encode
from akidb.codec.frame import KIND_NODE
from akidb.database import members
from akidb.database.members import DOUBT_SECS, LOOKS_MAX, Members, decode_node, encode_node
from akidb.errors import CorruptionError, UnavailableError
from akidb.storage.memory import MemoryStore
from tests.unit.clock import Clock
from tests.unit.storage.faulty import FaultyStore

A, B, C = "http://10.0.0.1:8080", "http://10.0.0.2:8080", "http://10.0.0.3:8080"
SHARDS = [UUID(int=n << 64) for n in range(300)]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(members, "time", clock)
    return clock


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore()


async def cluster(store: FaultyStore, *addresses: str) -> list[Members]:
    nodes = [Members(store, address) for address in addresses]
    for _ in range(3):  # who is seen to change is there
        for node in nodes:
            await node.look()
    return nodes


def owners(node: Members, own: str) -> list[str]:
    return [node.owner(shard) or own for shard in SHARDS]


async def test_all_agree_and_each_owns_about_as_much(store: FaultyStore) -> None:
    nodes = await cluster(store, A, B, C)
    found = [owners(node, address) for node, address in zip(nodes, (A, B, C), strict=True)]
    assert found[0] == found[1] == found[2]
    assert all(60 < found[0].count(address) < 140 for address in (A, B, C))


async def test_a_node_alone_owns_all(store: FaultyStore) -> None:
    (node,) = await cluster(store, A)
    assert node.alive == []
    assert set(owners(node, A)) == {A}


async def test_only_the_shards_of_who_goes_change_hands(store: FaultyStore) -> None:
    ours, _, third = await cluster(store, A, B, C)
    before = owners(ours, A)
    await third.leave()
    await ours.look()
    after = owners(ours, A)
    assert C not in after
    assert all(new == old for old, new in zip(before, after, strict=True) if old != C)


async def test_who_does_not_change_for_some_looks_is_gone_and_comes_back(store: FaultyStore) -> None:
    ours, theirs = await cluster(store, A, B)
    for _ in range(LOOKS_MAX + 1):  # the first sees the last change
        assert ours.alive == [B]
        await ours.look()
    assert ours.alive == []
    assert len([info async for info in store.inner.list_from("nodes/")]) == 1, "and its object does not stay for ever"
    for _ in range(2):
        await theirs.look()
        await ours.look()
    assert ours.alive == [B]
    assert theirs.alive == [A], "which of the two stood still can't be told, and need not be"


async def test_nodes_of_a_bucket_that_this_is_a_copy_of_own_nothing(store: FaultyStore) -> None:
    """Their objects came with the copy, and do not change here; what is sent to them is written there."""
    await cluster(store, A, B)
    ours = Members(store, C)
    for _ in range(LOOKS_MAX + 1):
        await ours.look()
        assert ours.alive == []
        assert owners(ours, C) == [C] * len(SHARDS)


async def test_a_store_that_is_away_takes_nobody_for_gone(store: FaultyStore) -> None:
    ours, _ = await cluster(store, A, B)
    store.failures = 20
    for _ in range(10):
        with pytest.raises(UnavailableError):
            await ours.look()
    assert ours.alive == [B]


async def test_who_leaves_owns_nothing_even_for_itself(store: FaultyStore) -> None:
    ours, _ = await cluster(store, A, B)
    await ours.leave()
    assert set(owners(ours, A)) == {B}
    (alone,) = await cluster(FaultyStore(), A)
    await alone.leave()
    assert set(owners(alone, A)) == {A}, "with nobody else there it puts its own"


async def test_what_is_sent_to_a_node_in_doubt_goes_to_the_next_for_a_while(store: FaultyStore, clock: Clock) -> None:
    ours, _, _ = await cluster(store, A, B, C)
    before = owners(ours, A)
    ours.doubt(B, "it is away")
    during = owners(ours, A)
    assert B not in during
    assert all(new == old for old, new in zip(before, during, strict=True) if old != B)
    clock.now = DOUBT_SECS - 1
    assert B not in owners(ours, A)
    clock.now = DOUBT_SECS
    assert owners(ours, A) == before


@pytest.mark.parametrize("address", ["http://[::1", "ftp://10.0.0.1", "http://a:b@10.0.0.1", "/etc"])
def test_what_is_no_address_is_told_as_damage(address: str) -> None:
    body = encode_node(address, uuid=SHARDS[1])
    with pytest.raises(CorruptionError, match=r"object nodes/1: .* is no address of a node"):
        decode_node(body, name="nodes/1")


async def test_objects_that_are_none_of_a_node_are_left_out(store: FaultyStore) -> None:
    (ours,) = await cluster(store, A)
    for name, body in {
        "empty": b"",
        "noise": bytes(range(256)),
        "large": b"x" * 5000,
        "no-address": encode(KIND_NODE, uuid4(), {}),
        "no-text": encode(KIND_NODE, uuid4(), {"address": b"\xff"}),
    }.items():
        await store.put(f"nodes/{name}", body)
    await ours.look()
    assert ours.alive == []


async def test_nodes_are_seen_past_what_others_put_among_them(store: FaultyStore) -> None:
    assert isinstance(store.inner, MemoryStore)
    store.inner._set("nodes/Readme.TXT", b"x")
    ours, theirs = await cluster(store, A, B)
    assert (ours.alive, theirs.alive) == ([B], [A])


async def test_a_restarted_node_is_the_one_that_it_was(store: FaultyStore) -> None:
    ours, _ = await cluster(store, A, B)
    before = owners(ours, A)
    again = Members(store, B)
    await again.look()
    await ours.look()
    assert (ours.alive, owners(ours, A)) == ([B], before)


async def test_over_a_folder_as_well(tmp_path: object) -> None:
    from pathlib import Path

    from akidb.storage.local import LocalStore

    stores = [LocalStore(Path(str(tmp_path))) for _ in range(2)]
    ours, theirs = Members(stores[0], A), Members(stores[1], B)
    for _ in range(LOOKS_MAX + 2):
        await ours.look()
        await theirs.look()
    assert (ours.alive, theirs.alive) == ([B], [A])
    for store in stores:
        await store.close()
