"""Folders for files that are put into a store later: a process that dies leaves them, and the next one removes them."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from akidb.storage.files import opened

_PREFIX = "akidb-scratch-"
_YOUNG_SECS = 60.0
"""Between making a folder and locking it lies a moment, in which it looks abandoned."""

_logger = logging.getLogger(__name__)


@contextlib.contextmanager
def scratch(what: str) -> Iterator[Path]:
    """A new folder in the system's temporary folder, under a lock that ends with the process. Raises OSError."""
    folder = tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{what}-", ignore_cleanup_errors=True)
    with folder as name, opened(name) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield Path(name)


def sweep() -> int:
    """Removes what dead processes of this user left; returns how many folders that were. Blocking."""
    removed = 0
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            info = path.lstat()
            if info.st_uid != os.getuid() or time.time() - info.st_mtime < _YOUNG_SECS or path.is_symlink():
                continue
            with opened(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW) as descriptor:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path)
            removed += 1
    if removed:
        _logger.info("removed %d temporary folders of processes that were killed", removed)
    return removed
