"""Which files there are, what format each has, and what it is known by."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import xxhash

from akidb.errors import InvalidInputError
from akidb.ingest import csv_rows, jsonl, parquet
from akidb.ingest.batch import Batch, Columns

Format: TypeAlias = Literal["parquet", "jsonl", "csv"]

STDIN = "-"

_FORMATS: dict[str, Format] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
}
_BLOCK_BYTES = 1 << 20

Reader: TypeAlias = Callable[[str, Columns, str, int, int, int | None], Iterator[Batch]]
"""(path, columns, id prefix, rows per batch, rows to skip, dimension if known) -> batches."""

_READERS: dict[Format, Reader] = {"parquet": parquet.read, "jsonl": jsonl.read, "csv": csv_rows.read}


@dataclass(frozen=True, slots=True)
class Source:
    """One file. `identity` tells whether it is still the file that an earlier run read."""

    path: str
    format: Format
    identity: str

    @property
    def is_repeatable(self) -> bool:
        """Whether a later run can read it from the start again."""
        return self.path != STDIN

    def read(self, columns: Columns, *, rows_per_batch: int, skip: int, dim: int | None) -> Iterator[Batch]:
        """Batches from row `skip` on.

        Raises:
            InvalidInputError: `unreadable_file`, `unknown_column`; rows that are bad alone are in the batches' rejects.
            ConfigurationError: the format needs a package that is not installed.
        """
        # Ids made from the content: the same file gives the same ids wherever it lies and whatever it is called.
        prefix = "" if columns.id is not None else self.content_hash() + "-"
        return _READERS[self.format](self.path, columns, prefix, rows_per_batch, skip, dim)

    def content_hash(self) -> str:
        """XXH3-128 of the file, as 32 hex digits."""
        digest = xxhash.xxh3_128()
        with open(self.path, "rb") as file:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
        return digest.hexdigest()

    def rows(self) -> int | None:
        """How many rows there are, for the progress bar only: of a CSV an upper bound, of stdin unknown."""
        if self.path == STDIN:
            return None
        if self.format == "parquet":
            return parquet.row_count(self.path)
        with open(self.path, "rb") as file:
            return sum(block.count(b"\n") for block in iter(lambda: file.read(_BLOCK_BYTES), b""))


def find_sources(places: Sequence[str], wanted: Format | None, *, rejects: Path | None = None) -> list[Source]:
    """The files of each place in turn: a file, or those of a folder with a known ending, sorted by name.

    Never `rejects`, which is written.

    Raises:
        InvalidInputError: `no_such_file`, `unknown_format`, or it is the rejects file itself (`rejects_is_input`).
    """
    return [source for where in places for source in _found(where, wanted, rejects)]


def _found(where: str, wanted: Format | None, rejects: Path | None) -> list[Source]:
    if where == STDIN:
        if wanted not in ("jsonl", "csv"):
            raise InvalidInputError("standard input needs --format jsonl or csv", code="unknown_format")
        return [Source(STDIN, wanted, STDIN)]
    try:
        is_folder = stat.S_ISDIR(os.stat(where).st_mode)
        paths = sorted(entry.path for entry in os.scandir(where) if _is_wanted(entry, wanted)) if is_folder else [where]
        if rejects is not None and rejects.exists():
            others = [path for path in paths if not os.path.samefile(path, rejects)]
            if paths and not is_folder and not others:
                msg = f"{where} is the rejects file too, which would be overwritten; name another with --rejects"
                raise InvalidInputError(msg, code="rejects_is_input")
            paths = others
        sources = [_source(path, wanted) for path in paths]
    except OSError as error:
        raise InvalidInputError(f"{where}: {error.strerror}", code="no_such_file") from error
    if not sources:
        raise InvalidInputError(f"{where}: no file ends in {', '.join(_FORMATS)}", code="unknown_format")
    return sources


def _is_wanted(entry: os.DirEntry[str], wanted: Format | None) -> bool:
    found = _FORMATS.get(Path(entry.name).suffix.lower())
    return found is not None and wanted in (None, found) and entry.is_file()


def _source(path: str, wanted: Format | None) -> Source:
    found = wanted or _FORMATS.get(Path(path).suffix.lower())
    if found is None:
        known = ", ".join(_FORMATS)
        raise InvalidInputError(
            f"{path} ends in none of {known}; say --format parquet, jsonl or csv", code="unknown_format"
        )
    state = os.stat(path)
    return Source(path, found, f"{os.path.abspath(path)} {state.st_size} {state.st_mtime_ns}")
