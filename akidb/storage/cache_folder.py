"""A folder of files that may be fetched again: bounded by bytes, oldest use goes first, shared by a machine's
processes.

A file is complete or absent: it grows as `<name>.part` under flock, is synced, then renamed. Beside it may lie ranges
of it, `<name>.<start>-<end>`. The modification time is the time of last use. What is in a folder with a file `pinned`
is not removed. Blocking.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from akidb.storage.files import opened, sync

_GRACE_SECS = 60.0  # whoever was just given a path has this long to open it
_PIN = "pinned"
_COPY_BYTES = 1 << 20
_LOOK_SHARE = 1 / 64
"""Ranges are small and many: room is looked for once they took this share of the budget."""


class CacheFolder:
    """`root` may be shared with other stores and with processes that have the same `bytes_max`.

    Every method may raise OSError. Between `claim` and `finish` or `abandon`, work in threads goes by name, never by
    the claim's descriptor: a thread that outlives its cancelled task would otherwise write to whatever has that
    number then.
    """

    def __init__(self, root: Path, bytes_max: int) -> None:
        self.root = root
        self.bytes_max = bytes_max
        self._ranges_written = 0

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

    def drop(self, name: str) -> bool:
        """Drops the file and its ranges; whoever has mapped the file keeps what it sees. Whether there was any."""
        path = self.root / name
        there = path.exists()
        path.unlink(missing_ok=True)
        return self._drop_ranges(name) or there

    def _drop_ranges(self, name: str) -> bool:
        path = self.root / name
        ranges = list(path.parent.glob(f"{path.name}.*-*"))
        for found in ranges:
            found.unlink(missing_ok=True)
        return bool(ranges)

    def has_range(self, name: str, start: int, end: int) -> bool:
        """Whether `read_range` has a chance: two looks at names, no bytes."""
        return (self.root / name).exists() or self._range(name, start, end).exists()

    def read_range(self, name: str, start: int, end: int) -> bytes | None:
        """The bytes [start, end) of the file, or of a range that was kept as such; None if neither is here."""
        whole = self.find(name)
        if whole is not None:
            with contextlib.suppress(FileNotFoundError), opened(whole, os.O_RDONLY) as descriptor:
                return os.pread(descriptor, end - start, start)
        path = self._range(name, start, end)
        with contextlib.suppress(FileNotFoundError):
            data = path.read_bytes()
            _used(path, time.time_ns())
            return data
        return None

    def keep_range(self, name: str, start: int, data: bytes, used_ns: int | None = None) -> None:
        """Not synced: who reads it checks it. `used_ns` is when it was used last (time.time_ns), None: now."""
        self._ranges_written += len(data)
        if self._ranges_written > self.bytes_max * _LOOK_SHARE:
            self._evict(self._ranges_written)
            self._ranges_written = 0
        path = self._range(name, start, start + len(data))
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.{threading.get_native_id()}.part")
        try:
            part.write_bytes(data)
            _used(part, used_ns or time.time_ns())
            part.replace(path)
        except OSError:
            part.unlink(missing_ok=True)
            raise

    def pin(self, folder: str) -> None:
        (self.root / folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.root / folder / _PIN).touch(mode=0o600)

    def unpin(self, folder: str) -> None:
        (self.root / folder / _PIN).unlink(missing_ok=True)

    def is_pinned(self, folder: str) -> bool:
        return (self.root / folder / _PIN).exists()

    def pinned_bytes(self, but: Iterable[str] = ()) -> int:
        """What pinned folders hold, except those."""
        left_out = {self.root / folder for folder in but}
        return sum(size for _, size, path in self._files() if self._keeps(path) and path.parent not in left_out)

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
                self._evict(self.bytes_max)
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
            self._drop_ranges(name)
        except OSError:
            self.abandon(name, claimed)
            raise
        os.close(claimed)
        return path

    def keep_file(self, name: str, source: Path) -> None:
        """Copies `source`, which is complete, unless the file is here or somebody fills it now."""
        claimed = self.claim(name)
        if claimed is None:
            return
        try:
            there = self.find(name) is not None
            if not there:
                self.reserve(name, source.stat().st_size)
                with source.open("rb") as whole, self._part(name).open("r+b") as part:
                    shutil.copyfileobj(whole, part, _COPY_BYTES)
        except BaseException:
            self.abandon(name, claimed)
            raise
        if there:
            self.abandon(name, claimed)
        else:
            self.finish(name, claimed)

    def abandon(self, name: str, claimed: int) -> None:
        with contextlib.suppress(OSError):
            self._part(name).unlink()
        os.close(claimed)

    def _evict(self, room: int) -> None:
        """Removes what was used longest ago until `room` more bytes fit; never what is pinned, nor a whole file that
        was used a moment ago."""
        files = sorted(self._files())
        excess = sum(size for _, size, _ in files) + room - self.bytes_max
        newest = time.time() - _GRACE_SECS
        for used_at, size, path in files:
            if excess <= 0:
                return
            if self._keeps(path) or (used_at > newest and "-" not in path.suffix):
                continue
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)  # what another removed meanwhile makes room as well
                excess -= size

    def _keeps(self, path: Path) -> bool:
        return path.name == _PIN or (path.parent / _PIN).exists()

    def _files(self) -> Iterator[tuple[float, int, Path]]:
        for folder, _, names in os.walk(self.root):
            for name in names:
                path = Path(folder, name)
                with contextlib.suppress(OSError):
                    info = path.stat()
                    yield info.st_mtime, info.st_size, path

    def _part(self, name: str) -> Path:
        return self.root / f"{name}.part"

    def _range(self, name: str, start: int, end: int) -> Path:
        return self.root / f"{name}.{start}-{end}"


def _used(path: Path, at_ns: int) -> None:
    """The kernel's own stamp would be the same for what is used within 4 ms."""
    os.utime(path, ns=(at_ns, at_ns))


def _allocate(descriptor: int, size: int) -> None:
    os.ftruncate(descriptor, 0)
    if hasattr(os, "posix_fallocate") and size:  # macOS has none and may run out of room while writing
        os.posix_fallocate(descriptor, 0, size)
