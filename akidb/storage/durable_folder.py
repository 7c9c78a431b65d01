"""Objects as files that survive power loss; blocking, called from the local store's threads.

A put: temporary file (O_EXCL, 0600) -> write -> fsync -> link(2) under the key's name, which fails if it is taken ->
fsync of the folder. Renaming would overwrite, and an O_EXCL file under the final name would show unfinished bytes to
others. What compares before it writes does so under flock of the key's folder, so several processes may share one
root.

Folders stay when their last file goes: removing one would race with a put into it, and an empty one costs nothing.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
import threading
import time
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

from akidb.errors import AkiDBError, ConfigurationError, InvalidInputError, StorageFullError, UnavailableError
from akidb.storage.files import NO_LINKS, etag_of_file, flocked, opened, sync, write_synced
from akidb.storage.keys import LOCK_NAME
from akidb.storage.object_store import Body, ObjectInfo, Status

_CLOCK_TICK_NS = 20_000_000  # file times come from a clock that moves in ticks of up to 10 ms
_SYNCED_MAX = 10_000  # folders remembered as durable; forgetting one costs an fsync


class DurableFolder:
    """One root folder and what this process knows about it. Every method may be called from several threads."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._synced_ns: dict[Path, int] = {}  # folder -> a time; names made in it before are on the disk
        self._staging: _Staging | None = None
        self._staging_made = threading.Lock()
        self._poison: str | None = None

    def check_usable(self) -> None:
        """Raises UnavailableError, for ever, once an fsync of a folder failed: the kernel has then forgotten which
        names are not on the disk, so a second fsync would succeed without having written them."""
        if self._poison is not None:
            error = UnavailableError(self._poison, code="storage_poisoned")
            error.retryable = False
            raise error

    def put(self, key: str, body: Body) -> str:
        """Writes or overwrites; returns the ETag."""
        with self._staged(body) as (part, etag), self._folder_locked(key) as path:
            part.replace(path)
            self._sync_folder(path.parent)
        return etag

    def put_if_absent(self, key: str, body: Body) -> str | None:
        """The ETag, or None if the key is taken."""
        path = self._prepare(key)
        with self._staged(body) as (part, etag):
            try:
                os.link(part, path)
            except FileExistsError:
                return None
            except OSError as failed:
                if failed.errno not in NO_LINKS:
                    raise
                message = f"the file system of {self.root} has no hard links: choose another AKIDB_DATA_DIR"
                raise ConfigurationError(message) from failed
            self._sync_folder(path.parent)
        return etag

    def put_if_match(self, key: str, body: Body, expected: str) -> tuple[Status, str | None]:
        with self._staged(body) as (part, etag), self._folder_locked(key) as path:
            try:
                held = etag_of_file(path)
            except FileNotFoundError:
                return Status.NOT_FOUND, None
            if held != expected:
                return Status.CONDITION_FAILED, held
            part.replace(path)
            self._sync_folder(path.parent)
        return Status.OK, etag

    def delete(self, keys: Iterable[str]) -> None:
        for folder, group in groupby(sorted(self.root / key for key in keys), key=lambda path: path.parent):
            if not folder.is_dir():
                continue
            with flocked(folder):
                for path in group:
                    path.unlink(missing_ok=True)
                self._sync_folder(folder)

    def walk(self, prefix: str, start_after: str) -> Iterator[ObjectInfo]:
        """Objects in key order. Folders outside `prefix` or wholly before `start_after` are not opened."""
        top, _, _ = prefix.rpartition("/")
        yield from self._walk(f"{top}/" if top else "", prefix, start_after)

    def _walk(self, folder: str, prefix: str, start_after: str) -> Iterator[ObjectInfo]:
        try:
            with os.scandir(self.root / folder) as entries:
                found = [(folder + e.name + ("/" if e.is_dir() else ""), e) for e in entries if e.name[0] != "."]
        except (FileNotFoundError, NotADirectoryError):
            return
        # The slash takes part in the sort: key order has "a-b" before "a/b" before "ab".
        for key, entry in sorted(found, key=lambda pair: pair[0]):
            if not key.startswith(prefix[: len(key)]) or (key.endswith("/") and key < start_after[: len(key)]):
                continue
            if key.endswith("/"):
                yield from self._walk(key, prefix, start_after)
            elif key > start_after and key.startswith(prefix) and entry.name != LOCK_NAME:
                with contextlib.suppress(FileNotFoundError):  # deleted while we walk
                    info = entry.stat()
                    yield ObjectInfo(key, info.st_size, None, info.st_mtime)

    def is_durable(self, path: Path, changed_ns: int) -> bool:
        """Whether the name of a file whose st_ctime_ns is `changed_ns` is known to survive power loss.

        A file that another process has just linked can be read before that process has synced the folder. Who builds
        on it unsynced could keep entry n+1 and lose n.
        """
        synced_ns = self._synced_ns.get(path.parent, 0)
        return changed_ns < synced_ns <= time.time_ns()  # a clock set back since then proves nothing

    def make_durable(self, folder: Path) -> None:
        if folder in self._synced_ns:
            self._sync_folder(folder)
        else:
            self._sync_chain(folder)

    def make_lock(self, path: Path) -> None:
        self._sync_chain(path.parent, create=True)
        path.touch(mode=0o600)

    def close(self) -> None:
        if self._staging is not None:
            self._staging.close()
            self._staging = None

    def _prepare(self, key: str) -> Path:
        path = self.root / key
        self._sync_chain(path.parent, create=True)
        return path

    @contextlib.contextmanager
    def _folder_locked(self, key: str) -> Iterator[Path]:
        path = self._prepare(key)
        with flocked(path.parent):
            yield path

    @contextlib.contextmanager
    def _staged(self, body: Body) -> Iterator[tuple[Path, str]]:
        """A synced temporary file that holds `body`, and its ETag. Removed afterwards unless it was moved away."""
        with self._staging_made:
            if self._staging is None:
                self._sync_chain(self.root, create=True)
                self._staging = _Staging(self.root / ".tmp")
        part = self._staging.new_path()
        try:
            yield part, write_synced(part, body)
        finally:
            part.unlink(missing_ok=True)

    def _sync_chain(self, folder: Path, *, create: bool = False) -> None:
        """Once per process and folder: the folder and every one above it, up to the root's parent, is on the disk.

        Not only those made here: another process may have made one and not synced it yet.
        """
        if folder in self._synced_ns:
            return
        if folder != self.root:
            self._sync_chain(folder.parent, create=create)
            if create:
                folder.mkdir(mode=0o700, exist_ok=True)
            self._sync_folder(folder.parent)  # its own sync is about the names in it, not about its name
        elif create:
            self._make_root()
        self._sync_folder(folder)

    def _make_root(self) -> None:
        missing = [folder for folder in (self.root, *self.root.parents) if not folder.exists()]
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in missing:  # those that were there before may have parents we are not allowed to open
            self._sync_folder(folder.parent)

    def _sync_folder(self, folder: Path) -> None:
        started_ns = time.time_ns() - _CLOCK_TICK_NS
        with opened(folder) as descriptor:
            try:
                sync(descriptor)
            except OSError as failed:
                reason = f"the folder {folder} could not be synced ({failed.strerror})"
                self._poison = f"{reason}: check the disk, then restart AkiDB"
        self.check_usable()
        if len(self._synced_ns) >= _SYNCED_MAX:
            self._synced_ns.clear()
        self._synced_ns[folder] = started_ns


class _Staging:
    """This process's own folder below `.tmp`, marked as in use by flock, which the kernel drops when the process
    dies."""

    def __init__(self, parent: Path) -> None:
        parent.mkdir(mode=0o700, exist_ok=True)
        self._folder = parent / f"{os.getpid()}-{secrets.token_hex(8)}"
        with flocked(parent):  # nobody sweeps between making the folder and locking it
            _sweep(parent)
            self._folder.mkdir(mode=0o700)
            self._descriptor = os.open(self._folder, os.O_RDONLY | os.O_CLOEXEC)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def new_path(self) -> Path:
        return self._folder / secrets.token_hex(8)

    def close(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        os.close(self._descriptor)


def _sweep(parent: Path) -> None:
    """Removes what dead processes left: folders whose lock nobody holds."""
    for folder in parent.iterdir():
        with contextlib.suppress(BlockingIOError), flocked(folder, fcntl.LOCK_EX | fcntl.LOCK_NB):
            shutil.rmtree(folder, ignore_errors=True)


def translated(failed: OSError, root: Path) -> AkiDBError:
    """What a failed file operation means to the caller."""
    reason = f"{failed.strerror or failed} ({failed.filename or root})"
    if failed.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFullError(f"no room left in {root}: free space or move AKIDB_DATA_DIR")
    if failed.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        to_check = "how it is mounted" if failed.errno == errno.EROFS else "its owner"
        return ConfigurationError(f"the data folder cannot be used: {reason}; check AKIDB_DATA_DIR and {to_check}")
    if failed.errno in (errno.ENOTDIR, errno.EISDIR, errno.EEXIST):
        return InvalidInputError(f"a key lies below or above another object: {reason}", code="bad_key")
    return UnavailableError(f"the data folder failed: {reason}")
