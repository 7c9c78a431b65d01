"""CSV with a header line. A vector is one cell: a JSON array, or numbers between blanks, commas or semicolons."""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TextIO

import msgspec

from akidb.errors import InvalidInputError
from akidb.ingest.batch import Batch, Columns
from akidb.ingest.rows import Rows

FIELD_BYTES_MAX = 1 << 24
"""Longest cell: the csv module's own limit would cut off vectors of some thousand dimensions."""

_SEPARATORS = str.maketrans("[](),;|", "       ")
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")
_WORDS = {"true": True, "false": False}


def read(path: str, columns: Columns, prefix: str, rows_per_batch: int, skip: int, dim: int | None) -> Iterator[Batch]:
    """Batches of the file at `path` ("-" for standard input) from record `skip` on.

    Payload cells written as JSON numbers, true or false become such; empty cells are left out; the rest is text.

    Raises:
        InvalidInputError: `unreadable_file` without a header, `unknown_column`.
    """
    csv.field_size_limit(FIELD_BYTES_MAX)
    rows = Rows(dim)
    end = 0
    with _opened(path) as file:
        records = csv.reader(file)
        header = next(records, None)
        if not header:
            raise InvalidInputError(f"{path}: there is no header line", code="unreadable_file")
        layout = _Layout(path, header, columns)
        for end, cells in enumerate(_records(records), start=1):
            if end <= skip:
                continue
            if isinstance(cells, csv.Error):
                rows.refuse(records.line_num, str(cells))
            elif cells:  # an empty line is no record
                layout.add(rows, records.line_num, cells, prefix)
            if len(rows) == rows_per_batch:
                yield rows.batch(end)
    if len(rows):
        yield rows.batch(end)


def _records(reader: Iterator[list[str]]) -> Iterator[list[str] | csv.Error]:
    """The reader's records, and in the place of a malformed one what is wrong with it."""
    while True:
        try:
            yield next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield error


def _opened(path: str) -> AbstractContextManager[TextIO]:
    """As text, without a byte order mark. What is not UTF-8 becomes lone surrogates, refused with their row."""
    if path == "-":
        return nullcontext(io.TextIOWrapper(sys.stdin.buffer, "utf-8-sig", errors="surrogateescape", newline=""))
    return open(path, encoding="utf-8-sig", errors="surrogateescape", newline="")


class _Layout:
    """Where in a record what stands."""

    def __init__(self, path: str, header: list[str], columns: Columns) -> None:
        twice = {name for name in header if header.count(name) > 1}
        if twice:
            raise InvalidInputError(f"{path}: column {min(twice)!r} stands twice in the header", code="unreadable_file")
        wanted = [columns.vector, *([columns.id] if columns.id else []), *(columns.payload or ())]
        for name in wanted:
            if name not in header:
                raise InvalidInputError(
                    f"{path}: no column {name!r}, there are {', '.join(header)}", code="unknown_column"
                )
        self._width = len(header)
        self._vector = header.index(columns.vector)
        self._id = None if columns.id is None else header.index(columns.id)
        names = columns.payload
        if names is None:
            names = tuple(name for name in header if name not in (columns.id, columns.vector))
        self._payload = [(name, header.index(name)) for name in names]

    def add(self, rows: Rows, line: int, cells: list[str], prefix: str) -> None:
        if len(cells) != self._width:
            rows.refuse(line, f"the record has {len(cells)} cells, the header {self._width}")
            return
        try:
            vector = [_float(number) for number in cells[self._vector].translate(_SEPARATORS).split()]
        except ValueError as error:
            rows.refuse(line, f"the vector is no list of numbers: {error}")
            return
        payload = {name: _value(cells[at]) for name, at in self._payload if cells[at] != ""}
        id = f"{prefix}{line}" if self._id is None else cells[self._id]
        try:
            encoded = msgspec.json.encode(payload) if payload else None
        except UnicodeEncodeError:
            rows.refuse(line, "the payload is not UTF-8")
            return
        rows.add(line, id, vector, encoded)


def _float(text: str) -> float:
    if "_" in text or not text.isascii():  # "1_000" is a number to Python only
        raise ValueError(f"could not convert string to float: {text!r}")
    return float(text)


def _value(cell: str) -> str | float | bool | msgspec.Raw:
    if cell in _WORDS:
        return _WORDS[cell]
    return msgspec.Raw(cell.encode()) if _NUMBER.fullmatch(cell) else cell
