"""JSON Lines: one object per line. Payloads keep the text they had in the file."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import islice

import msgspec

from akidb.ingest.batch import Batch, Columns
from akidb.ingest.rows import Rows

_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_numbers = msgspec.json.Decoder(list[float])
_id = msgspec.json.Decoder(str | int)

NESTED_PAYLOAD = "payload"
"""Where this is the only other field, its value is the payload, so that the points of a REST upsert can be lines."""


def read(path: str, columns: Columns, prefix: str, rows_per_batch: int, skip: int, dim: int | None) -> Iterator[Batch]:
    """Batches of the file at `path` ("-" for standard input) from line `skip` on. Empty lines are passed over."""
    rows = Rows(dim)
    line = skip
    with nullcontext(sys.stdin.buffer) if path == "-" else open(path, "rb") as file:
        for line, text in enumerate(islice(file, skip, None), start=skip + 1):
            if line == 1:
                text = text.removeprefix(codecs.BOM_UTF8)  # some editors begin a text with it
            if not text.isspace():
                _add(rows, line, text, columns, prefix)
            if len(rows) == rows_per_batch:
                yield rows.batch(line)
    if len(rows):
        yield rows.batch(line)


def _add(rows: Rows, line: int, text: bytes, columns: Columns, prefix: str) -> None:
    try:
        fields = _object.decode(text)
        if columns.vector not in fields:
            rows.refuse(line, f"there is no field {columns.vector!r}")
            return
        vector = _numbers.decode(fields[columns.vector])
        id = f"{prefix}{line}" if columns.id is None else _id.decode(fields.get(columns.id, b'""'))
        rows.add(line, id, vector, _payload(fields, columns))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        rows.refuse(line, str(error))


def _payload(fields: dict[str, msgspec.Raw], columns: Columns) -> bytes | None:
    if columns.payload is None:
        names = [name for name in fields if name not in (columns.id, columns.vector)]
        if names == [NESTED_PAYLOAD] and bytes(fields[NESTED_PAYLOAD])[:1] == b"{":
            return bytes(fields[NESTED_PAYLOAD])
    else:
        names = [name for name in columns.payload if name in fields]
    return msgspec.json.encode({name: fields[name] for name in names}) if names else None
