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
from akidb.segment.fields_values import Kind

Column: TypeAlias = tuple[npt.NDArray[np.uint32], npt.NDArray[Any]]

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
    bodies: list[bytes] = []
    for name, field in named:
        parts = _parts(field, rows)
        places = []
        for body in (name, *(parts.get(part, b"") for part in PARTS[1:])):
            places += [offset, len(body)] if body else [0, 0]
            padded = body + b"\0" * (-len(body) % 8)
            bodies.append(padded)
            offset += len(padded)
        directory.append(ENTRY.pack(*places))
    return b"".join([HEADER.pack(MAGIC, rows, len(named), offset), *directory, *bodies])


def _parts(field: FieldColumns, n: int) -> dict[str, bytes]:
    parts = {"exists": _bitmap(np.concatenate([rows for rows, _ in field.columns.values()]), n)}
    if Kind.TEXT in field.columns:
        parts["texts"] = _texts(field.texts, *field.columns[Kind.TEXT], n)
    if Kind.BOOL in field.columns:
        rows, values = field.columns[Kind.BOOL]
        parts |= {part: _bitmap(rows[values == (part == "true")], n) for part in ("false", "true")}
    return parts | {
        part: _numbers(*field.columns[kind]) for part, kind in _NUMBER_PARTS.items() if kind in field.columns
    }


def _numbers(rows: npt.NDArray[np.uint32], values: npt.NDArray[Any]) -> bytes:
    """Values in order, then the row of each; equal values have their rows in order, and a row has a value once."""
    order = np.lexsort((rows, values))
    rows, values = rows[order], values[order]
    first = np.ones(len(rows), np.bool_)
    first[1:] = (values[1:] != values[:-1]) | (rows[1:] != rows[:-1])
    return values[first].tobytes() + rows[first].astype("<u4").tobytes()


def _texts(keys: list[bytes], rows: npt.NDArray[np.uint32], codes: npt.NDArray[np.uint32], n: int) -> bytes:
    """Sorted keys with the rows of each: short lists side by side in the order of their keys, long ones as bitmaps."""
    order = sorted(range(len(keys)), key=keys.__getitem__)
    rank = np.empty(len(keys), np.uint64)
    rank[order] = np.arange(len(keys), dtype=np.uint64)
    pairs = np.unique(rank[codes] << np.uint64(32) | rows)  # by key, then row, each pair once
    posted = (pairs & np.uint64(0xFFFFFFFF)).astype("<u4")
    ends = np.searchsorted(pairs, np.arange(1, len(keys) + 1, dtype=np.uint64) << np.uint64(32))
    counts = np.diff(ends, prepend=0)
    large = np.flatnonzero(counts > _SMALL_MAX)
    bitmaps = [_bitmap(posted[ends[i] - counts[i] : ends[i]], n) for i in large]
    small_counts = np.where(counts > _SMALL_MAX, 0, counts)
    small = posted[np.repeat(counts <= _SMALL_MAX, counts)]
    ordered = [keys[i] for i in order]
    key_bytes, bitmap_bytes = b"".join(ordered), b"".join(bitmaps)
    return b"".join(
        [
            TEXTS.pack(len(keys), len(small), len(large), len(key_bytes), len(bitmap_bytes)),
            _offsets(list(map(len, ordered))),
            _offsets(small_counts),
            large.astype("<u8").tobytes(),
            _offsets(list(map(len, bitmaps))),
            small.tobytes(),
            key_bytes,
            bitmap_bytes,
        ]
    )


def _offsets(lengths: npt.ArrayLike) -> bytes:
    """Where parts of these lengths begin, and where the last one ends."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype("<u8").tobytes()


def _bitmap(rows: npt.NDArray[np.uint32], n: int) -> bytes:
    if not len(rows):
        return b""
    bitmap: BitMap = from_rows(rows, n)
    bitmap.run_optimize()
    return bytes(bitmap.serialize())
