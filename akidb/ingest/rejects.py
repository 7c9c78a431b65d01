"""The file that bad rows are told in: JSON Lines of file, line and reason."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from akidb.ingest.batch import Reject


class RejectsFile:
    """Made when the first row is rejected. What an earlier run wrote is kept up to `keep_bytes`, no further."""

    def __init__(self, path: Path, *, keep_bytes: int = 0) -> None:
        self.path = path
        self.size = 0
        if keep_bytes and path.exists() and path.stat().st_size >= keep_bytes:
            with path.open("r+b") as file:
                file.truncate(keep_bytes)
            self.size = keep_bytes
        else:
            path.unlink(missing_ok=True)

    def write(self, source: str, rejects: Sequence[Reject]) -> None:
        if not rejects:
            return
        entries = [{"file": source, "line": reject.line, "reason": reject.reason} for reject in rejects]
        with self.path.open("ab") as file:
            self.size += file.write(msgspec.json.Encoder().encode_lines(entries))
