"""HEAD on a store: created once, swapped by one of many, lost answers resolved by the commit id."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from uuid import UUID

import pytest

from akidb.config.settings import ManifestRetry
from akidb.errors import CorruptionError, StorageFullError, UnavailableError
from akidb.manifest import Head, HeadStore
from akidb.storage.object_store import Reply, Status
from tests.unit.stores import FaultyStore

PREFIX = "t/0/c/1/0000"
SHARD = UUID(int=9)
RETRY = ManifestRetry(max_attempts=6, initial_backoff_ms=1, max_backoff_ms=1)


def _heads(store: FaultyStore) -> HeadStore:
    return HeadStore(store, PREFIX, SHARD, retry=RETRY)


def _raised(head: Head) -> Head:
    return replace(head, gc_epoch=head.gc_epoch + 1)


async def test_create_twice_leaves_one() -> None:
    store = FaultyStore()
    first = await _heads(store).create()
    second = await _heads(store).create()
    assert first == second
    assert first.version == 0
    assert (first.folded, first.garbage, first.chain) == (1, 1, bytes(16))


async def test_a_missing_head_is_corruption() -> None:
    with pytest.raises(CorruptionError, match=f"{PREFIX}/head"):
        await _heads(FaultyStore()).read()


async def test_an_unchanged_head_is_read_without_its_body() -> None:
    store = FaultyStore()
    heads = _heads(store)
    await heads.create()
    answers: list[Status] = []

    async def watched(key: str, **conditions: object) -> Reply:
        answers.append((reply := await type(store).get(store, key, **conditions)).status)  # type: ignore[arg-type]
        return reply

    store.get = watched  # type: ignore[method-assign]
    assert await heads.read() == await heads.read()
    assert answers == [Status.NOT_MODIFIED, Status.NOT_MODIFIED]


async def test_swap_raises_version_and_remembers_its_commit() -> None:
    heads = _heads(FaultyStore())
    old = await heads.create()
    new = await heads.swap(_raised)
    assert new is not None
    assert (new.version, new.gc_epoch) == (1, 1)
    assert new.recent == (old.commit_id, new.commit_id)
    assert (await heads.read())[0] == new


async def test_a_change_that_declines_writes_nothing() -> None:
    store = FaultyStore()
    heads = _heads(store)
    await heads.create()
    assert await heads.swap(lambda head: None) is None
    assert store.counts["put_if_match"] == 0


async def test_of_many_swaps_each_counts_once() -> None:
    store = FaultyStore()
    await _heads(store).create()
    nodes = [HeadStore(store, PREFIX, SHARD, retry=ManifestRetry(100, 1, 1)) for _ in range(10)]
    await asyncio.gather(*(node.swap(_raised) for node in nodes for _ in range(3)))
    head, _ = await nodes[0].read()
    assert (head.version, head.gc_epoch) == (30, 30)


async def test_a_lost_answer_is_found_by_its_commit_id() -> None:
    store = FaultyStore()
    heads = _heads(store)
    await heads.create()
    store.faults["put_if_match"] = ["late"]
    new = await heads.swap(_raised)
    assert new is not None
    assert new.gc_epoch == 1
    assert store.counts["put_if_match"] == 1


async def test_a_lost_answer_is_found_after_others_swapped_too() -> None:
    store = FaultyStore()
    mine, other = _heads(store), _heads(store)
    await mine.create()
    store.faults["put_if_match"] = ["late"]
    swapped = False

    async def other_comes_between(name: str, key: str) -> None:
        nonlocal swapped
        if name == "get_head" and store.counts["put_if_match"] == 1 and not swapped:
            swapped = True
            await other.swap(_raised)

    store.before = other_comes_between
    new = await mine.swap(_raised)
    assert swapped
    assert new is not None
    assert new.version == 1
    assert (await mine.read())[0].gc_epoch == 2


async def test_a_lost_request_is_sent_again() -> None:
    store = FaultyStore()
    heads = _heads(store)
    await heads.create()
    store.faults["put_if_match"] = ["lost", Reply(Status.CONFLICT)]
    new = await heads.swap(_raised)
    assert new is not None
    assert new.gc_epoch == 1
    assert store.counts["put_if_match"] == 3


async def test_a_request_that_lands_late_is_not_done_twice() -> None:
    """Sent again as other bytes, the change would be made once by each."""
    store = FaultyStore()
    heads = _heads(store)
    await heads.create()
    store.faults["put_if_match"] = ["lost"]
    sent: list[tuple[str, bytes, str]] = []
    real = store.put_if_match

    async def lands_late(key: str, body: bytes, etag: str) -> Reply:
        if sent:
            await store.inner.put_if_match(*sent[0])
        sent.append((key, body, etag))
        return await real(key, body, etag)

    store.put_if_match = lands_late  # type: ignore[method-assign,assignment]
    new = await heads.swap(_raised)
    assert new is not None
    assert (new.version, new.gc_epoch) == (1, 1)
    assert (await heads.read())[0] == new


async def test_a_hidden_repeat_that_refuses_its_own_success_counts_as_success() -> None:
    store = FaultyStore()
    heads = _heads(store)
    await heads.create()
    real = store.inner.put_if_match

    async def repeated(key: str, body: bytes, etag: str) -> Reply:
        await real(key, body, etag)
        return Reply(Status.CONDITION_FAILED)

    store.inner.put_if_match = repeated  # type: ignore[method-assign,assignment]
    new = await heads.swap(_raised)
    assert new is not None
    assert (await heads.read())[0].gc_epoch == 1


async def test_change_sees_the_head_that_came_first() -> None:
    store = FaultyStore()
    mine, other = _heads(store), _heads(store)
    await mine.create()
    seen: list[int] = []

    async def overtake(name: str, key: str) -> None:
        if name == "put_if_match" and len(seen) == 1:
            store.before = None
            await other.swap(_raised)

    def change(head: Head) -> Head | None:
        seen.append(head.version)
        return _raised(head) if head.version == 0 else None

    store.before = overtake
    assert await mine.swap(change) is None
    assert seen == [0, 1]


async def test_attempts_end() -> None:
    store = FaultyStore()
    heads = _heads(store)
    await heads.create()
    store.faults["put_if_match"] = ["lost"] * RETRY.max_attempts
    with pytest.raises(UnavailableError) as caught:
        await heads.swap(_raised)
    assert caught.value.code == "head_contended"
    assert store.counts["put_if_match"] == RETRY.max_attempts


async def test_a_full_store_is_said() -> None:
    store = FaultyStore()
    heads = _heads(store)
    await heads.create()
    store.faults["put_if_match"] = [StorageFullError("no room")]
    with pytest.raises(StorageFullError):
        await heads.swap(_raised)
    assert (await heads.read())[0].version == 0


async def test_a_broken_invariant_is_never_sent() -> None:
    store = FaultyStore()
    heads = _heads(store)
    await heads.create()
    with pytest.raises(AssertionError, match="garbage_stays_within_folded"):
        await heads.swap(lambda head: replace(head, garbage=2))
    assert store.counts["put_if_match"] == 0


async def test_a_head_that_vanished_is_corruption() -> None:
    store = FaultyStore()
    heads = _heads(store)
    await heads.create()
    store.faults["put_if_match"] = [Reply(Status.NOT_FOUND)]
    with pytest.raises(CorruptionError, match="any more"):
        await heads.swap(_raised)
