"""Between roaring bitmaps and NumPy, by way of the bytes of roaring's portable format.

pyroaring moves one row at a time; its serialised form moves whole containers of 65,536 rows, which is many times faster
(bench/filter). The format is that of github.com/RoaringBitmap/RoaringFormatSpec.
"""

from __future__ import annotations

import array
import struct
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from pyroaring import BitMap

Mask = npt.NDArray[np.bool_]

_CONTAINER = 1 << 16
_ARRAY_MAX = 4096  # a container with more rows is a bitset, the format says
_COOKIE, _COOKIE_WITH_RUNS = 12346, 12347
_OFFSETS_FROM = 4  # containers from which on a bitmap with runs has an offset table
_RUNS_FEW = 200  # runs up to which setting one after the other beats a sum over the container
_SPARSE = 64  # below one row in so many, sorting the rows beats going through a mask


def to_mask(bitmap: BitMap, n: int) -> Mask:
    """bool (n,): true at the rows of the bitmap. Rows from n on are left out."""
    mask = np.zeros(-(-n // _CONTAINER) * _CONTAINER, np.bool_)
    for base, kind, body in _containers(bitmap.serialize()):
        if base >= n:
            break
        block = mask[base : base + _CONTAINER]
        if kind == "bitset":
            block[:] = np.unpackbits(body, bitorder="little")
        elif kind == "array":
            block[body.view(np.uint16)] = True
        else:
            _set_runs(block, body.view(np.uint16).astype(np.int64))
    return mask[:n]


def from_mask(mask: Mask) -> BitMap:
    """The rows at which bool (n,) is true."""
    keys, bodies = [], []
    for key, start in enumerate(range(0, len(mask), _CONTAINER)):
        block = mask[start : start + _CONTAINER]
        count = int(np.count_nonzero(block))
        if not count:
            continue
        keys.append((key, count - 1))
        if count <= _ARRAY_MAX:
            bodies.append(np.flatnonzero(block).astype(np.uint16).tobytes())
        else:
            bodies.append(np.packbits(block, bitorder="little").tobytes().ljust(_CONTAINER // 8, b"\0"))
    head = 8 + 8 * len(keys)
    offsets = np.cumsum([head, *map(len, bodies)])[:-1].astype("<u4")
    descriptions = np.array(keys, "<u2").tobytes()
    return BitMap.deserialize(
        b"".join([struct.pack("<II", _COOKIE, len(keys)), descriptions, offsets.tobytes(), *bodies])
    )


def from_rows(rows: npt.NDArray[np.uint32], n: int) -> BitMap:
    """The bitmap of rows below n, in any order, repeats allowed."""
    if len(rows) * _SPARSE < n:
        return BitMap(array.array("I", np.sort(rows).tobytes()))
    mask = np.zeros(n, np.bool_)
    mask[rows] = True
    return from_mask(mask)


def _containers(data: bytes) -> Iterator[tuple[int, str, npt.NDArray[np.uint8]]]:
    """First row, kind and bytes of each container of a serialised bitmap (ours, so it is not checked)."""
    (cookie,) = struct.unpack_from("<I", data)
    runs: npt.NDArray[np.uint8] | None = None
    if cookie & 0xFFFF == _COOKIE_WITH_RUNS:
        size, at = (cookie >> 16) + 1, 4
        flag_bytes = (size + 7) // 8
        runs = np.unpackbits(np.frombuffer(data, np.uint8, flag_bytes, at), bitorder="little")
        at += flag_bytes
    else:
        (size,) = struct.unpack_from("<I", data, 4)
        at = 8
    descriptions = np.frombuffer(data, "<u2", 2 * size, at).tolist()
    at += 4 * size
    if runs is None or size >= _OFFSETS_FROM:
        at += 4 * size
    for i in range(size):
        key, count = descriptions[2 * i], descriptions[2 * i + 1] + 1
        if runs is not None and runs[i]:
            (count,) = struct.unpack_from("<H", data, at)
            at += 2
            kind, length = "runs", 4 * count
        elif count <= _ARRAY_MAX:
            kind, length = "array", 2 * count
        else:
            kind, length = "bitset", _CONTAINER // 8
        yield key * _CONTAINER, kind, np.frombuffer(data, np.uint8, length, at)
        at += length


def _set_runs(block: Mask, runs: npt.NDArray[np.int64]) -> None:
    """Sets runs, given as start, length - 1, start, length - 1, …"""
    if len(runs) <= 2 * _RUNS_FEW:
        for start, more in runs.reshape(-1, 2).tolist():
            block[start : start + more + 1] = True
        return
    steps = np.zeros(_CONTAINER + 1, np.int8)
    steps[runs[::2]] = 1
    steps[runs[::2] + runs[1::2] + 1] -= 1  # runs never touch, so each place is the edge of one
    block[:] = np.cumsum(steps[:-1], dtype=np.int8)
