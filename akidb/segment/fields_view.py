"""A field index read where it lies, in a mapped file: opening looks at 32 bytes, a condition at what it needs.

Offsets and row numbers are checked where they are used: bytes that went bad give CorruptionError, never a read outside.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt
from pyroaring import BitMap

from akidb.codec.frame import Buffer
from akidb.errors import CorruptionError
from akidb.filter.ast import Match, Range
from akidb.filter.bitmaps import from_rows
from akidb.segment.fields_format import ENTRY, HEADER, MAGIC, PARTS, TEXTS
from akidb.segment.fields_values import NUMBERS, Kind, by_kind, is_text, numbers_within, text_key, text_within

_NUMBER_PARTS = {Kind.INT: "ints", Kind.UINT: "uints", Kind.FLOAT: "floats"}


class FieldIndexView:
    """Satisfies akidb.filter.FieldSource over the bytes of FieldIndex.to_bytes. Any number of threads may read.

    No bitmap is cached: decoding one of a million rows takes some 10 microseconds, less than a lock and its bookkeeping
    would be worth, and the operating system caches the bytes.

    Args:
        buffer: the bytes, which have to stay as long as the view does.
        name: of the object, for messages.

    Raises:
        CorruptionError: the header does not fit the buffer.
    """

    def __init__(self, buffer: Buffer, name: str = "fields") -> None:
        self._data = memoryview(buffer).cast("B")
        self._name = name
        if len(self._data) < HEADER.size:
            raise self._bad(f"{len(self._data)} bytes are too few for a field index")
        magic, self._rows, fields, length = HEADER.unpack_from(self._data)
        if magic != MAGIC:
            raise self._bad("it is not a field index (wrong magic)")
        if length != len(self._data) or HEADER.size + fields * ENTRY.size > length or self._rows > 1 << 32:
            raise self._bad(
                f"{fields} fields of {self._rows} rows in {length} bytes do not fit {len(self._data)} bytes"
            )
        self._names = _Items(fields, lambda i: bytes(self._part(i, "name")))

    @property
    def rows(self) -> int:
        return int(self._rows)

    def match(self, condition: Match) -> BitMap:
        at = self._find(condition.field)
        found = BitMap()
        if at is None:
            return found
        if condition.texts and (texts := self._texts(at)) is not None:
            found |= texts.match(map(text_key, condition.texts))
        for value in condition.bools:
            found |= self._bitmap(self._part(at, "true" if value else "false"))
        slices = []
        for kind, wanted in by_kind(condition.numbers).items():
            values, rows = self._numbers(at, kind)
            starts, ends = np.searchsorted(values, wanted, "left"), np.searchsorted(values, wanted, "right")
            slices += [rows[start:end] for start, end in zip(starts, ends, strict=True) if end > start]
        return self._with_rows(found, slices)

    def range(self, condition: Range) -> BitMap:
        at = self._find(condition.field)
        if at is None:
            return BitMap()
        if is_text(condition):
            texts = self._texts(at)
            return BitMap() if texts is None else texts.within(*text_within(condition))
        slices = []
        for kind in NUMBERS:
            interval = numbers_within(condition, kind)
            if interval is not None:
                values, rows = self._numbers(at, kind)
                slices.append(
                    rows[np.searchsorted(values, interval[0]) : np.searchsorted(values, interval[1], "right")]
                )
        return self._with_rows(BitMap(), slices)

    def exists(self, field: str) -> BitMap:
        key = field.encode()
        at = self._find(field)
        below = range(
            bisect.bisect_left(self._names, key + b"."), bisect.bisect_left(self._names, key + b"/")
        )  # "/" follows "."
        found = BitMap()
        for i in [*([] if at is None else [at]), *below]:
            found |= self._bitmap(self._part(i, "exists"))
        return found

    def _find(self, field: str) -> int | None:
        return self._names.find(field.encode())

    def _part(self, at: int, part: str) -> memoryview:
        places = ENTRY.unpack_from(self._data, HEADER.size + at * ENTRY.size)
        i = PARTS.index(part)
        offset, length = places[2 * i], places[2 * i + 1]
        if offset + length > len(self._data) or offset % 8:
            raise self._bad(f"part {part} of field {at} lies outside")
        return self._data[offset : offset + length]

    def _bitmap(self, data: memoryview) -> BitMap:
        if not len(data):
            return BitMap()
        try:
            bitmap = BitMap.deserialize(bytes(data))
        except ValueError as error:
            raise self._bad(f"a bitmap can't be read: {error}") from None
        if bitmap and bitmap.max() >= self._rows:
            raise self._bad(f"a bitmap has row {bitmap.max()} of {self._rows}")
        return bitmap

    def _numbers(self, at: int, kind: Kind) -> tuple[npt.NDArray[Any], npt.NDArray[np.uint32]]:
        """Sorted values and the row of each."""
        data = self._part(at, _NUMBER_PARTS[kind])
        count, rest = divmod(len(data), 12)
        if rest:
            raise self._bad(f"numbers of field {at} have {len(data)} bytes, expected 12 each")
        return np.frombuffer(data, kind.value, count), np.frombuffer(data, "<u4", count, 8 * count)

    def _texts(self, at: int) -> _Texts | None:
        data = self._part(at, "texts")
        return _Texts(self, data) if len(data) else None

    def _with_rows(self, found: BitMap, slices: Sequence[npt.NDArray[np.uint32]]) -> BitMap:
        """Adds rows of column slices."""
        rows = slices[0] if len(slices) == 1 else np.concatenate([np.empty(0, np.uint32), *slices])
        if not len(rows):
            return found
        if rows.max() >= self._rows:
            raise self._bad(f"a column has row {rows.max()} of {self._rows}")
        more = from_rows(rows, self.rows)
        return more | found if found else more

    def _bad(self, what: str) -> CorruptionError:
        return CorruptionError(what, key=self._name)


class _Items(Sequence[bytes]):
    """Sorted byte strings read on demand, for bisect."""

    def __init__(self, count: int, item: Callable[[int], bytes]) -> None:
        self._count = count
        self._item = item

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, at: int) -> bytes: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[bytes]: ...
    def __getitem__(self, at: int | slice) -> bytes | Sequence[bytes]:
        if isinstance(at, slice):
            return [self._item(i) for i in range(*at.indices(self._count))]
        if not 0 <= at < self._count:
            raise IndexError(at)
        return self._item(at)

    def find(self, key: bytes) -> int | None:
        at = bisect.bisect_left(self, key)
        return at if at < self._count and self._item(at) == key else None


class _Texts:
    """The texts of one field: a sorted dictionary and the rows of each key."""

    def __init__(self, view: FieldIndexView, data: memoryview) -> None:
        self._view = view
        if len(data) < TEXTS.size:
            raise view._bad("a text column is cut off")
        keys, small, large, key_bytes, bitmap_bytes = TEXTS.unpack_from(data)
        at = TEXTS.size
        if at + 16 * (keys + 1) + 16 * large + 8 + 4 * small + key_bytes + bitmap_bytes != len(data):
            raise view._bad("the lengths in a text column do not add up")
        offsets = data[at : at + 16 * (keys + 1) + 16 * large + 8].cast("Q")  # indexed one by one, where NumPy is slow
        self._key_ends, self._small_ends = offsets[: keys + 1], offsets[keys + 1 : 2 * keys + 2]
        self._large, self._large_ends = offsets[2 * keys + 2 : 2 * keys + 2 + large], offsets[2 * keys + 2 + large :]
        at += len(offsets) * 8
        self._small = np.frombuffer(data, "<u4", small, at)
        at += 4 * small
        self._key_bytes = data[at : at + key_bytes]
        self._bitmap_bytes = data[at + key_bytes :]
        self._keys = _Items(keys, self._key)

    def match(self, keys: Iterable[bytes]) -> BitMap:
        """Rows of any of the keys."""
        found = (self._keys.find(key) for key in keys)
        return self._rows([(at, at + 1) for at in found if at is not None])

    def within(self, low: bytes, high: bytes | None) -> BitMap:
        """Rows of the keys in [low, high)."""
        start = bisect.bisect_left(self._keys, low)
        end = len(self._keys) if high is None else bisect.bisect_left(self._keys, high)
        return self._rows([(start, end)] if start < end else [])

    def _key(self, at: int) -> bytes:
        low, high = self._key_ends[at], self._key_ends[at + 1]
        if not low <= high <= len(self._key_bytes):
            raise self._view._bad(f"a key lies from {low} to {high} of {len(self._key_bytes)}")
        return bytes(self._key_bytes[low:high])

    def _rows(self, spans: Iterable[tuple[int, int]]) -> BitMap:
        """Rows of the keys numbered start to end - 1, of each (start, end)."""
        slices, bitmaps = [], [BitMap()]
        for start, end in spans:
            slices.append(self._small[self._between(self._small_ends, start, end, len(self._small))])
            for i in range(bisect.bisect_left(self._large, start), bisect.bisect_left(self._large, end)):
                data = self._bitmap_bytes[self._between(self._large_ends, i, i + 1, len(self._bitmap_bytes))]
                bitmaps.append(self._view._bitmap(data))
        return self._view._with_rows(BitMap.union(*bitmaps), slices)

    def _between(self, ends: memoryview, start: int, end: int, limit: int) -> slice:
        low, high = ends[start], ends[end]
        if not low <= high <= limit:
            raise self._view._bad(f"a text column has a part from {low} to {high} of {limit}")
        return slice(low, high)
