"""What callers may pass for ids, filters and numbers, and the one form native code gets: int64, C order, in range."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from akidb.errors import InvalidInputError

IdArray: TypeAlias = npt.NDArray[np.int64]
Mask: TypeAlias = npt.NDArray[np.bool_]
MetricWord: TypeAlias = Literal["cosine", "l2", "ip", "hamming"]
CodeBits: TypeAlias = Literal["auto", 0, 4, 8]
Filter: TypeAlias = npt.NDArray[np.bool_] | npt.NDArray[np.integer[Any]] | Sequence[int]

DIM_MAX = 1 << 16
EF_MAX = 1 << 16
K_MAX = 1 << 20
THREADS_MAX = 1 << 10


def as_array(values: npt.ArrayLike, what: str) -> npt.NDArray[Any]:
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise InvalidInputError(f"{what}: expected a rectangular array: {error}") from error
    # None, a set, a generator
    if array.dtype.kind == "O" and array.ndim == 0 and not isinstance(values, int | np.ndarray):
        raise InvalidInputError(f"{what}: got {type(values).__name__}, expected an array or a list")
    return array


def as_ids(values: npt.ArrayLike, what: str = "ids") -> IdArray:
    """int64 (n,) of any integers; a single one counts as n = 1."""
    array = np.atleast_1d(as_array(values, what))
    if array.size == 0:
        array = array.astype(np.int64)
    if array.dtype.kind not in "iu" or array.ndim != 1:
        raise InvalidInputError(
            f"{what}: got dtype {array.dtype} and shape {array.shape}, expected integers of shape (n,)"
        )
    if array.dtype == np.uint64 and array.size > 0 and int(array.max()) > np.iinfo(np.int64).max:
        raise InvalidInputError(f"{what}: {array.max()} is more than an int64 holds")
    return np.ascontiguousarray(array, dtype=np.int64)


def as_filter(values: Filter | None) -> tuple[IdArray | None, Mask | None]:
    """(allowed ids, None), (None, mask over ids) or, without a filter, (None, None)."""
    if values is None:
        return None, None
    array = as_array(values, "filter")
    if array.dtype == np.bool_:
        if array.ndim != 1:
            raise InvalidInputError(f"filter is a mask of shape {array.shape}, expected (n,): one value per id")
        return None, np.ascontiguousarray(array)
    return as_ids(array, "filter"), None


def check_integer(value: int, what: str, low: int, high: int) -> int:
    if (
        type(value) is int and low <= value <= high
    ):  # the way of nearly every call, and searches are counted in microseconds
        return value
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not low <= value <= high:
        raise InvalidInputError(f"{what} is {value!r}, expected {low} to {high}")
    return int(value)


def native_code_bits(value: CodeBits) -> int | None:
    if value == "auto":
        return None
    if isinstance(value, int) and not isinstance(value, bool) and value in (0, 4, 8):
        return value
    raise InvalidInputError(f'code_bits is {value!r}, expected "auto", 4, 8, or 0 for none')


def check_recall(value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not 0 < value < 1:
        raise InvalidInputError(f"target_recall is {value!r}, expected a number between 0 and 1, such as 0.95")
    return float(value)


def seconds_of(timeout_ms: float | None) -> float | None:
    if timeout_ms is None:
        return None
    if isinstance(timeout_ms, bool) or not isinstance(timeout_ms, int | float | np.number) or not timeout_ms >= 0:
        raise InvalidInputError(f"timeout_ms is {timeout_ms!r}, expected 0 or more")
    return timeout_ms / 1000
