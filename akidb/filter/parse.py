"""Filters as users write them, checked to the last key, so that an accepted one can be evaluated over any source."""

from __future__ import annotations

import math
from typing import Any, NoReturn

from akidb.filter.ast import (
    INT64_MIN,
    TEXT_KEY_BYTES,
    UINT64_MAX,
    Exists,
    Filter,
    Group,
    Match,
    Number,
    Range,
    canonical,
)
from akidb.filter.refusal import Loc, refuse
from akidb.filter.schema import PayloadSchema

MATCH_VALUES_MAX = 10_000

_GROUP_KEYS = ("must", "should", "must_not")
_BOUND_KEYS = ("gt", "gte", "lt", "lte")
_FORMS = 'expected {"must", "should", "must_not"}, {"field", "match"}, {"field", "range"} or {"exists"}'


def parse(
    obj: Any,
    *,
    max_depth: int = 32,
    max_clauses: int = 100,
    loc: Loc = ("filter",),
    schema: PayloadSchema | None = None,
) -> Filter:
    """The filter that a decoded JSON value means.

    Args:
        obj: dicts, lists, text, numbers and booleans, as json.loads gives them.
        max_depth: levels of conditions; the outermost is level 1.
        max_clauses: conditions in all lists together.
        loc: the path to `obj`, for the faults.
        schema: the collection's; without one every field counts as indexed.

    Raises:
        InvalidInputError: `invalid_filter`, `filter_too_deep`, `filter_too_large`, `field_not_indexed`; with one Fault.
    """
    return _Parser(max_depth, max_clauses, schema or PayloadSchema()).condition(obj, loc, 1)


def _refuse(loc: Loc, msg: str, code: str = "invalid_filter") -> NoReturn:
    refuse(code, loc, msg)


class _Parser:
    """One parse: the limits, and how many clauses have been seen."""

    def __init__(self, max_depth: int, max_clauses: int, schema: PayloadSchema) -> None:
        self.max_depth = max_depth
        self.max_clauses = max_clauses
        self.schema = schema
        self.clauses = 0

    def condition(self, obj: Any, loc: Loc, depth: int) -> Filter:
        if depth > self.max_depth:
            _refuse(loc, f"lies {depth} levels deep, at most {self.max_depth} are allowed", "filter_too_deep")
        if not isinstance(obj, dict):
            _refuse(loc, f"is {_kind(obj)}; {_FORMS}")
        if "exists" in obj:
            _only(obj, ("exists",), loc)
            return Exists(self.path(obj["exists"], (*loc, "exists"), existence=True))
        if any(key in obj for key in ("field", "match", "range")):
            return self.leaf(obj, loc)
        _only(obj, _GROUP_KEYS, loc, hint=f"; {_FORMS}")
        if "should" in obj and obj["should"] == []:
            _refuse((*loc, "should"), "is empty, so that no point could match; leave it out for no condition")
        must, should, must_not = (self.conditions(obj.get(key, []), (*loc, key), depth) for key in _GROUP_KEYS)
        return Group(must, should, must_not)

    def conditions(self, obj: Any, loc: Loc, depth: int) -> tuple[Filter, ...]:
        if not isinstance(obj, list | tuple):
            _refuse(loc, f"is {_kind(obj)}, expected a list of conditions")
        self.clauses += len(obj)
        if self.clauses > self.max_clauses:
            _refuse(
                loc,
                f"brings the filter to {self.clauses} clauses, at most {self.max_clauses} are allowed",
                "filter_too_large",
            )
        return tuple(self.condition(item, (*loc, i), depth + 1) for i, item in enumerate(obj))

    def leaf(self, obj: dict[Any, Any], loc: Loc) -> Filter:
        _only(obj, ("field", "match", "range"), loc)
        if "field" not in obj:
            _refuse(loc, "has no field, expected its path as text")
        if ("match" in obj) == ("range" in obj):
            _refuse(
                loc,
                "has both match and range, expected one"
                if "match" in obj
                else "has neither match nor range, expected one",
            )
        field = self.path(obj["field"], (*loc, "field"))
        if "match" in obj:
            return _match(field, obj["match"], (*loc, "match"))
        return _range(field, obj["range"], (*loc, "range"))

    def path(self, obj: Any, loc: Loc, *, existence: bool = False) -> str:
        if not isinstance(obj, str) or not obj:
            _refuse(loc, f"is {_kind(obj)}, expected the path of a field, such as author.name")
        field = _utf8(obj, loc)
        unindexed = self.schema.unindexed_at(field)
        if unindexed is not None and not (existence and unindexed == field):
            _refuse(loc, f"payload_schema says that {unindexed!r} is not indexed", "field_not_indexed")
        return field


def _match(field: str, obj: Any, loc: Loc) -> Match:
    listed = isinstance(obj, list | tuple)
    values = obj if listed else [obj]
    if len(values) > MATCH_VALUES_MAX:
        _refuse(loc, f"has {len(values)} values, at most {MATCH_VALUES_MAX} are allowed", "filter_too_large")
    texts: dict[str, None] = {}  # dicts because they keep one of each, in order
    numbers: dict[Number, None] = {}
    bools: dict[bool, None] = {}
    for i, value in enumerate(values):
        where = (*loc, i) if listed else loc
        if isinstance(value, bool):
            bools[value] = None
        elif isinstance(value, int | float):
            numbers[_number(value, where)] = None
        elif isinstance(value, str):
            texts[_utf8(value, where)] = None
        elif value is None:
            _refuse(
                where, 'is null, which no field equals; {"must_not": [{"exists": path}]} finds points without a value'
            )
        else:
            _refuse(
                where,
                f"is {_kind(value)}, expected text, a number or a boolean{'' if listed else ', or a list of them'}",
            )
    return Match(field, tuple(texts), tuple(numbers), tuple(bools))


def _range(field: str, obj: Any, loc: Loc) -> Range:
    if not isinstance(obj, dict):
        _refuse(loc, f"is {_kind(obj)}, expected an object with gt, gte, lt or lte")
    _only(obj, _BOUND_KEYS, loc)
    if not obj:
        _refuse(loc, "has no bound, expected at least one of gt, gte, lt, lte")
    bounds = {key: _bound(value, (*loc, key)) for key, value in obj.items()}
    if len({isinstance(bound, str) for bound in bounds.values()}) > 1:
        _refuse(loc, "mixes text and numbers, expected bounds of one kind")
    return Range(field, **bounds)


def _bound(value: Any, loc: Loc) -> Number | str:
    if isinstance(value, str):
        size = len(_utf8(value, loc).encode())
        if size > TEXT_KEY_BYTES:
            _refuse(loc, f"has {size} bytes of UTF-8, a bound has at most {TEXT_KEY_BYTES}")
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _number(value, loc)
    _refuse(loc, f"is {_kind(value)}, expected a number or text")


def _number(value: Number, loc: Loc) -> Number:
    if isinstance(value, float) and not math.isfinite(value):
        _refuse(loc, f"is {value}, expected a finite number")
    if isinstance(value, int) and not INT64_MIN <= value <= UINT64_MAX:
        _refuse(loc, "is an integer beyond 64 bits, expected -2^63 to 2^64 - 1")
    return canonical(value)


def _utf8(text: str, loc: Loc) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        _refuse(loc, "holds a lone surrogate, which no UTF-8 can carry")
    return text


def _only(obj: dict[Any, Any], known: tuple[str, ...], loc: Loc, hint: str = "") -> None:
    for key in obj:
        if key not in known:
            _refuse((*loc, str(key)), f"is unknown here{hint or ', expected ' + ', '.join(known)}")


def _kind(value: Any) -> str:
    """What a value is, in JSON's words."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return "text" if value else "empty text"
    if isinstance(value, int | float):
        return f"the number {value}" if abs(value) <= UINT64_MAX else "a number"
    if isinstance(value, list | tuple):
        return "a list"
    return "an object" if isinstance(value, dict) else type(value).__name__
