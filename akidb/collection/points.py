"""What a caller hands in, checked once at the edge: ids, vectors, payloads. All refusals name the position."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from akidb.errors import Fault, InvalidInputError
from akidb.filter import PayloadSchema
from akidb.types import POINT_ID_BYTES_MAX, CollectionSpec, Metric, VectorArray

_INTEGER_ID_END = 10 ** (POINT_ID_BYTES_MAX - 1)


def refuse(code: str, loc: tuple[str | int, ...], msg: str) -> InvalidInputError:
    where = ".".join(str(part) for part in loc)
    return InvalidInputError(f"{where}: {msg}", code=code, faults=[Fault(loc, msg)])


def check_ids(ids: Sequence[str | int], *, loc: tuple[str | int, ...] = ("ids",), unique: bool = False) -> list[str]:
    """Point ids as text. An integer is the same point as its decimal text.

    Raises:
        InvalidInputError: `invalid_id` (neither text nor integer, empty, over 512 bytes of UTF-8), `duplicate_id`.
    """
    if isinstance(ids, (str, bytes)):
        raise refuse("invalid_id", loc, "is one text, expected a list of ids")
    out = [_check_id(id_, (*loc, i)) for i, id_ in enumerate(ids)]
    if unique and len(set(out)) != len(out):
        first: dict[str, int] = {}
        for i, id_ in enumerate(out):
            if id_ in first:
                raise refuse(
                    "duplicate_id", (*loc, i), f"id {id_!r} stands at positions {first[id_]} and {i} of one batch"
                )
            first[id_] = i
    return out


def _check_id(id_: Any, loc: tuple[str | int, ...]) -> str:
    if isinstance(id_, str):
        try:
            size = len(id_) if id_.isascii() else len(id_.encode())
        except UnicodeEncodeError:
            raise refuse("invalid_id", loc, "holds a lone surrogate, which no UTF-8 can carry") from None
        if not 0 < size <= POINT_ID_BYTES_MAX:
            raise refuse("invalid_id", loc, f"has {size} UTF-8 bytes, expected 1 to {POINT_ID_BYTES_MAX}")
        return id_
    if isinstance(id_, (int, np.integer)) and not isinstance(id_, bool):
        if abs(int(id_)) >= _INTEGER_ID_END:  # before it becomes text, which Python refuses for very long ones
            raise refuse("invalid_id", loc, f"is an integer of more than {POINT_ID_BYTES_MAX - 1} digits")
        return str(int(id_))
    raise refuse("invalid_id", loc, f"is {type(id_).__name__}, expected text or an integer")


def check_vectors(
    vectors: npt.ArrayLike, spec: CollectionSpec, *, count: int | None = None, loc: tuple[str | int, ...] = ("vectors",)
) -> VectorArray:
    """Vectors as float32 of shape (n, dim), C order; `count` is how many there must be.

    Raises:
        InvalidInputError: `invalid_vector` (no numbers), `dimension_mismatch`, `count_mismatch`, `not_finite`,
            `zero_vector` (under Cosine).
    """
    try:
        raw = np.asarray(vectors)
    except ValueError:
        raise refuse("invalid_vector", loc, "the vectors have different lengths") from None
    if raw.size == 0 and raw.ndim == 1:
        raw = np.empty((0, spec.dim), np.float32)
    if raw.dtype.kind not in "fiub":
        raise refuse("invalid_vector", loc, f"dtype is {raw.dtype}, expected numbers")
    if raw.ndim != 2:
        raise refuse("invalid_vector", loc, f"shape is {raw.shape}, expected (n, {spec.dim})")
    if raw.shape[1] != spec.dim:
        where = (*loc, 0, "vector")
        raise refuse("dimension_mismatch", where, f"has {raw.shape[1]} dimensions, the collection has {spec.dim}")
    if count is not None and len(raw) != count:
        raise refuse("count_mismatch", loc, f"there are {len(raw)} vectors for {count} ids")
    with np.errstate(over="ignore"):
        array = np.ascontiguousarray(raw, np.float32)
    check_values(array, spec.metric, loc)
    return array


def check_values(array: VectorArray, metric: Metric, loc: tuple[str | int, ...], *, first: int = 0) -> None:
    """Refuses what `metric` can't compare: NaN, infinity, a distance past float32, and a zero vector under Cosine.

    `first` is the position of the first row in the caller's list.
    """
    squares = np.einsum("ij,ij->i", array, array)
    fits = squares <= metric.square_max
    if not fits.all():
        row = int(np.argmin(fits))
        column = int(np.argmin(np.isfinite(array[row])))
        if np.isfinite(array[row, column]):
            raise refuse(
                "not_finite",
                (*loc, first + row, "vector"),
                "is so long that its square overflows float32, or that of a distance could",
            )
        value = array[row, column]
        raise refuse("not_finite", (*loc, first + row, "vector", column), f"is {value}, expected a finite float32")
    if (squares < metric.square_min).any():
        row = int(np.argmax(squares < metric.square_min))
        raise refuse(
            "zero_vector",
            (*loc, first + row, "vector"),
            "is a zero vector (or too short for float32), which has no direction to compare by cosine",
        )


def check_target_recall(target: Any, ef_search: int | None, loc: tuple[str | int, ...]) -> None:
    """Raises InvalidInputError `invalid_target_recall`."""
    if isinstance(target, bool) or not isinstance(target, int | float | np.number) or not 0 < target < 1:
        raise refuse("invalid_target_recall", loc, f"is {target!r}, expected a number between 0 and 1, such as 0.95")
    if ef_search is not None:
        raise refuse("invalid_target_recall", loc, "is given beside ef_search, expected one of the two")


def encode_payloads(payloads: Sequence[Any] | None, count: int, schema: PayloadSchema) -> list[bytes | None]:
    """JSON text of each payload: bytes are taken as JSON text already, None is no payload, the rest must be a dict.

    Raises:
        InvalidInputError: `invalid_payload`, `payload_schema_mismatch`, `count_mismatch`.
    """
    if payloads is None:
        return [None] * count
    if len(payloads) != count:
        raise refuse("count_mismatch", ("payloads",), f"there are {len(payloads)} payloads for {count} ids")
    return [encode_payload(payload, schema, ("payloads", i)) for i, payload in enumerate(payloads)]


def encode_payload(payload: Any, schema: PayloadSchema, loc: tuple[str | int, ...]) -> bytes | None:
    """The JSON text, checked: what is in the log must be indexable on every node."""
    if payload is None:
        return None
    if isinstance(payload, bytes):
        text = payload
    elif isinstance(payload, Mapping):
        try:
            text = msgspec.json.encode(payload if isinstance(payload, dict) else dict(payload))
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise refuse("invalid_payload", loc, f"can't be written as JSON: {error}") from None
        if b"null" in text and _not_finite(payload):  # msgspec writes NaN and infinities as null
            raise refuse("invalid_payload", loc, "holds a float that is not finite, which JSON can't say")
    else:
        raise refuse("invalid_payload", loc, f"is {type(payload).__name__}, expected a JSON object")
    schema.check(text, loc)
    return text


def encode_patch(patch: Any, schema: PayloadSchema) -> bytes:
    """The JSON text of what is to be merged into a payload. Raises InvalidInputError, `invalid_patch` for no object."""
    loc = ("payload",)
    is_object = patch.lstrip()[:1] == b"{" if isinstance(patch, bytes) else isinstance(patch, Mapping)
    text = encode_payload(patch, schema, loc) if is_object else None
    if text is None:
        shown = patch.decode(errors="replace") if isinstance(patch, bytes) else type(patch).__name__
        raise refuse("invalid_patch", loc, f"is {shown:.60}, expected a JSON object to merge")
    return text


def _not_finite(value: Any) -> bool:
    """Whether a NaN or an infinity lies anywhere in it."""
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, Mapping):
        return any(map(_not_finite, value.values()))
    return isinstance(value, Iterable) and not isinstance(value, str | bytes) and any(map(_not_finite, value))
