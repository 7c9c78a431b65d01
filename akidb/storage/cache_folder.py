"""A folder of files that may be fetched again: bounded by bytes, oldest use goes first, shared by a machine's
processes.

A file is complete or absent: it grows as `<name>.part` under flock, is synced, then renamed. The modification time is
the time of last use. Blocking.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from akidb.storage.files import opened, sync

_GRACE_SECS = 60.0  # whoever was just given a path has this long to open it


class CacheFolder:
    """`root` may be shared with other stores and with processes that have the same `bytes_max`.

    Every method may raise OSError. Between `claim` and `finish` or `abandon`, work in threads goes by name, never by
    the claim's descriptor: a thread that outlives its cancelled task would otherwise write to whatever has that
    number then.
    """

    def __init__(self, root: Path, bytes_max: int) -> None:
        self.root = root
        self._bytes_max = bytes_max

    def find(self, name: str) -> Path | None:
        """The complete file, marked as used now."""
        path = self.root / name
        try:
            os.utime(path)
        except FileNotFoundError:
            return None
        except OSError:  # a read-only cache still serves; it only forgets what is used
            return path if path.exists() else None
        return path

    def drop(self, name: str) -> None:
        """Whoever has mapped the file keeps what it sees."""
        (self.root / name).unlink(missing_ok=True)

    def claim(self, name: str) -> int | None:
        """A descriptor that holds the right to fill the file; None if somebody else has it now. Death gives it up."""
        part = self._part(name)
        part.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with contextlib.suppress(BlockingIOError, FileNotFoundError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_ino == part.stat().st_ino:  # else it was finished after our open
                return descriptor
        os.close(descriptor)
        return None

    def reserve(self, name: str, size: int) -> None:
        """Makes room for `size` bytes: in the budget, and on the disk, which may be full of other things."""
        self._evict(size)
        with opened(self._part(name), os.O_RDWR) as descriptor:
            try:
                _allocate(descriptor, size)
            except OSError as failed:
                if failed.errno != errno.ENOSPC:
                    raise
                self._evict(self._bytes_max)
                _allocate(descriptor, size)

    def write(self, name: str, start: int, data: bytes) -> None:
        rest = memoryview(data)
        with opened(self._part(name), os.O_WRONLY) as descriptor:
            while rest:
                written = os.pwrite(descriptor, rest, start)
                rest, start = rest[written:], start + written

    def finish(self, name: str, claimed: int) -> Path:
        """Synced first: after power loss a renamed file of the right size could otherwise hold zeros."""
        try:
            sync(claimed)
            path = self._part(name).replace(self.root / name)
        except OSError:
            self.abandon(name, claimed)
            raise
        os.close(claimed)
        return path

    def abandon(self, name: str, claimed: int) -> None:
        with contextlib.suppress(OSError):
            self._part(name).unlink()
        os.close(claimed)

    def _evict(self, room: int) -> None:
        """Removes what was used longest ago until `room` more bytes fit; never what was used a moment ago."""
        files = sorted(self._files())
        excess = sum(size for _, size, _ in files) + room - self._bytes_max
        newest = time.time() - _GRACE_SECS
        for used_at, size, path in files:
            if excess <= 0 or used_at > newest:
                return
            with contextlib.suppress(OSError):
                path.unlink()
                excess -= size

    def _files(self) -> Iterator[tuple[float, int, Path]]:
        for folder, _, names in os.walk(self.root):
            for name in names:
                path = Path(folder, name)
                with contextlib.suppress(OSError):
                    info = path.stat()
                    yield info.st_mtime, info.st_size, path

    def _part(self, name: str) -> Path:
        return self.root / f"{name}.part"


def _allocate(descriptor: int, size: int) -> None:
    os.ftruncate(descriptor, 0)
    if hasattr(os, "posix_fallocate") and size:  # macOS has none and may run out of room while writing
        os.posix_fallocate(descriptor, 0, size)
