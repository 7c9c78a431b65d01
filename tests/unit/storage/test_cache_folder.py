from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from akidb.storage.cache_folder import CacheFolder


def test_a_file_is_absent_until_it_is_finished(tmp_path: Path) -> None:
    cache = CacheFolder(tmp_path, 1000)
    claimed = cache.claim("s/one")
    assert claimed is not None
    cache.reserve("s/one", 6)
    cache.write("s/one", 3, b"def")
    cache.write("s/one", 0, b"abc")
    assert cache.find("s/one") is None
    path = cache.finish("s/one", claimed)
    assert cache.find("s/one") == path == tmp_path / "s/one"
    assert path.read_bytes() == b"abcdef"
    assert path.stat().st_mode & 0o077 == 0


def test_an_abandoned_claim_leaves_nothing_and_can_be_taken(tmp_path: Path) -> None:
    cache = CacheFolder(tmp_path, 1000)
    for _ in range(2):
        claimed = cache.claim("one")
        assert claimed is not None
        assert cache.claim("one") is None
        cache.abandon("one", claimed)
        assert list(tmp_path.iterdir()) == []


def test_a_claim_that_came_too_late_does_not_own_the_finished_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second opens the part file; before it has the lock, the first finishes, so what it locks is the finished
    file."""
    cache = CacheFolder(tmp_path, 1000)
    first = cache.claim("one")
    assert first is not None
    cache.write("one", 0, b"whole")
    real = fcntl.flock

    def finish_then_lock(descriptor: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", real)
        cache.finish("one", first)
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", finish_then_lock)
    assert cache.claim("one") is None
    assert (tmp_path / "one").read_bytes() == b"whole"


def test_a_leftover_part_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "one.part").write_bytes(b"left by a killed process, and longer")
    cache = CacheFolder(tmp_path, 1000)
    claimed = cache.claim("one")
    assert claimed is not None
    cache.reserve("one", 3)
    cache.write("one", 0, b"new")
    assert cache.finish("one", claimed).read_bytes() == b"new"


def _put(cache: CacheFolder, name: str, size: int, used_at: float = 1.0) -> None:
    claimed = cache.claim(name)
    assert claimed is not None
    cache.reserve(name, size)
    os.utime(cache.finish(name, claimed), (used_at, used_at))


def test_what_is_pinned_is_not_removed(tmp_path: Path) -> None:
    cache = CacheFolder(tmp_path, 1000)
    cache.pin("kept")
    _put(cache, "kept/old", 400, used_at=1)
    _put(cache, "other/newer", 400, used_at=2)
    assert cache.pinned_bytes() == 400
    assert cache.pinned_bytes(["kept"]) == 0
    _put(cache, "other/next", 500, used_at=3)
    assert cache.find("kept/old") is not None
    assert cache.find("other/newer") is None
    assert CacheFolder(tmp_path, 1000).is_pinned("kept")  # another process, or this one after a restart
    cache.unpin("kept")
    os.utime(tmp_path / "kept/old", (1, 1))
    _put(cache, "other/last", 400)
    assert cache.find("kept/old") is None
    assert not cache.is_pinned("kept")


def test_ranges_are_kept_within_the_budget_and_read_back(tmp_path: Path) -> None:
    cache = CacheFolder(tmp_path, 10_000)
    for i in range(200):
        cache.keep_range("s/one", 1000 * i, bytes([i]) * 500)
    held = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert 0 < held <= 11_000
    assert cache.read_range("s/one", 199_000, 199_500) == bytes([199]) * 500
    assert cache.read_range("s/one", 199_000, 199_400) is None
    assert cache.read_range("s/one", 0, 500) is None  # made room for those
    assert cache.drop("s/one")
    assert cache.read_range("s/one", 199_000, 199_500) is None
    assert not cache.drop("s/one")


def test_what_others_removed_counts_as_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads and processes that look at once see the same files: what one removes, the others' room is as well."""
    cache = CacheFolder(tmp_path, 1000)
    for n in range(4):
        cache.keep_range("f", n * 250, bytes(250))
        os.utime(tmp_path / f"f.{n * 250}-{n * 250 + 250}", (n, n))
    seen = list(cache._files())
    cache.keep_range("f", 1000, bytes(250))
    monkeypatch.setattr(cache, "_files", lambda: iter(seen))
    cache._evict(250)
    assert cache.read_range("f", 0, 250) is None
    assert all(cache.read_range("f", start, start + 250) is not None for start in (250, 500, 750, 1000))


def test_a_whole_file_serves_ranges_and_takes_their_place(tmp_path: Path) -> None:
    cache = CacheFolder(tmp_path, 10_000)
    cache.keep_range("s/one", 2, b"xx")
    claimed = cache.claim("s/one")
    assert claimed is not None
    cache.reserve("s/one", 6)
    cache.write("s/one", 0, b"abcdef")
    cache.finish("s/one", claimed)
    assert [path.name for path in (tmp_path / "s").iterdir()] == ["one"]
    assert cache.read_range("s/one", 2, 4) == b"cd"


def test_ranges_go_by_their_last_use_and_not_by_when_they_were_written(tmp_path: Path) -> None:
    cache = CacheFolder(tmp_path, 1000)
    cache.keep_range("s/one", 0, bytes(400), 3_000_000_000)
    cache.keep_range("s/one", 1000, bytes(400), 1_000_000_000)
    cache.keep_range("s/one", 2000, bytes(400), 2_000_000_000)
    assert cache.read_range("s/one", 0, 400) == bytes(400)
    assert cache.read_range("s/one", 1000, 1400) is None
    assert cache.read_range("s/one", 2000, 2400) == bytes(400)
