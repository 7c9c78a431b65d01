"""Objects as no writer wrote them, by the seed: bytes changed, cut and repeated, and the checksums set right after it,
since a wrong one hides all that lies behind it.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable

import numpy as np

from akidb.codec.frame import ENTRY, HEADER, crc32c

_NUMBERS = (
    0,
    1,
    2,
    0x7F,
    0x80,
    0xFF,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    1 << 40,
    (1 << 63) - 1,
    (1 << 64) - 1,
)


def mutated(good: bytes, rng: np.random.Generator, repair: Callable[[bytearray], None] | None) -> bytes:
    """One to four changes. `repair` sets checksums; one in eight is left as it is."""
    data = bytearray(good)
    for _ in range(int(rng.integers(1, 5))):
        _change(data, rng)
    if repair is not None and rng.integers(8):
        with contextlib.suppress(struct.error, IndexError):  # too little is left for that
            repair(data)
    return bytes(data)


def _change(data: bytearray, rng: np.random.Generator) -> None:
    at = int(rng.integers(len(data) + 1))
    size = int(rng.choice([1, 2, 4, 8, 32]))
    match int(rng.integers(6)):
        case 0 if at < len(data):
            data[at] ^= 1 << int(rng.integers(8))
        case 1:
            data[at : at + size] = rng.bytes(len(data[at : at + size]))
        case 2:
            del data[at : at + size]
        case 3:
            data[at:at] = data[max(0, at - size) : at] or b"\0"
        case 4:
            width = min(size, 8)
            number = int(rng.choice(np.array(_NUMBERS, np.uint64)))
            data[at : at + width] = struct.pack("<Q", number)[: len(data[at : at + width])]
        case _ if rng.integers(4) == 0:
            del data[at:]


def repair_frame(data: bytearray) -> None:
    """Length, place of the directory and all checksums of an object in a frame (akidb/codec/frame.py)."""
    count = struct.unpack_from("<I", data, 48)[0]
    at = len(data) - count * ENTRY.size
    if count > 64 or at < HEADER.size:
        raise IndexError
    for i in range(count):
        entry = at + i * ENTRY.size
        _, offset, size, _, _ = ENTRY.unpack_from(data, entry)
        struct.pack_into("<I", data, entry + 24, crc32c(bytes(data[offset : offset + size])))
    struct.pack_into("<QQ", data, 16, len(data), at)
    struct.pack_into("<I", data, 52, crc32c(bytes(data[at:])))
    struct.pack_into("<I", data, 60, crc32c(bytes(data[:60])))


def repair_index_file(data: bytearray) -> None:
    """The checksums of a saved index of version 1 (docs/formats/index.md)."""
    for section in range(4):
        entry = 32 + 24 * section
        start, size = struct.unpack_from("<QQ", data, entry)
        struct.pack_into("<I", data, entry + 16, crc32c(bytes(data[start : start + size])))
    struct.pack_into("<I", data, 128, crc32c(bytes(data[:128])))
