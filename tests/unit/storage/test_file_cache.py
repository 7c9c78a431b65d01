from __future__ import annotations

import asyncio
import errno
import importlib
import mmap
import os
import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from akidb.errors import UnavailableError
from akidb.storage import cache_folder
from akidb.storage.cache_folder import CacheFolder
from akidb.storage.file_cache import FileCachedStore
from akidb.storage.memory import MemoryStore
from akidb.storage.object_store import Reply
from akidb.storage.wrapper import StoreWrapper
from akidb.telemetry.metrics import Metrics
from tests.unit.storage.faulty import FaultyStore

_MODULE = importlib.import_module("akidb.storage.file_cache")  # the package has a function of that name
_BODY = random.Random(5).randbytes((17 << 20) + 123)  # three ranges, the last one short


class _Remote(StoreWrapper):
    """A memory store that counts the gets, and may do something before each."""

    def __init__(self) -> None:
        super().__init__(MemoryStore())
        self.gets = 0
        self.before: Callable[[int], Awaitable[None]] | None = None

    async def get(
        self, key: str, *, byte_range: tuple[int, int] | None = None, if_none_match: str | None = None
    ) -> Reply:
        self.gets += 1
        if self.before is not None:
            await self.before(self.gets)
        return await super().get(key, byte_range=byte_range, if_none_match=if_none_match)


def _cached(remote: StoreWrapper, folder: Path, bytes_max: int = 1 << 30) -> tuple[FileCachedStore, Metrics]:
    metrics = Metrics(CollectorRegistry())
    return FileCachedStore(remote, folder, bytes_max, metrics), metrics


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


async def test_fetched_once_in_ranges_then_answered_from_disk(tmp_path: Path) -> None:
    remote = _Remote()
    await remote.put("seg/1", _BODY)
    store, metrics = _cached(remote, tmp_path)
    paths = await asyncio.gather(*(store.local_path("seg/1") for _ in range(5)), store.local_path("seg/none"))
    assert paths[-1] is None
    assert paths[0] is not None
    assert len(set(paths[:-1])) == 1
    assert paths[0].read_bytes() == _BODY
    assert remote.gets == 3 + 1
    again, more = _cached(remote, tmp_path)
    assert await again.local_path("seg/1") == paths[0]
    assert remote.gets == 4
    assert metrics.registry.get_sample_value("akidb_cache_misses_total", {"tier": "hot"}) == 6
    assert more.registry.get_sample_value("akidb_cache_hits_total", {"tier": "hot"}) == 1
    assert _files(tmp_path) == [paths[0]]
    await store.close()
    await again.close()


async def test_small_and_empty_objects(tmp_path: Path) -> None:
    remote = _Remote()
    store, _ = _cached(remote, tmp_path)
    for key, body in (("a", b"small"), ("b", b"")):
        await remote.put(key, body)
        path = await store.local_path(key)
        assert path is not None
        assert path.read_bytes() == body
    await store.close()


async def test_stores_do_not_mix_in_one_cache(tmp_path: Path) -> None:
    class _Elsewhere(_Remote):
        location = "elsewhere"

    one, two = _Remote(), _Elsewhere()
    await one.put("a", b"1")
    await two.put("a", b"2")
    for remote, body in ((one, b"1"), (two, b"2"), (one, b"1")):
        store, _ = _cached(remote, tmp_path)
        path = await store.local_path("a")
        assert path is not None
        assert path.read_bytes() == body
        await store.close()


async def test_least_recently_used_files_make_room_and_stay_mapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_folder, "_GRACE_SECS", 0.0)
    remote = _Remote()
    store, _ = _cached(remote, tmp_path, bytes_max=250_000)
    paths = {}
    for key in "abc":
        await remote.put(key, key.encode() * 100_000)
    for number, key in enumerate("ab"):
        paths[key] = await store.local_path(key)
        os.utime(paths[key], (time.time() - 100 + number,) * 2)
    await store.local_path("a")  # now b is the oldest
    with paths["b"].open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapping:
        paths["c"] = await store.local_path("c")
        assert not paths["b"].exists()
        assert mapping[:] == b"b" * 100_000
    assert _files(tmp_path) == sorted([paths["a"], paths["c"]])
    fetched = remote.gets
    assert await store.local_path("b") is not None
    assert remote.gets == fetched + 1
    await store.close()


async def test_a_damaged_copy_is_dropped_and_fetched_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    remote = _Remote()
    await remote.put("seg/1", b"as it is")
    store, _ = _cached(remote, tmp_path)
    path = await store.local_path("seg/1")
    assert path is not None
    path.write_bytes(b"as it isn't")
    await store.forget_local("seg/1")
    assert "seg/1 is damaged" in caplog.text
    assert not path.exists()
    path = await store.local_path("seg/1")
    assert path is not None
    assert path.read_bytes() == b"as it is"
    await store.forget_local("seg/never")
    await store.close()


async def test_what_was_just_given_is_not_evicted(tmp_path: Path) -> None:
    remote = _Remote()
    store, _ = _cached(remote, tmp_path, bytes_max=1000)
    for key in "abc":
        await remote.put(key, key.encode() * 900)
    paths = [await store.local_path(key) for key in "abc"]
    assert all(path is not None and path.exists() for path in paths)
    await store.close()


async def test_a_failed_fetch_leaves_nothing_and_is_tried_again(tmp_path: Path) -> None:
    faulty = FaultyStore()
    await faulty.put("seg/1", _BODY)
    store, _ = _cached(faulty, tmp_path)
    faulty.failures = 1
    with pytest.raises(UnavailableError):
        await store.local_path("seg/1")
    assert _files(tmp_path) == []
    path = await store.local_path("seg/1")
    assert path is not None
    assert path.read_bytes() == _BODY
    await store.close()


async def test_an_object_that_changes_while_it_is_fetched_is_no_answer(tmp_path: Path) -> None:
    remote = _Remote()
    await remote.put("seg/1", _BODY)

    async def change(number: int) -> None:
        if number == 2:
            await remote.put("seg/1", bytes(reversed(_BODY)))

    remote.before = change
    store, _ = _cached(remote, tmp_path)
    with pytest.raises(UnavailableError, match="changed"):
        await store.local_path("seg/1")
    assert _files(tmp_path) == []
    await store.close()


async def test_a_caller_that_gives_up_does_not_end_the_fetch_for_others(tmp_path: Path) -> None:
    remote = _Remote()
    await remote.put("a", b"body")
    reached, go = asyncio.Event(), asyncio.Event()

    async def hold(number: int) -> None:
        reached.set()
        await go.wait()

    remote.before = hold
    store, _ = _cached(remote, tmp_path)
    first, second = (asyncio.create_task(store.local_path("a")) for _ in range(2))
    await reached.wait()
    first.cancel()
    go.set()
    path = await second
    assert path is not None
    assert path.read_bytes() == b"body"
    assert first.cancelled()
    await store.close()


async def test_closing_ends_fetches_and_leaves_nothing(tmp_path: Path) -> None:
    remote = _Remote()
    await remote.put("a", b"body")
    reached = asyncio.Event()

    async def hold(number: int) -> None:
        reached.set()
        await asyncio.Event().wait()

    remote.before = hold
    store, _ = _cached(remote, tmp_path)
    waiting = asyncio.create_task(store.local_path("a"))
    await reached.wait()
    await store.close()
    assert isinstance((await asyncio.gather(waiting, return_exceptions=True))[0], asyncio.CancelledError)
    assert _files(tmp_path) == []


async def test_another_process_at_it_is_waited_for_and_its_death_is_no_end(tmp_path: Path) -> None:
    remote = _Remote()
    await remote.put("a", b"body")
    first, _ = _cached(remote, tmp_path)
    path = await first.local_path("a")
    assert path is not None
    path.unlink()
    name = str(path.relative_to(tmp_path))
    other = CacheFolder(tmp_path, 1 << 20)
    claimed = other.claim(name)
    assert claimed is not None
    assert other.claim(name) is None
    second, _ = _cached(remote, tmp_path)
    waiting = asyncio.create_task(second.local_path("a"))
    await asyncio.sleep(0)
    assert remote.gets == 1
    os.close(claimed)  # as the kernel does for a killed process; its part file stays
    assert await waiting == path
    assert path.read_bytes() == b"body"
    assert _files(tmp_path) == [path]
    await first.close()
    await second.close()


@pytest.mark.parametrize("step", ["posix_fallocate", "pwrite", "fsync", "no folder"])
async def test_a_cache_that_fails_costs_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, step: str
) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    remote = _Remote()
    await remote.put("a", b"body")
    if step == "no folder":
        (tmp_path / "cache").write_bytes(b"in the way")
    else:
        monkeypatch.setattr(os, step, full)
    store, metrics = _cached(remote, tmp_path / "cache")
    path = await store.local_path("a")
    assert path is not None
    assert path.read_bytes() == b"body"
    assert metrics.registry.get_sample_value("akidb_cache_failures_total") == 1
    assert (tmp_path / "cache") not in path.parents
    assert "file cache" in caplog.text
    assert _files(tmp_path / "cache") == []
    await store.close()


_SEGMENT = "c/seg/1"


async def test_ranges_are_answered_before_and_after_they_are_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_MODULE, "_KEEP_SECS", 3600.0)  # closing does not wait for it
    remote = _Remote()
    await remote.put(_SEGMENT, _BODY)
    store, metrics = _cached(remote, tmp_path)
    places = [(start, start + 100) for start in range(0, 3000, 100)]
    for _ in range(2):
        for start, end in places:
            assert (await store.get(_SEGMENT, byte_range=(start, end))).body == _BODY[start:end]
    assert (await store.get(_SEGMENT, byte_range=(0, 99))).body == _BODY[:99]  # another range that begins there
    assert remote.gets == len(places) + 1
    assert not _files(tmp_path)
    await store.close()
    assert len(_files(tmp_path)) == len(places)
    again, _ = _cached(remote, tmp_path)
    for start, end in places:
        assert (await again.get(_SEGMENT, byte_range=(start, end))).body == _BODY[start:end]
    assert remote.gets == len(places) + 1
    assert metrics.registry.get_sample_value("akidb_cache_hits_total", {"tier": "ranges"}) == len(places)
    await again.close()


async def test_a_segment_that_was_written_here_is_not_fetched(tmp_path: Path) -> None:
    written = tmp_path / "written"
    written.write_bytes(_BODY)
    remote = _Remote()
    store, metrics = _cached(remote, tmp_path / "cache")
    await store.put(_SEGMENT, written)
    await store.put(_SEGMENT, written)  # as a retry would
    await store.put("db/1/manifest/a", written)
    written.unlink()
    kept = await store.local_path(_SEGMENT)
    assert kept is not None
    assert kept.read_bytes() == _BODY
    assert remote.gets == 0
    assert _files(tmp_path / "cache") == [kept]
    assert metrics.registry.get_sample_value("akidb_cache_failures_total") == 0
    await store.close()


async def test_a_segment_is_written_though_the_cache_cannot_be(tmp_path: Path) -> None:
    written = tmp_path / "written"
    written.write_bytes(b"whole")
    (tmp_path / "cache").write_bytes(b"no folder")
    remote = _Remote()
    store, metrics = _cached(remote, tmp_path / "cache")
    assert (await store.put(_SEGMENT, written)).ok
    assert (await remote.get(_SEGMENT)).body == b"whole"
    assert metrics.registry.get_sample_value("akidb_cache_failures_total") == 1
    await store.close()


async def test_a_range_that_waits_for_the_disk_is_forgotten_with_its_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_MODULE, "_UNKEPT_BYTES_MAX", 10)  # room for one of the two
    monkeypatch.setattr(_MODULE, "_KEEP_SECS", 3600.0)
    remote = _Remote()
    await remote.put(_SEGMENT, b"damaged")
    store, _ = _cached(remote, tmp_path)
    assert (await store.get(_SEGMENT, byte_range=(0, 7))).body == b"damaged"
    await remote.put(_SEGMENT, b"as good")
    await store.forget_local(_SEGMENT)
    assert (await store.get(_SEGMENT, byte_range=(0, 7))).body == b"as good"
    await store.close()
    assert [path.read_bytes() for path in _files(tmp_path)] == [b"as good"]


async def test_ranges_that_come_faster_than_the_disk_takes_them_are_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_MODULE, "_UNKEPT_BYTES_MAX", 250)
    monkeypatch.setattr(_MODULE, "_KEEP_SECS", 3600.0)
    remote = _Remote()
    await remote.put(_SEGMENT, _BODY)
    store, _ = _cached(remote, tmp_path)
    for start in range(0, 1000, 100):
        assert (await store.get(_SEGMENT, byte_range=(start, start + 100))).body == _BODY[start : start + 100]
    await store.close()
    assert len(_files(tmp_path)) == 2
