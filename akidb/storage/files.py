"""File operations that are durable when they return; blocking."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from xxhash import xxh3_128, xxh3_128_hexdigest

from akidb.storage.keys import check_range
from akidb.storage.object_store import Body

NO_LINKS = {errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EXDEV, errno.ENOSYS}
"""Errors of link(2) that mean "not here", as opposed to "not now"."""

NOWAIT: int = getattr(os, "RWF_NOWAIT", 0)
"""The flag of preadv that refuses to wait; 0 where the system has none."""

_CHUNK_BYTES = 1 << 20
_READ_BYTES_MAX = 1 << 30  # Linux reads at most 2 GiB at once
_logger = logging.getLogger(__name__)


def sync(descriptor: int) -> None:
    """fsync that reaches the medium: on macOS fsync stops at the drive's cache, F_FULLFSYNC goes on."""
    if sys.platform == "darwin":
        try:
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            return
        except OSError as failed:
            if failed.errno not in (errno.ENOTSUP, errno.ENOTTY, errno.EINVAL):
                raise
            _logger.warning("this volume knows no F_FULLFSYNC: what was acknowledged may be lost at power failure")
    os.fsync(descriptor)


def etag_of_file(path: Path) -> str:
    """XXH3-128 of the bytes, as for bytes in memory."""
    digest = xxh3_128()
    with opened(path) as descriptor:
        while chunk := os.read(descriptor, _CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def write_synced(part: Path, body: Body) -> str:
    """Puts `body` into the new file `part` and syncs it. Returns the ETag."""
    if isinstance(body, Path):
        if _linked(body, part):
            with opened(part) as descriptor:
                os.fchmod(descriptor, 0o600)
                sync(descriptor)
            return etag_of_file(part)
        return _copied(body, part)
    with _created(part) as descriptor:
        _write_all(descriptor, body)
        sync(descriptor)
    return xxh3_128_hexdigest(body)


def _linked(source: Path, part: Path) -> bool:
    if not stat.S_ISREG(source.lstat().st_mode):  # linking a symbolic link would make that the object
        return False
    try:
        os.link(source, part)
    except OSError as failed:
        if failed.errno not in NO_LINKS:
            raise
        return False
    return True


def _copied(source: Path, part: Path) -> str:
    digest = xxh3_128()
    with opened(source) as reading, _created(part) as writing:
        while chunk := os.read(reading, _CHUNK_BYTES):
            digest.update(chunk)
            _write_all(writing, chunk)
        sync(writing)
    return digest.hexdigest()


def _write_all(descriptor: int, body: bytes | bytearray | memoryview) -> None:
    rest = memoryview(body).cast("B")
    while rest:
        rest = rest[os.write(descriptor, rest) :]


@contextlib.contextmanager
def opened(path: Path | str, flags: int = os.O_RDONLY) -> Iterator[int]:
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _created(part: Path) -> contextlib.AbstractContextManager[int]:
    return opened(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL)


@contextlib.contextmanager
def flocked(folder: Path, operation: int = fcntl.LOCK_EX) -> Iterator[None]:
    with opened(folder) as descriptor:
        fcntl.flock(descriptor, operation)
        yield  # closing the descriptor gives the lock up


def read_file(
    path: Path | str, byte_range: tuple[int, int] | None, *, inline_bytes: int | None = None
) -> tuple[os.stat_result, bytes]:
    """The file's status and its bytes, or those in [start, end) of it.

    With `inline_bytes` it never waits for the disk: more than so many, or bytes that are not in the kernel's memory,
    raise BlockingIOError. Raises FileNotFoundError; InvalidInputError for a range past the end.
    """
    with opened(path) as descriptor:
        info = os.fstat(descriptor)
        start, end = (0, info.st_size) if byte_range is None else check_range(byte_range, info.st_size)
        end = min(end, info.st_size)
        if inline_bytes is None:
            return info, read_at(descriptor, start, end)
        if not NOWAIT or end - start > inline_bytes:
            raise BlockingIOError
        buffer = bytearray(end - start)
        if os.preadv(descriptor, [buffer], start, NOWAIT) < len(buffer):
            raise BlockingIOError
        return info, bytes(buffer)


def read_at(descriptor: int, start: int, end: int) -> bytes:
    pieces = []
    while start < end:
        piece = os.pread(descriptor, min(end - start, _READ_BYTES_MAX), start)
        if not piece:
            raise OSError(errno.EIO, "the file ended early")
        pieces.append(piece)
        start += len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
