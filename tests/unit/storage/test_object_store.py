"""What every store must do; each test runs over memory, a local folder, and buckets of two real S3 servers."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

import pytest

from akidb.errors import InvalidInputError
from akidb.storage.object_store import Body, ObjectStore, Status
from akidb.storage.s3 import S3Store

_RACERS = 24


async def _keys(store: ObjectStore, prefix: str, start_after: str | None = None) -> list[str]:
    return [info.key async for info in store.list_from(prefix, start_after)]


async def test_get_returns_what_was_put(store: ObjectStore) -> None:
    put = await store.put("a/b", b"hello")
    got = await store.get("a/b")
    assert (put.status, got.status, got.body, got.size) == (Status.OK, Status.OK, b"hello", 5)
    assert put.etag == got.etag is not None


async def test_put_replaces(store: ObjectStore) -> None:
    first = await store.put("a", b"one")
    second = await store.put("a", b"two")
    assert first.etag != second.etag
    assert (await store.get("a")).body == b"two"


async def test_a_missing_key_is_an_answer(store: ObjectStore) -> None:
    await store.put("a/b", b"x")
    for key in ("nothing", "a/c", "deep/er/still"):
        assert (await store.get(key)).status is Status.NOT_FOUND
        assert (await store.get(key, byte_range=(0, 1))).status is Status.NOT_FOUND
        assert (await store.head(key)).status is Status.NOT_FOUND
        assert await store.local_path(key) is None


async def test_replies_carry_the_stores_clock(store: ObjectStore) -> None:
    await store.put("a", b"x")
    found, missing = await store.get("a"), await store.get("b")
    taken = await store.put_if_absent("a", b"y")
    for reply in (found, missing, taken):
        assert reply.date is not None
        assert abs(reply.date - time.time()) < 60
    assert found.last_modified is not None
    assert abs(found.last_modified - time.time()) < 60


async def test_head_tells_size_and_etag(store: ObjectStore) -> None:
    put = await store.put("a", b"12345")
    head = await store.head("a")
    assert (head.status, head.size, head.etag, head.body) == (Status.OK, 5, put.etag, b"")


@pytest.mark.parametrize("body", [b"bytes", bytearray(b"bytes"), memoryview(b"..bytes")[2:]])
async def test_bodies_may_be_buffers(store: ObjectStore, body: Body) -> None:
    for number, put in enumerate((store.put, store.put_if_absent)):
        assert (await put(f"k{number}", body)).ok
        assert (await store.get(f"k{number}")).body == b"bytes"
    etag = (await store.head("k0")).etag
    assert etag is not None
    assert (await store.put_if_match("k0", body, etag)).ok


async def test_a_body_may_be_a_file(store: ObjectStore, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"from a file")
    link = tmp_path / "link"
    link.symlink_to(source)
    for key, body in (("a", source), ("b", link)):
        assert (await store.put_if_absent(key, body)).ok
        assert (await store.get(key)).body == b"from a file"
    source.unlink()
    assert (await store.get("a")).body == b"from a file"
    assert (await store.get("b")).body == b"from a file"


async def test_an_empty_body_is_a_body(store: ObjectStore) -> None:
    assert (await store.put_if_absent("empty", b"")).ok
    got = await store.get("empty")
    assert (got.status, got.body, got.size) == (Status.OK, b"", 0)
    path = await store.local_path("empty")
    assert path is not None
    assert path.read_bytes() == b""
    assert (await store.put_if_absent("empty", b"x")).status is Status.CONDITION_FAILED


@pytest.mark.parametrize("size", [5 << 20, 20 << 20])
async def test_large_bodies_from_memory_and_from_a_file(store: ObjectStore, tmp_path: Path, size: int) -> None:
    body = random.Random(7).randbytes(size)
    source = tmp_path / "source"
    source.write_bytes(body)
    assert (await store.put("memory", body)).ok
    assert (await store.put("file", source)).ok
    for key in ("memory", "file"):
        got = await store.get(key)
        assert got.size == size
        assert got.body == body
        path = await store.local_path(key)
        assert path is not None
        assert path.read_bytes() == body


async def test_ranges(store: ObjectStore) -> None:
    body = bytes(range(256)) * 1000
    await store.put("a", body)
    for start, end in ((0, 1), (5, 10), (255_999, 256_000), (0, 256_000), (255_000, 900_000)):
        got = await store.get("a", byte_range=(start, end))
        assert (got.status, got.size) == (Status.OK, len(body))
        assert got.body == body[start:end]


@pytest.mark.parametrize("byte_range", [(3, 3), (4, 2), (-1, 2), (10, 11)])
async def test_a_range_without_bytes_is_refused(store: ObjectStore, byte_range: tuple[int, int]) -> None:
    await store.put("a", b"0123456789")
    with pytest.raises(InvalidInputError) as refused:
        await store.get("a", byte_range=byte_range)
    assert refused.value.code == "bad_range"


async def test_an_unchanged_object_is_not_sent(store: ObjectStore) -> None:
    put = await store.put("a", b"x" * 1000)
    same = await store.get("a", if_none_match=put.etag)
    assert (same.status, same.body) == (Status.NOT_MODIFIED, b"")
    await store.put("a", b"y" * 1000)
    changed = await store.get("a", if_none_match=put.etag)
    assert (changed.status, changed.body) == (Status.OK, b"y" * 1000)


async def test_what_can_be_told_at_once_is_what_get_tells_in_any_thread(store: ObjectStore) -> None:
    await store.put("a", b"some")
    whole = await store.get("a")
    if isinstance(store, S3Store):
        assert (store.get_now("gone"), store.get_now("a")) == (None, None)  # a network is never at once
        return
    while store.get_now("a") is None:  # a folder tells what is known to be on the disk, which takes a tick of its clock
        await store.get("a")
    for key, options in (
        ("gone", {}),
        ("a", {}),
        ("a", {"if_none_match": whole.etag}),
        ("a", {"if_none_match": "other"}),
        ("a", {"byte_range": (1, 3)}),
    ):
        told = await asyncio.to_thread(store.get_now, key, **options)
        asked = await store.get(key, **options)
        assert told is not None
        assert (told.status, told.body, told.etag) == (asked.status, asked.body, asked.etag)


async def test_put_if_absent_never_replaces(store: ObjectStore) -> None:
    assert (await store.put_if_absent("a/b", b"mine")).ok
    again = await store.put_if_absent("a/b", b"yours")
    assert again.status is Status.CONDITION_FAILED
    assert (await store.get("a/b")).body == b"mine"


async def test_put_if_match_replaces_only_what_was_seen(store: ObjectStore) -> None:
    seen = (await store.put("a", b"1")).etag
    assert seen is not None
    assert (await store.put_if_match("a", b"2", seen)).ok
    stale = await store.put_if_match("a", b"3", seen)
    assert stale.status is Status.CONDITION_FAILED
    assert (await store.get("a")).body == b"2"


async def test_put_if_match_creates_nothing(store: ObjectStore) -> None:
    seen = (await store.put("a", b"1")).etag
    assert seen is not None
    assert (await store.put_if_match("b", b"2", seen)).status is Status.NOT_FOUND
    assert (await store.get("b")).status is Status.NOT_FOUND


async def test_one_racer_creates(store: ObjectStore) -> None:
    for size in (4, 100_000):
        bodies = [bytes([number]) * size for number in range(_RACERS)]
        replies = await asyncio.gather(*(store.put_if_absent(f"race/{size}", body) for body in bodies))
        won = [number for number, reply in enumerate(replies) if reply.ok]
        assert len(won) == 1
        assert {reply.status for reply in replies} <= {Status.OK, Status.CONDITION_FAILED, Status.CONFLICT}
        assert (await store.get(f"race/{size}")).body == bodies[won[0]]


async def test_counting_by_compare_and_swap_loses_nothing(store: ObjectStore) -> None:
    await store.put("counter", b"0 start")

    async def add(racer: int) -> None:
        for step in range(3):
            while True:
                seen = await store.get("counter")
                assert seen.etag is not None
                body = b"%d %d-%d" % (int(seen.body.split()[0]) + 1, racer, step)
                if (await store.put_if_match("counter", body, seen.etag)).ok:
                    break

    await asyncio.gather(*(add(racer) for racer in range(8)))
    assert int((await store.get("counter")).body.split()[0]) == 24


async def test_list_is_in_key_order_whatever_the_characters(store: ObjectStore) -> None:
    keys = ["a", "a-b/c", "a.b", "a_b", "ab", "b/0", "b/00", "b/1/x", "b/1-x", "b/1.x", "b/10", "b/a", "c0/1", "c/2"]
    for key in random.Random(3).sample(keys, len(keys)):
        await store.put(key, key.encode())
    assert await _keys(store, "") == sorted(keys)
    assert await _keys(store, "b/1") == ["b/1-x", "b/1.x", "b/1/x", "b/10"]
    assert await _keys(store, "b/") == ["b/0", "b/00", "b/1-x", "b/1.x", "b/1/x", "b/10", "b/a"]
    assert await _keys(store, "b/1/") == ["b/1/x"]
    assert await _keys(store, "nothing/here") == []
    for after in [*keys, "b", "b/1", "b/1/", "0", "zzz"]:
        assert await _keys(store, "", after) == [key for key in sorted(keys) if key > after]
        assert await _keys(store, "b/", after) == [key for key in sorted(keys) if key > after and key[:2] == "b/"]


async def test_list_tells_sizes_and_crosses_pages(store: ObjectStore) -> None:
    names = [f"wal/{number // 500:04x}/{number:08x}" for number in range(1, 1205)]
    slots = asyncio.Semaphore(32)

    async def put(key: str) -> None:
        async with slots:
            await store.put(key, b"12")

    await asyncio.gather(*map(put, names))
    listed = [info async for info in store.list_from("wal/", names[99])]
    assert [info.key for info in listed] == names[100:]
    assert {info.size for info in listed} == {2}
    assert all(info.last_modified is not None for info in listed)


async def test_delete_many(store: ObjectStore) -> None:
    for key in ("a/1", "a/2", "b/1"):
        await store.put(key, b"x")
    await store.delete_many(["a/1", "b/1", "never/there"])
    assert await _keys(store, "") == ["a/2"]
    await store.delete_many([])
    assert (await store.put_if_absent("a/1", b"again")).ok


@pytest.mark.parametrize(
    "key",
    ["", "/", "a/", "/a", "a//b", "../a", "a/../b", "a/..", ".", "a/.b", ".tmp/x", "a..b", "A", "a b", "a\\b", "a\0",
     "a%2fb", "é", "a\n", "x/lock", "lock", "a" * 201, "a/" * 300 + "a"],
)  # fmt: skip
async def test_bad_keys_are_refused_everywhere(store: ObjectStore, key: str) -> None:
    calls = [
        store.get(key),
        store.head(key),
        store.put(key, b"x"),
        store.put_if_absent(key, b"x"),
        store.put_if_match(key, b"x", "etag"),
        store.delete_many([key]),
        store.local_path(key),
    ]
    for call in calls:
        with pytest.raises(InvalidInputError) as refused:
            await call
        assert refused.value.code == "bad_key"
    assert await _keys(store, "") == []


@pytest.mark.parametrize("prefix", ["/", "../", "a/../", "A", ".t", "a//"])
async def test_bad_prefixes_are_refused(store: ObjectStore, prefix: str) -> None:
    with pytest.raises(InvalidInputError):
        await _keys(store, prefix)


async def test_local_path_is_a_file_with_the_bytes(store: ObjectStore) -> None:
    await store.put("seg/one", b"segment")
    paths = await asyncio.gather(store.local_path("seg/one"), store.local_path("seg/one"))
    assert [path.read_bytes() for path in paths if path is not None] == [b"segment"] * 2


async def test_lock_excludes_where_deletes_are_allowed(store: ObjectStore) -> None:
    if not store.can_delete:
        async with store.lock("t/c", exclusive=True), store.lock("t/c", exclusive=True):
            return
    inside: list[str] = []

    async def hold(name: str, exclusive: bool) -> None:
        async with store.lock("t/c", exclusive=exclusive):
            assert not (exclusive and inside)
            assert "exclusive" not in inside
            inside.append(name)
            await store.put(f"t/c/{random.random()}", b"x")
            inside.remove(name)

    holders = [hold("exclusive", True) if number % 4 == 0 else hold("shared", False) for number in range(16)]
    await asyncio.gather(*holders)
    assert await _keys(store, "t/c/lock") == []


async def test_shared_locks_do_not_exclude_each_other(store: ObjectStore) -> None:
    async with asyncio.timeout(20), store.lock("t", exclusive=False), store.lock("t", exclusive=False):
        assert (await store.put("t/a", b"x")).ok


async def test_who_waits_to_exclude_keeps_nobody_from_sharing(store: ObjectStore) -> None:
    """A sharer may wait for another one, while garbage waits for both."""

    async def exclude() -> None:
        async with store.lock("t", exclusive=True):
            pass

    async with asyncio.timeout(20), store.lock("t", exclusive=False):
        waiting = asyncio.create_task(exclude())
        await asyncio.sleep(0.05)
        async with store.lock("t", exclusive=False):
            assert waiting.done() is not store.can_delete
    await asyncio.wait_for(waiting, 20)


async def test_a_cancelled_waiter_leaves_the_lock_free(store: ObjectStore) -> None:
    async with store.lock("t", exclusive=True):
        if not store.can_delete:
            return
        waiter = asyncio.create_task(store.lock("t", exclusive=False).__aenter__())
        await asyncio.sleep(0)
        waiter.cancel()
        await asyncio.gather(waiter, return_exceptions=True)
    async with asyncio.timeout(20), store.lock("t", exclusive=True):
        pass
