"""The file that bad rows are told in: JSON Lines of file, line and reason."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from akidb.errors import InvalidInputError
from akidb.ingest.batch import Reject


def check_writable(path: Path) -> None:
    """Asked before a run begins, which may meet its first bad row hours later. Raises InvalidInputError."""
    folder = path.absolute().parent
    if not folder.is_dir():
        raise InvalidInputError(f"rejects file {path}: there is no folder {folder}", code="rejects_not_writable")
    if not os.access(path if path.exists() else folder, os.W_OK) or path.is_dir():
        raise InvalidInputError(f"rejects file {path}: cannot be written; name another", code="rejects_not_writable")


class RejectsFile:
    """Made when the first row is rejected. What an earlier run wrote is kept up to `keep_bytes`, no further.

    It is touched with the first rows of a run, not before: a run that can't begin leaves the last one's rejects alone.
    """

    def __init__(self, path: Path, *, keep_bytes: int = 0) -> None:
        self.path = path
        kept = keep_bytes if path.exists() and path.stat().st_size >= keep_bytes else 0
        self.size = kept
        self._begun = False

    def _begin(self) -> None:
        self._begun = True
        if self.size:
            with self.path.open("r+b") as file:
                file.truncate(self.size)
        else:
            self.path.unlink(missing_ok=True)

    def write(self, source: str, rejects: Sequence[Reject]) -> None:
        if not self._begun:
            self._begin()
        if not rejects:
            return
        entries = [{"file": source, "line": reject.line, "reason": reject.reason} for reject in rejects]
        with self.path.open("ab") as file:
            self.size += file.write(msgspec.json.Encoder().encode_lines(entries))
