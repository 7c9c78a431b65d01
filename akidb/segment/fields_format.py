"""The bytes of a field index (docs/formats/fields.md has the layout and a worked example)."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from pyroaring import BitMap

from akidb.filter.bitmaps import from_rows
from akidb.segment.fields_sort import joined, lengths, order
from akidb.segment.fields_values import Kind

Column: TypeAlias = tuple[npt.NDArray[np.uint32], npt.NDArray[Any]]
_Pieces: TypeAlias = list[bytes]

MAGIC = b"AkiFld\0\1"
HEADER = struct.Struct("<8sQQQ")  # magic, rows, fields, length of all
PARTS = ("name", "exists", "false", "true", "texts", "ints", "uints", "floats")
ENTRY = struct.Struct(f"<{2 * len(PARTS)}Q")  # offset and length of each part; 0, 0 where there is none
TEXTS = struct.Struct("<5Q")  # keys, small rows, large postings, bytes of keys, bytes of large postings

_NUMBER_PARTS = {"ints": Kind.INT, "uints": Kind.UINT, "floats": Kind.FLOAT}

_SMALL_MAX = 64
"""Rows up to which a posting is a plain list: 4 bytes a row, and a range of texts takes all such lists as one slice.
Above, a roaring bitmap is smaller even when its rows lie far apart."""


@dataclass(frozen=True, slots=True)
class FieldColumns:
    """One field to be written.

    Args:
        texts: keys by code; each occurs in the TEXT column.
        columns: per kind rows uint32 (m,) and values (m,), in any order, repeats allowed.
    """

    texts: list[bytes]
    columns: Mapping[Kind, Column]


def encode(fields: Mapping[str, FieldColumns], rows: int) -> bytes:
    """The index of `rows` rows. Depends on the values of each row alone, not on the order of anything."""
    named = sorted((name.encode(), field) for name, field in fields.items())
    offset = HEADER.size + ENTRY.size * len(named)
    directory: list[bytes] = []
    bodies: list[bytes] = []  # joined once, at the end: they are most of the time that this holds the GIL
    for name, field in named:
        parts = {"name": [name]} | _parts(field, rows)
        places = []
        for part in PARTS:
            pieces = parts.get(part, [])
            length = sum(map(len, pieces))
            padding = -length % 8
            places += [offset, length] if length else [0, 0]
            bodies += [*pieces, b"\0" * padding]
            offset += length + padding
        directory.append(ENTRY.pack(*places))
    return b"".join([HEADER.pack(MAGIC, rows, len(named), offset), *directory, *bodies])


def _parts(field: FieldColumns, n: int) -> dict[str, _Pieces]:
    """The parts there are of a field, each in pieces."""
    parts = {"exists": _bitmap(np.concatenate([rows for rows, _ in field.columns.values()]), n)}
    if Kind.TEXT in field.columns:
        parts["texts"] = _texts(field.texts, *field.columns[Kind.TEXT], n)
    if Kind.BOOL in field.columns:
        rows, values = field.columns[Kind.BOOL]
        parts |= {part: _bitmap(rows[values == (part == "true")], n) for part in ("false", "true")}
    return parts | {
        part: _numbers(*field.columns[kind]) for part, kind in _NUMBER_PARTS.items() if kind in field.columns
    }


def _numbers(rows: npt.NDArray[np.uint32], values: npt.NDArray[Any]) -> _Pieces:
    """Values in order, then the row of each; equal values have their rows in order, and a row has a value once."""
    by = np.lexsort((rows, values))
    rows, values = rows[by], values[by]
    first = np.ones(len(rows), np.bool_)
    first[1:] = (values[1:] != values[:-1]) | (rows[1:] != rows[:-1])
    return [values[first].tobytes(), rows[first].astype("<u4").tobytes()]


def _texts(keys: list[bytes], rows: npt.NDArray[np.uint32], codes: npt.NDArray[np.uint32], n: int) -> _Pieces:
    """Sorted keys with the rows of each: short lists side by side in the order of their keys, long ones as bitmaps."""
    sorted_codes = order(keys)
    rank = np.empty(len(keys), np.uint64)
    rank[sorted_codes] = np.arange(len(keys), dtype=np.uint64)
    pairs = np.sort(rank[codes] << np.uint64(32) | rows)  # by key, then row
    pairs = pairs[
        np.flatnonzero(np.diff(pairs, prepend=~pairs[:1]))
    ]  # each once; the prepended one differs from the first
    posted = (pairs & np.uint64(0xFFFFFFFF)).astype("<u4")
    counts = np.bincount((pairs >> np.uint64(32)).astype(np.int64), minlength=len(keys))
    ends = np.cumsum(counts)
    large = np.flatnonzero(counts > _SMALL_MAX)
    bitmaps = [piece for i in large for piece in _bitmap(posted[ends[i] - counts[i] : ends[i]], n)]
    small_counts = np.where(counts > _SMALL_MAX, 0, counts)
    small = posted[np.repeat(counts <= _SMALL_MAX, counts)]
    ordered = [keys[code] for code in sorted_codes.tolist()]
    key_lengths, bitmap_lengths = lengths(ordered), lengths(bitmaps)
    return [
        TEXTS.pack(len(keys), len(small), len(large), key_lengths.sum(), bitmap_lengths.sum()),
        _offsets(key_lengths),
        _offsets(small_counts),
        large.astype("<u8").tobytes(),
        _offsets(bitmap_lengths),
        small.tobytes(),
        *joined(ordered),
        *bitmaps,
    ]


def _offsets(sizes: npt.NDArray[np.int64]) -> bytes:
    """Where parts of these lengths begin, and where the last one ends."""
    return np.concatenate([[0], np.cumsum(sizes)]).astype("<u8").tobytes()


def _bitmap(rows: npt.NDArray[np.uint32], n: int) -> _Pieces:
    if not len(rows):
        return []
    bitmap: BitMap = from_rows(rows, n)
    bitmap.run_optimize()
    return [bitmap.serialize()]
