"""Many small byte strings in one buffer: the shape of ids, payload rows and id maps.

`akidb.codec` exports these, or their Cython twins of `_strings.pyx` where that is built and AKIDB_PURE_PYTHON is not 1;
both are tested with the same cases.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from akidb.errors import CorruptionError


def pack(items: Sequence[bytes | None]) -> tuple[npt.NDArray[np.uint64], bytes]:
    """Offsets of shape (n + 1,) and the joined bytes; item i is blob[offsets[i]:offsets[i + 1]]. None packs as b""."""
    lengths = [0 if item is None else len(item) for item in items]
    offsets = np.zeros(len(items) + 1, np.uint64)
    np.cumsum(lengths, out=offsets[1:], dtype=np.uint64)
    return offsets, b"".join([item or b"" for item in items])


def unpack(offsets: npt.NDArray[np.uint64], blob: bytes | memoryview) -> list[bytes]:
    """The inverse of pack (None comes back as b""). Raises CorruptionError if offsets fall or leave the blob."""
    bounds = _checked(offsets, len(blob))
    data = bytes(blob)
    return [data[start:end] for start, end in pairwise(bounds)]


def pack_text(items: Sequence[str]) -> tuple[npt.NDArray[np.uint64], bytes]:
    """pack of UTF-8 encoded text. Raises UnicodeEncodeError for lone surrogates."""
    return pack([item.encode() for item in items])


def unpack_text(offsets: npt.NDArray[np.uint64], blob: bytes | memoryview) -> list[str]:
    """The inverse of pack_text. Raises CorruptionError, also where an item is not UTF-8."""
    try:
        return [item.decode() for item in unpack(offsets, blob)]
    except UnicodeDecodeError as error:
        raise CorruptionError(f"packed strings: {error}") from error


def _checked(offsets: npt.NDArray[np.uint64], size: int) -> list[int]:
    if not len(offsets) or offsets[-1] > size or np.any(offsets[1:] < offsets[:-1]):
        raise CorruptionError(f"packed strings: offsets do not rise inside {size} bytes")
    bounds: list[int] = offsets.tolist()
    return bounds
