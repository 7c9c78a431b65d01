"""Many small byte strings in one buffer: the shape of ids, payload rows and id maps.

The Cython twin `_strings` is used unless AKIDB_PURE_PYTHON=1; both are tested with the same cases.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def pack(items: Sequence[bytes | None]) -> tuple[npt.NDArray[np.uint64], bytes]:
    """Offsets of shape (n + 1,) and the joined bytes; item i is blob[offsets[i]:offsets[i + 1]]. None packs as b""."""
    lengths = [0 if item is None else len(item) for item in items]
    offsets = np.zeros(len(items) + 1, np.uint64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets, b"".join(item or b"" for item in items)


def unpack(offsets: npt.NDArray[np.uint64], blob: bytes | memoryview) -> list[bytes]:
    """The inverse of pack (None comes back as b"")."""
    bounds = offsets.tolist()
    data = bytes(blob)
    return [data[start:end] for start, end in zip(bounds, bounds[1:], strict=False)]


def pack_text(items: Sequence[str]) -> tuple[npt.NDArray[np.uint64], bytes]:
    """pack of UTF-8 encoded text."""
    return pack([item.encode() for item in items])


def unpack_text(offsets: npt.NDArray[np.uint64], blob: bytes | memoryview) -> list[str]:
    """The inverse of pack_text."""
    return [item.decode() for item in unpack(offsets, blob)]
