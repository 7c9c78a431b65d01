"""What the vectors of an index are: dimension, metric and dtype, and turning what a caller has into rows of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from akidb import _native
from akidb.errors import InvalidInputError
from akidb.index.arguments import DIM_MAX, MetricWord, as_array, check_integer
from akidb.types import Metric

DTypeWord: TypeAlias = Literal["float32", "float16", "bfloat16", "int8", "uint8", "binary"]
Rows: TypeAlias = npt.NDArray[Any]

DTYPES: tuple[DTypeWord, ...] = get_args(DTypeWord)
# NumPy has neither bfloat16 nor bits.
_STORED: dict[DTypeWord, type[np.generic]] = {
    "float32": np.float32,
    "float16": np.float16,
    "bfloat16": np.uint16,
    "int8": np.int8,
    "uint8": np.uint8,
    "binary": np.uint8,
}
_FLOAT32 = np.dtype(np.float32)
_LARGEST = {"float32": float(np.finfo(np.float32).max), "float16": 65504.0, "bfloat16": 3.3895314e38}


@dataclass(frozen=True, slots=True)
class Space:
    """Rows of vectors are arrays (n, width) of `stored`: of bfloat16 the bits as uint16, of binary vectors eight bits
    to the byte, the first in the highest place as numpy.packbits has them.
    """

    dim: int
    metric: MetricWord
    dtype: DTypeWord = "float32"

    @classmethod
    def parse(cls, dim: int, metric: str | Metric, dtype: npt.DTypeLike) -> Space:
        word = _dtype_word(dtype)
        space = cls(check_integer(dim, "dim", 1, DIM_MAX), _metric_word(metric), word)
        if (space.metric == "hamming") != (word == "binary"):
            raise InvalidInputError(
                f'metric is {metric!r} and dtype {word!r}: metric "hamming" and dtype "binary" go together'
            )
        return space

    @property
    def native_metric(self) -> str:
        return "l2" if self.metric == "hamming" else self.metric  # of bits they are the same

    @property
    def stored(self) -> np.dtype[Any]:
        return np.dtype(_STORED[self.dtype])

    @property
    def width(self) -> int:
        return (self.dim + 7) // 8 if self.dtype == "binary" else self.dim

    @property
    def bytes_per_vector(self) -> int:
        return self.width * self.stored.itemsize

    def rows(self, values: npt.ArrayLike, what: str) -> Rows:
        """(n, width) in C order of what a caller gives, 1-d counting as one row; copies what it must convert.

        Raises InvalidInputError naming the row for what the dtype cannot hold; NaN and zeros pass, see `check`.
        """
        if isinstance(values, np.ndarray) and values.dtype is _FLOAT32 and self.dtype == "float32":
            if values.shape == (self.dim,) and values.flags.c_contiguous:  # one query, counted in microseconds
                return values[None]
            array: Rows = values
        else:
            array = _numbers(values, what)
        if array.ndim not in (1, 2):
            raise InvalidInputError(
                f"{what} have {array.ndim} dimensions, expected shape (n, {self.width}) or ({self.width},)"
            )
        array = array[None] if array.ndim == 1 else array
        if self.dtype == "binary":
            return self._bits(array, what)
        if array.shape[1] != self.dim:
            raise self._mismatch(array, what)
        return np.ascontiguousarray(_CONVERSIONS[self.dtype](array, what))

    def check(self, rows: Rows, what: str) -> None:
        """Raises InvalidInputError naming the first row with NaN, infinity or bits past dim or, under cosine, of a
        length of 0 or beyond 1e-15 to 1.84e19.
        """
        _native.check_vectors(rows, self.dim, self.native_metric, what, dtype=self.dtype)

    def given(self, rows: Rows) -> Rows:
        """Rows as callers get them: as stored, but bfloat16 as float32, which holds each of its values."""
        return (rows.astype(np.uint32) << 16).view(np.float32) if self.dtype == "bfloat16" else rows

    def _bits(self, array: Rows, what: str) -> Rows:
        if array.dtype == np.bool_:
            if array.shape[1] != self.dim:
                raise self._mismatch(array, what)
            return np.packbits(array, axis=1)
        if array.dtype != np.uint8 and array.size > 0:
            raise InvalidInputError(
                f"{what} have dtype {array.dtype}, expected uint8 of shape (n, {self.width}), eight bits to the byte, "
                f"or bool of shape (n, {self.dim})"
            )
        if array.shape[1] != self.width:
            raise self._mismatch(array, what)
        return np.ascontiguousarray(array, np.uint8)

    def _mismatch(self, array: Rows, what: str) -> InvalidInputError:
        unit = "bytes" if self.dtype == "binary" and array.dtype != np.bool_ else "values"
        expected = f"dim {self.dim}" + (f", {self.width} bytes" if unit == "bytes" else "")
        return InvalidInputError(
            f"{what} have {array.shape[1]} {unit} each, the index has {expected}", code="dimension_mismatch"
        )


def _metric_word(metric: str | Metric) -> MetricWord:
    if isinstance(metric, str) and metric.lower() == "hamming":
        return "hamming"
    try:
        return Metric.parse(metric).native
    except InvalidInputError as error:
        raise InvalidInputError(
            f'metric is {metric!r}, expected "cosine", "l2", "ip" or "hamming"', code=error.code
        ) from error


class InSpace:
    """An index, of vectors of one space."""

    _space: Space

    @property
    def dim(self) -> int:
        return self._space.dim

    @property
    def metric(self) -> MetricWord:
        return self._space.metric

    @property
    def dtype(self) -> DTypeWord:
        return self._space.dtype


def _dtype_word(dtype: npt.DTypeLike) -> DTypeWord:
    try:
        word = dtype if isinstance(dtype, str) and dtype in DTYPES else np.dtype(dtype).name
    except TypeError:
        word = ""
    if word not in DTYPES:
        raise InvalidInputError(f"dtype is {dtype!r}, expected {', '.join(DTYPES[:-1])} or {DTYPES[-1]}")
    return word


def _numbers(values: npt.ArrayLike, what: str) -> Rows:
    array = as_array(values, what)
    if array.dtype.kind in "fiub" or _is_bfloat(array):
        return array
    if array.size > 0:
        raise InvalidInputError(f"{what} have dtype {array.dtype}, expected real numbers")
    return np.empty(array.shape, np.float32)


def _is_bfloat(array: Rows) -> bool:
    return array.dtype.name == "bfloat16"  # of the package ml_dtypes, which needs not be there


def _to_float32(array: Rows, what: str) -> Rows:
    floats = _as_float32(array)
    if array.dtype.kind == "f" and array.itemsize > 4 and (infinite := np.isinf(floats)).any():
        _refuse(infinite & np.isfinite(array), array, what, "float32", _LARGEST["float32"])
    return floats


def _as_float32(array: Rows) -> Rows:
    with np.errstate(over="ignore"):  # what is too large becomes infinity
        return array.astype(np.float32, copy=False)


def _to_float16(array: Rows, what: str) -> Rows:
    with np.errstate(over="ignore"):
        halves = array.astype(np.float16, copy=False)
    _refuse(np.isinf(halves) & np.isfinite(array), array, what, "float16", _LARGEST["float16"])
    return halves


def _to_bfloat16(array: Rows, what: str) -> Rows:
    if _is_bfloat(array):
        return np.ascontiguousarray(array).view(np.uint16)
    if array.dtype == np.uint16:
        raise InvalidInputError(
            f"{what} have dtype uint16, which may be numbers or bits: expected numbers as float32, "
            "or bits.view(ml_dtypes.bfloat16)"
        )
    bits = np.ascontiguousarray(_as_float32(array)).view(np.uint32)
    finite = (bits & 0x7F800000) != 0x7F800000
    rounded = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)  # to nearest, ties to even
    beyond = np.isfinite(array) & (~finite | ((rounded & 0x7F80) == 0x7F80))
    _refuse(beyond, array, what, "bfloat16", _LARGEST["bfloat16"])
    return np.where(finite, rounded, (bits >> 16).astype(np.uint16) | 0x7F80)


def _to_integers(dtype: type[np.signedinteger[Any]] | type[np.unsignedinteger[Any]], array: Rows, what: str) -> Rows:
    if array.dtype == dtype:
        return array
    range_ = np.iinfo(dtype)
    fits = (array >= range_.min) & (array <= range_.max)
    if array.dtype.kind == "f" or _is_bfloat(array):
        array = _as_float32(array) if _is_bfloat(array) else array
        fits &= np.rint(array) == array
    if not fits.all():
        row, place = np.argwhere(~fits)[0]
        raise InvalidInputError(
            f"{what}: row {row} holds {array[row, place]} at place {place}, expected whole numbers "
            f"{range_.min} to {range_.max}, as dtype {range_.dtype} holds them"
        )
    return array.astype(dtype)


def _refuse(beyond: npt.NDArray[np.bool_], array: Rows, what: str, dtype: str, largest: float) -> None:
    if beyond.any():
        row, place = np.argwhere(beyond)[0]
        raise InvalidInputError(
            f"{what}: row {row} holds {array[row, place]} at place {place}, {dtype} holds at most {largest:g}"
        )


_CONVERSIONS: dict[str, Callable[[Rows, str], Rows]] = {
    "float32": _to_float32,
    "float16": _to_float16,
    "bfloat16": _to_bfloat16,
    "int8": lambda array, what: _to_integers(np.int8, array, what),
    "uint8": lambda array, what: _to_integers(np.uint8, array, what),
}
