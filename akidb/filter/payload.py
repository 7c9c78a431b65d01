"""Payloads as filters see them: pairs of a dotted path and a scalar."""

from __future__ import annotations

from typing import Any, NoReturn, TypeAlias

import msgspec

from akidb.filter.ast import INT64_MIN, UINT64_MAX, Scalar
from akidb.filter.refusal import Loc, refuse

Pairs: TypeAlias = list[tuple[str, Scalar]]

PAYLOAD_DEPTH_MAX = 32

_decode = msgspec.json.Decoder().decode


def decode(payload: bytes, loc: Loc = ("payload",)) -> dict[str, Any]:
    """The object that JSON text says.

    Raises:
        InvalidInputError: `invalid_payload`: it is not JSON, or not an object.
    """
    try:
        obj = _decode(payload)
    except RecursionError:
        _refuse(loc, f"is more than {PAYLOAD_DEPTH_MAX} levels deep")
    except ValueError as error:  # msgspec's own errors and UnicodeDecodeError
        _refuse(loc, f"is not JSON: {error}")
    if not isinstance(obj, dict):
        _refuse(loc, "is not a JSON object")
    return obj


def flatten(obj: dict[str, Any], loc: Loc = ("payload",)) -> Pairs:
    """Every scalar of a decoded payload with its dotted path, in the payload's order. Nulls have none.

    Raises:
        InvalidInputError: `invalid_payload`: over 32 levels deep, or an integer beyond 64 bits.
    """
    pairs: Pairs = []
    _members(obj, "", 1, pairs, loc)
    return pairs


def _members(obj: dict[str, Any], prefix: str, depth: int, pairs: Pairs, loc: Loc) -> None:
    for key, value in obj.items():
        kind = type(value)
        path = prefix + key
        if kind is str or kind is float or kind is bool:
            pairs.append((path, value))
        elif kind is int:
            if not INT64_MIN <= value <= UINT64_MAX:
                _refuse(loc, f"has an integer beyond 64 bits in field {path!r}")
            pairs.append((path, value))
        elif value is not None:
            _nested(value, path, depth + 1, pairs, loc)


def _nested(value: Any, path: str, depth: int, pairs: Pairs, loc: Loc) -> None:
    """The scalars of an object or array, which begins level `depth`."""
    if depth > PAYLOAD_DEPTH_MAX:
        _refuse(loc, f"is more than {PAYLOAD_DEPTH_MAX} levels deep")
    if isinstance(value, dict):
        _members(value, path + ".", depth, pairs, loc)
        return
    for item in value:
        if isinstance(item, dict | list):
            _nested(item, path, depth + 1, pairs, loc)
        elif item is not None:
            if type(item) is int and not INT64_MIN <= item <= UINT64_MAX:
                _refuse(loc, f"has an integer beyond 64 bits in field {path!r}")
            pairs.append((path, item))


def _refuse(loc: Loc, msg: str) -> NoReturn:
    refuse("invalid_payload", loc, msg)
