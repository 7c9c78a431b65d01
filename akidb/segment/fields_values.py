"""How values become keys of columns: text as bytes, numbers as one of three exact kinds, bounds as closed intervals."""

from __future__ import annotations

import enum
import hashlib
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from akidb.filter.ast import INT64_MAX, INT64_MIN, TEXT_KEY_BYTES, UINT64_MAX, Number, Range


class Kind(enum.Enum):
    """The columns a field may have. Every number lives in exactly one of INT, UINT and FLOAT: see `split_numbers`.

    PRESENT has rows whose values are not indexed.
    """

    TEXT = np.dtype("<u4")
    INT = np.dtype("<i8")
    UINT = np.dtype("<u8")
    FLOAT = np.dtype("<f8")
    BOOL = np.dtype("?")
    PRESENT = np.dtype("u1")


NUMBERS = (Kind.INT, Kind.UINT, Kind.FLOAT)

_LIMITS: dict[Kind, tuple[int, int]] = {Kind.INT: (INT64_MIN, INT64_MAX), Kind.UINT: (INT64_MAX + 1, UINT64_MAX)}


def text_key(text: str) -> bytes:
    """What text is known by: its UTF-8 bytes, or of more than 128 the first 128 and a digest of all (160 bytes).

    Keys sort like the texts against any text of at most 128 bytes: a key longer than 128 is greater than its own first
    128, as the text is.
    """
    data = text.encode()
    if len(data) <= TEXT_KEY_BYTES:
        return data
    return data[:TEXT_KEY_BYTES] + hashlib.blake2b(data, digest_size=32).digest()


def kind_of(number: Number) -> Kind:
    """Where a canonical number lives: whole ones up to 2^63 - 1 in INT, from there in UINT, all others in FLOAT."""
    if isinstance(number, float):
        return Kind.FLOAT
    return Kind.INT if number <= INT64_MAX else Kind.UINT


def by_kind(numbers: Iterable[Number]) -> dict[Kind, npt.NDArray[Any]]:
    """Canonical numbers as one sorted array per kind that occurs."""
    found: dict[Kind, list[Number]] = {}
    for number in numbers:
        found.setdefault(kind_of(number), []).append(number)
    return {kind: np.sort(np.array(values, kind.value)) for kind, values in found.items()}


def split_ints(values: list[int]) -> list[tuple[Kind, npt.NDArray[np.bool_] | None, npt.NDArray[Any]]]:
    """Integers of at most 64 bits as (kind, mask over the input or None for all, values of that kind)."""
    try:
        return [(Kind.INT, None, np.array(values, np.int64))]
    except OverflowError:
        large = np.array([value > INT64_MAX for value in values])
        return [
            (Kind.INT, ~large, np.array([value for value in values if value <= INT64_MAX], np.int64)),
            (Kind.UINT, large, np.array([value for value in values if value > INT64_MAX], np.uint64)),
        ]


def split_floats(values: list[float]) -> list[tuple[Kind, npt.NDArray[np.bool_] | None, npt.NDArray[Any]]]:
    """Floats as `split_ints`: the whole ones of 64 bits are integers, as `canonical` has it."""
    floats = np.array(values, np.float64)
    whole = np.floor(floats) == floats
    signed = whole & (floats >= -(2.0**63)) & (floats < 2.0**63)
    unsigned = whole & (floats >= 2.0**63) & (floats < 2.0**64)
    rest = ~(signed | unsigned)
    return [
        (Kind.INT, signed, floats[signed].astype(np.int64)),
        (Kind.UINT, unsigned, floats[unsigned].astype(np.uint64)),
        (Kind.FLOAT, rest, floats[rest]),
    ]


def is_text(condition: Range) -> bool:
    return any(isinstance(bound, str) for bound in (condition.gt, condition.gte, condition.lt, condition.lte))


def text_within(condition: Range) -> tuple[bytes, bytes | None]:
    """Half-open interval of keys [low, high) of a range of text; high None is no end.

    The successor of a key is the key and a zero byte: nothing sorts between them.
    """
    lows = [b""]
    highs: list[bytes] = []
    if isinstance(condition.gte, str):
        lows.append(condition.gte.encode())
    if isinstance(condition.gt, str):
        lows.append(condition.gt.encode() + b"\0")
    if isinstance(condition.lt, str):
        highs.append(condition.lt.encode())
    if isinstance(condition.lte, str):
        highs.append(condition.lte.encode() + b"\0")
    return max(lows), min(highs, default=None)


def numbers_within(condition: Range, kind: Kind) -> tuple[Any, Any] | None:
    """Closed interval [low, high] of a range of numbers among the values of one kind, exactly; None if it is empty."""
    if kind is Kind.FLOAT:
        low, high = _float_interval(condition)
    else:
        low, high = _int_interval(condition, *_LIMITS[kind])
    return None if low > high else (kind.value.type(low), kind.value.type(high))


def _int_interval(condition: Range, low: int, high: int) -> tuple[int, int]:
    gt, gte, lt, lte = condition.gt, condition.gte, condition.lt, condition.lte
    if isinstance(gte, int | float):
        low = max(low, math.ceil(gte))
    if isinstance(gt, int | float):
        low = max(low, math.floor(gt) + 1)
    if isinstance(lte, int | float):
        high = min(high, math.floor(lte))
    if isinstance(lt, int | float):
        high = min(high, math.ceil(lt) - 1)
    return low, high


def _float_interval(condition: Range) -> tuple[float, float]:
    """A bound may be an integer that no float64 equals; Python compares the two exactly, so the next float is found."""
    low, high = -math.inf, math.inf
    gt, gte, lt, lte = condition.gt, condition.gte, condition.lt, condition.lte
    if isinstance(gte, int | float):
        low = max(low, float(gte) if float(gte) >= gte else math.nextafter(float(gte), math.inf))
    if isinstance(gt, int | float):
        low = max(low, float(gt) if float(gt) > gt else math.nextafter(float(gt), math.inf))
    if isinstance(lte, int | float):
        high = min(high, float(lte) if float(lte) <= lte else math.nextafter(float(lte), -math.inf))
    if isinstance(lt, int | float):
        high = min(high, float(lt) if float(lt) < lt else math.nextafter(float(lt), -math.inf))
    return low, high
