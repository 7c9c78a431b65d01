"""Vectors between JSON and float32: lists of numbers or base64 in, the shortest exact decimals out."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence

import numpy as np

from akidb.api.errors import refuse
from akidb.types import VectorArray

Loc = tuple[str | int, ...]

_POWERS = np.power(10.0, np.arange(23))  # exact in float64


def matrix(vectors: Sequence[list[float] | str], dim: int, loc: Loc, *, first: int = 0) -> VectorArray:
    """Decoded vectors as float32 of shape (n, dim). Vector i stands at (*loc, first + i, "vector") in the request.

    What overflows float32 becomes infinite here and is refused with the other values that are not finite.

    Raises:
        InvalidInputError: `dimension_mismatch` naming position and both numbers; `invalid_vector` for bad base64.
    """
    rows = [
        row if isinstance(row, list) else _from_base64(row, (*loc, first + i, "vector"))
        for i, row in enumerate(vectors)
    ]
    for i, row in enumerate(rows):
        if len(row) != dim:
            where = (*loc, first + i, "vector")
            raise refuse("dimension_mismatch", where, f"has {len(row)} dimensions, the collection has {dim}")
    with np.errstate(over="ignore"):
        return np.array(rows, np.float32).reshape(len(rows), dim)


def one(vector: list[float] | str, dim: int) -> VectorArray:
    """A single query's vector, (dim,), which stands at ("vector",)."""
    row = vector if isinstance(vector, list) else _from_base64(vector, ("vector",))
    if len(row) != dim:
        raise refuse("dimension_mismatch", ("vector",), f"has {len(row)} dimensions, the collection has {dim}")
    with np.errstate(over="ignore"):
        return np.asarray(row, np.float32)


def _from_base64(text: str, loc: Loc) -> VectorArray:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise refuse("invalid_vector", loc, "is text but not base64 (RFC 4648, with padding)") from None
    if len(raw) % 4:
        raise refuse("invalid_vector", loc, f"is base64 of {len(raw)} bytes, expected float32 values of 4 bytes each")
    return np.frombuffer(raw, "<f4")


def shortest(values: VectorArray) -> list[float]:
    """Numbers whose JSON text is the shortest that reads back as the same float32: 0.1 comes back as 0.1.

    A float32 is told by 6 to 9 significant digits. Rounding to d digits is exact in float64 while the power of ten is,
    so each count of digits is tried on all values at once; what lies beyond those powers keeps its long form.
    """
    wide = values.astype(np.float64)
    out = wide.copy()
    exponents = np.floor(np.log10(np.abs(wide), out=np.zeros_like(wide), where=wide != 0)).astype(np.int64)
    todo = np.flatnonzero((wide != 0) & (exponents >= -14) & (exponents <= 22))
    for digits in range(6, 10):
        shift = digits - 1 - exponents[todo]
        up, down = _POWERS[np.maximum(shift, 0)], _POWERS[np.maximum(-shift, 0)]
        rounded = np.rint(wide[todo] * up / down) * down / up
        same = rounded.astype(np.float32) == values[todo]
        out[todo[same]] = rounded[same]
        todo = todo[~same]
        if not len(todo):
            break
    floats: list[float] = out.tolist()
    return floats
