"""Every refusal of a filter: its code, its path, and that the message says what was expected."""

from __future__ import annotations

from typing import Any

import pytest

from akidb.errors import InvalidInputError
from akidb.filter import Exists, Group, Match, PayloadSchema, Range, parse


def refused(obj: Any, **options: Any) -> InvalidInputError:
    with pytest.raises(InvalidInputError) as caught:
        parse(obj, **options)
    assert len(caught.value.faults) == 1
    assert caught.value.faults[0].msg in str(caught.value)
    return caught.value


def test_parse_understands_every_form() -> None:
    written = {
        "must": [{"field": "a", "match": "x"}, {"field": "b.c", "range": {"gte": 1, "lt": 2.5}}],
        "should": [{"exists": "d"}, {"must_not": [{"field": "e", "match": [1, "1", True, 1.0, 2.5, 1]}]}],
        "must_not": [{"field": "f", "range": {"gt": "a", "lte": "b"}}],
    }
    assert parse(written) == Group(
        must=(Match("a", texts=("x",)), Range("b.c", gte=1, lt=2.5)),
        should=(Exists("d"), Group(must_not=(Match("e", ("1",), (1, 2.5), (True,)),))),
        must_not=(Range("f", gt="a", lte="b"),),
    )


def test_parse_takes_a_leaf_and_an_empty_object_as_filters() -> None:
    assert parse({"exists": "a"}) == Exists("a")
    assert parse({}) == parse({"must": [], "must_not": []}) == Group()


def test_parse_keeps_booleans_and_numbers_apart_as_keys_of_a_cache() -> None:
    filters = {parse({"field": "a", "match": value}) for value in (True, 1, "1", False, 0, 1.0)}
    assert len(filters) == 5  # 1 and 1.0 are the same


REFUSALS: list[tuple[Any, tuple[str | int, ...], str]] = [
    (None, (), "is null; expected"),
    ([], (), "is a list; expected"),
    ("lang = 'en'", (), "is text; expected"),
    ({"and": []}, ("and",), "is unknown here; expected"),
    ({"must": [], "filter": {}}, ("filter",), "is unknown here"),
    ({1: []}, ("1",), "is unknown here"),
    ({"must": {"exists": "a"}}, ("must",), "is an object, expected a list of conditions"),
    ({"must": None}, ("must",), "is null, expected a list of conditions"),
    ({"should": []}, ("should",), "is empty"),
    ({"must": [{"exists": "a"}, 3]}, ("must", 1), "is the number 3; expected"),
    ({"must": [{"should": [{"exists": 1}]}]}, ("must", 0, "should", 0, "exists"), "expected the path of a field"),
    ({"exists": ""}, ("exists",), "is empty text, expected the path"),
    ({"exists": "a", "field": "a"}, ("field",), "is unknown here, expected exists"),
    ({"match": "x"}, (), "has no field"),
    ({"field": "a"}, (), "has neither match nor range"),
    ({"field": "a", "match": 1, "range": {"gt": 1}}, (), "has both match and range"),
    ({"field": "a", "match": 1, "boost": 2}, ("boost",), "is unknown here, expected field, match, range"),
    ({"field": ["a"], "match": 1}, ("field",), "is a list, expected the path of a field"),
    ({"field": "\ud800", "match": 1}, ("field",), "lone surrogate"),
    ({"field": "a", "match": None}, ("match",), "is null, which no field equals"),
    (
        {"field": "a", "match": {"value": 1}},
        ("match",),
        "is an object, expected text, a number or a boolean, or a list",
    ),
    ({"field": "a", "match": ["x", [1]]}, ("match", 1), "is a list, expected text, a number or a boolean"),
    ({"field": "a", "match": ["x", None]}, ("match", 1), "is null"),
    ({"field": "a", "match": "\udfff"}, ("match",), "lone surrogate"),
    ({"field": "a", "match": float("nan")}, ("match",), "is nan, expected a finite number"),
    ({"field": "a", "match": 2**64}, ("match",), "beyond 64 bits"),
    ({"field": "a", "match": -(2**63) - 1}, ("match",), "beyond 64 bits"),
    ({"field": "a", "range": 5}, ("range",), "is the number 5, expected an object with gt, gte, lt or lte"),
    ({"field": "a", "range": {}}, ("range",), "has no bound"),
    ({"field": "a", "range": {"from": 1}}, ("range", "from"), "is unknown here, expected gt, gte, lt, lte"),
    ({"field": "a", "range": {"gt": None}}, ("range", "gt"), "is null, expected a number or text"),
    ({"field": "a", "range": {"gt": True}}, ("range", "gt"), "is true, expected a number or text"),
    ({"field": "a", "range": {"gt": [1]}}, ("range", "gt"), "is a list, expected a number or text"),
    ({"field": "a", "range": {"lt": float("inf")}}, ("range", "lt"), "is inf, expected a finite number"),
    ({"field": "a", "range": {"gte": 1, "lt": "b"}}, ("range",), "mixes text and numbers"),
    ({"field": "a", "range": {"gte": "é" * 65}}, ("range", "gte"), "has 130 bytes of UTF-8, a bound has at most 128"),
]


@pytest.mark.parametrize(("obj", "loc", "msg"), REFUSALS)
def test_parse_refuses(obj: Any, loc: tuple[str | int, ...], msg: str) -> None:
    error = refused(obj)
    assert error.code == "invalid_filter"
    assert error.faults[0].loc == ("filter", *loc)
    assert msg in error.faults[0].msg


def test_parse_begins_paths_with_loc() -> None:
    assert refused({"must": 1}, loc=("queries", 3, "filter")).faults[0].loc == ("queries", 3, "filter", "must")


def nested(levels: int) -> dict[str, Any]:
    obj: dict[str, Any] = {"exists": "a"}
    for _ in range(levels - 1):
        obj = {"must": [obj]}
    return obj


def test_parse_limits_depth() -> None:
    parse(nested(4), max_depth=4)
    error = refused(nested(5), max_depth=4)
    assert error.code == "filter_too_deep"
    assert error.faults[0].loc == ("filter", *("must", 0) * 4)
    assert "5 levels deep, at most 4" in error.faults[0].msg


def test_parse_stops_at_a_depth_that_would_exhaust_the_stack() -> None:
    obj: Any = {}
    for _ in range(100_000):
        obj = {"must": [obj]}
    assert refused(obj).code == "filter_too_deep"
    while obj:  # unwound by hand: freeing so deep a nest recurses too
        obj = obj["must"].pop()


def test_parse_limits_clauses_over_all_lists() -> None:
    leaf = {"exists": "a"}
    parse({"must": [leaf] * 3, "should": [{"must_not": [leaf]}]}, max_clauses=5)
    error = refused({"must": [leaf] * 3, "should": [{"must_not": [leaf, leaf]}]}, max_clauses=5)
    assert error.code == "filter_too_large"
    assert error.faults[0].loc == ("filter", "should", 0, "must_not")
    assert "6 clauses, at most 5" in error.faults[0].msg


def test_parse_limits_the_values_of_a_match() -> None:
    parse({"field": "a", "match": list(range(10_000))})
    error = refused({"field": "a", "match": list(range(10_001))})
    assert (error.code, error.faults[0].loc) == ("filter_too_large", ("filter", "match"))


def test_parse_refuses_conditions_on_what_is_not_indexed() -> None:
    schema = PayloadSchema.parse({"raw": {"index": False}, "a.b": {"index": False}})
    for obj, loc in [
        ({"field": "raw", "match": 1}, ("field",)),
        ({"field": "raw.x", "range": {"gt": 1}}, ("field",)),
        ({"exists": "raw.x"}, ("exists",)),
        ({"field": "a.b.c.d", "match": 1}, ("field",)),
    ]:
        error = refused(obj, schema=schema)
        assert (error.code, error.faults[0].loc) == ("field_not_indexed", ("filter", *loc))
    for allowed in ({"exists": "raw"}, {"exists": "a"}, {"field": "a.bc", "match": 1}, {"field": "rawer", "match": 1}):
        parse(allowed, schema=schema)
