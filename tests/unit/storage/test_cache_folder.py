from __future__ import annotations

import fcntl
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
