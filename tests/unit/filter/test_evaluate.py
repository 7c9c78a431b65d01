"""evaluate over both kinds of field index equals a judge that looks at one payload at a time and knows no index."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from akidb.filter import FieldSource, Filter, evaluate, parse, to_mask
from akidb.segment.fields import FieldIndex, FieldIndexView

LONG = "w" * 127


def holds(filter_: Any, payload: Any) -> bool:
    """docs/filters.md in plain Python, over the filter as it was written."""
    if "exists" in filter_:
        path = filter_["exists"]
        return any(p == path or p.startswith(path + ".") for p, _ in scalars(payload))
    if "match" in filter_:
        wanted = filter_["match"] if isinstance(filter_["match"], list) else [filter_["match"]]
        return any(same(value, want) for p, value in scalars(payload) if p == filter_["field"] for want in wanted)
    if "range" in filter_:
        return any(within(value, filter_["range"]) for p, value in scalars(payload) if p == filter_["field"])
    should = filter_.get("should")
    return (
        all(holds(part, payload) for part in filter_.get("must", []))
        and (not should or any(holds(part, payload) for part in should))
        and not any(holds(part, payload) for part in filter_.get("must_not", []))
    )


def scalars(value: Any, path: str | None = None) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [
            pair for key, member in value.items() for pair in scalars(member, key if path is None else f"{path}.{key}")
        ]
    if isinstance(value, list):
        return [pair for item in value for pair in scalars(item, path)]
    return [] if value is None else [(str(path), value)]


def kind(value: Any) -> str:
    return "bool" if isinstance(value, bool) else "text" if isinstance(value, str) else "number"


def same(left: Any, right: Any) -> bool:
    return kind(left) == kind(right) and left == right


def within(value: Any, bounds: dict[str, Any]) -> bool:
    tests = {"gt": lambda v, b: v > b, "gte": lambda v, b: v >= b, "lt": lambda v, b: v < b, "lte": lambda v, b: v <= b}
    return all(kind(value) == kind(bound) != "bool" and tests[key](value, bound) for key, bound in bounds.items())


texts = st.sampled_from(
    ["", "a", "b", "ab", "Z", "é", "e\u0301", "\0", "a\0", "\U0001f600", "\uffff", LONG, LONG + "w"]
)
long_texts = st.sampled_from([LONG + "ww", LONG + "wx", LONG + "é", "y" * 300])
numbers = st.one_of(
    st.integers(-3, 3),
    st.sampled_from([2**53, 2**53 + 1, 2**53 + 2, -(2**53) - 1, 2**63 - 1, 2**63, 2**64 - 1, -(2**63), 2**63 - 1024]),
    st.sampled_from([0.5, -0.0, 1.0, 1.5, -2.5, 2.0**53, 2.0**63, 2.0**64, 1e300, -1e300, 5e-324, 2.0**63 - 1024]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-(2**63), 2**64 - 1),
)
scalar = st.one_of(texts, long_texts, numbers, st.booleans())
names = st.sampled_from(["a", "b", "a.b", "", "c", "a-b"])
values = st.recursive(
    st.one_of(scalar, st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=3)),
    max_leaves=5,
)
payloads = st.lists(st.one_of(st.none(), st.dictionaries(names, values, max_size=3)), max_size=12)

paths = st.sampled_from(["a", "b", "c", "a.b", "a.a", "a.b.c", "a.", "b.a", "a-b", "absent"])
bounds = st.one_of(
    *(st.dictionaries(st.sampled_from(["gt", "gte", "lt", "lte"]), of_kind, min_size=1) for of_kind in (numbers, texts))
)
conditions = st.recursive(
    st.one_of(
        st.builds(lambda path: {"exists": path}, paths),
        st.builds(lambda path, value: {"field": path, "match": value}, paths, st.one_of(scalar, st.lists(scalar))),
        st.builds(lambda path, value: {"field": path, "range": value}, paths, bounds),
    ),
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "must": st.lists(inner, max_size=3),
            "should": st.lists(inner, min_size=1, max_size=3),
            "must_not": st.lists(inner, max_size=3),
        },
    ),
    max_leaves=6,
)


def index_of(objects: list[Any]) -> FieldIndex:
    index = FieldIndex()
    index.add(0, [None if obj is None else json.dumps(obj).encode() for obj in objects])
    return index


def both(index: FieldIndex) -> list[FieldSource]:
    return [index, FieldIndexView(index.to_bytes())]


def rows(filter_: Filter, source: FieldSource) -> list[int]:
    return list(evaluate(filter_, source))


@settings(max_examples=400, deadline=None, derandomize=True)
@given(payloads, st.lists(conditions, min_size=1, max_size=4))
def test_evaluate_equals_the_judge(objects: list[Any], written: list[Any]) -> None:
    index = index_of(objects)
    sources = both(index)
    for condition in written:
        expected = [row for row, obj in enumerate(objects) if holds(condition, obj or {})]
        for source in sources:
            assert rows(parse(condition), source) == expected


POOL: list[Any] = [
    *("", "a", "a\0", "b", "é", LONG, LONG + "w", LONG + "ww", LONG + "wx", "x" * 128, "x" * 129),
    *(-2.5, -1, 0, 0.5, 1, 1.5, 2, 1e300, True, False),
    *(2**53, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1025, 2**64 - 1, 2.0**64, -(2**63), -(2.0**63) - 2048),
]


@pytest.mark.parametrize("operator", ["match", "gt", "gte", "lt", "lte"])
def test_evaluate_compares_every_pair_of_values_as_the_judge_does(operator: str) -> None:
    objects = [{"a": value} for value in POOL] + [{"a": POOL}, {"a": []}]
    sources = both(index_of(objects))
    for operand in POOL:
        is_bound = operator != "match"
        if is_bound and (isinstance(operand, bool) or (isinstance(operand, str) and len(operand) > 128)):
            continue  # parse refuses these
        condition = {"field": "a", "range": {operator: operand}} if is_bound else {"field": "a", "match": operand}
        filter_ = parse(condition)
        expected = [row for row, obj in enumerate(objects) if holds(condition, obj)]
        for source in sources:
            assert rows(filter_, source) == expected, condition


CASES: list[tuple[str, Any, Any, bool]] = [
    ("no clause", {}, {"a": 1}, True),
    ("empty must and must_not", {"must": [], "must_not": []}, {}, True),
    ("should counts beside must", {"must": [{"exists": "a"}], "should": [{"exists": "b"}]}, {"a": 1}, False),
    ("match list", {"field": "a", "match": ["x", 1]}, {"a": 1}, True),
    ("empty match list", {"field": "a", "match": []}, {"a": 1}, False),
    ("any element", {"field": "a", "match": "y"}, {"a": ["x", "y"]}, True),
    ("nested arrays are flat", {"field": "a", "match": 3}, {"a": [[1, 2], [3]]}, True),
    ("one element within all bounds", {"field": "a", "range": {"gt": 3, "lt": 7}}, {"a": [1, 9]}, False),
    ("must_not of an element", {"must_not": [{"field": "a", "match": "x"}]}, {"a": ["x", "y"]}, False),
    ("array of objects", {"field": "a.n", "match": "y"}, {"a": [{"n": "x"}, {"n": "y"}]}, True),
    ("different elements", {"must": [{"field": "a.n", "match": "x"}, {"field": "a.m", "match": 2}]},
     {"a": [{"n": "x", "m": 1}, {"n": "y", "m": 2}]}, True),
    ("dotted key is the nested field", {"field": "a.b", "match": 1}, {"a.b": 1}, True),
    ("dotted key beside the nested one", {"field": "a.b", "match": 2}, {"a.b": 1, "a": {"b": 2}}, True),
    ("position is a key", {"field": "a.0", "match": 1}, {"a": [1]}, False),
    ("field nobody has", {"must_not": [{"field": "z", "match": 1}]}, {"a": 1}, True),
    ("exists on null", {"exists": "a"}, {"a": None}, False),
    ("exists on a missing field", {"exists": "a"}, {}, False),
    ("exists on an empty array", {"exists": "a"}, {"a": []}, False),
    ("exists on an empty object", {"exists": "a"}, {"a": {}}, False),
    ("exists on an array of null", {"exists": "a"}, {"a": [None]}, False),
    ("exists on null and a value", {"exists": "a"}, {"a": [None, 0]}, True),
    ("exists on an object", {"exists": "a"}, {"a": {"b": False}}, True),
    ("exists is of whole names", {"exists": "a"}, {"ab": 1, "a-b": 1}, False),
    ("exists on empty text", {"exists": "a"}, {"a": ""}, True),
    ("true is not 1", {"field": "a", "match": 1}, {"a": True}, False),
    ("1 is not true", {"field": "a", "match": True}, {"a": 1}, False),
    ("false is not 0", {"field": "a", "match": False}, {"a": 0}, False),
    ("1 is not text 1", {"field": "a", "match": "1"}, {"a": 1}, False),
    ("1 equals 1.0", {"field": "a", "match": 1}, {"a": 1.0}, True),
    ("1.0 equals 1", {"field": "a", "match": 1.0}, {"a": 1}, True),
    ("-0.0 equals 0", {"field": "a", "match": 0}, {"a": -0.0}, True),
    ("2^53 + 1 is not 2^53", {"field": "a", "match": 2**53 + 1}, {"a": 2.0**53}, False),
    ("2^53 + 1 is above 2^53", {"field": "a", "range": {"gt": 2.0**53}}, {"a": 2**53 + 1}, True),
    ("unsigned 64 bits are exact", {"field": "a", "match": 2**64 - 2}, {"a": 2**64 - 1}, False),
    ("integer bound over floats", {"field": "a", "range": {"lt": 2}}, {"a": 1.9999999999999998}, True),
    ("range ignores text", {"field": "a", "range": {"gte": 0}}, {"a": "5"}, False),
    ("range ignores booleans", {"field": "a", "range": {"gte": 0}}, {"a": True}, False),
    ("text is ordered by code points", {"field": "a", "range": {"gt": "Z", "lt": "é"}}, {"a": "a"}, True),
    ("dates", {"field": "a", "range": {"gte": "2024-01-01", "lt": "2025"}}, {"a": "2024-06-30T12:00:00Z"}, True),
    ("gt and gte both count", {"field": "a", "range": {"gt": 1, "gte": 0}}, {"a": 1}, False),
    ("crossing bounds", {"field": "a", "range": {"gte": 5, "lt": 3}}, {"a": 4}, False),
    ("no normalisation", {"field": "a", "match": "\u00e9"}, {"a": "e\u0301"}, False),
    ("long texts that differ late", {"field": "a", "match": "x" * 500 + "y"}, {"a": "x" * 500 + "z"}, False),
    ("long texts that are equal", {"field": "a", "match": "x" * 500}, {"a": "x" * 500}, True),
    ("long text against its own beginning", {"field": "a", "range": {"gt": "x" * 128}}, {"a": "x" * 129}, True),
    ("no payload", {"must_not": [{"exists": "a"}]}, None, True),
]  # fmt: skip


@pytest.mark.parametrize(
    ("condition", "payload", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_evaluate_decides_as_documented(condition: Any, payload: Any, expected: bool) -> None:
    assert holds(condition, payload or {}) is expected
    for source in both(index_of([payload])):
        assert rows(parse(condition), source) == ([0] if expected else [])


def test_evaluate_of_must_not_covers_rows_without_a_payload() -> None:
    index = FieldIndex()
    index.add(3, [b'{"a": 1}', None, b""])
    for source in both(index):
        assert rows(parse({"must_not": [{"field": "a", "match": 1}]}), source) == [0, 1, 2, 4, 5]


def test_evaluate_leaves_the_source_as_it_was() -> None:
    source = FieldIndexView(index_of([{"a": i % 2, "b": i % 3} for i in range(30)]).to_bytes())
    filter_ = parse({"must": [{"exists": "a"}, {"field": "b", "match": 0}], "must_not": [{"field": "a", "match": 1}]})
    assert rows(filter_, source) == rows(filter_, source) == list(range(0, 30, 6))


@pytest.mark.parametrize("share", [0.0, 0.0005, 0.03, 0.5, 1.0])
def test_evaluate_counts_what_the_mask_shows(share: float) -> None:
    n = 150_000
    wanted = np.random.default_rng(5).random(n) < share
    index = FieldIndex()
    index.add(0, [b'{"a": "yes"}' if hit else b'{"a": "no"}' for hit in wanted.tolist()])
    for source in both(index):
        found = evaluate(parse({"field": "a", "match": "yes"}), source)
        assert len(found) == np.count_nonzero(wanted)
        assert np.array_equal(to_mask(found, n), wanted)
