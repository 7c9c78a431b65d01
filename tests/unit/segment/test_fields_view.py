"""The field index as bytes: answers equal the growing one's, and bytes that went bad are named, never believed."""

from __future__ import annotations

import json
import random
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from akidb.errors import CorruptionError
from akidb.filter import Filter, evaluate, parse
from akidb.segment.fields import FieldIndex, FieldIndexView
from akidb.segment.fields_format import ENTRY, HEADER

ROWS = 3_000


def payload(row: int) -> dict[str, Any]:
    return {
        "lang": ["en", "de", "fr"][row % 3],
        "name": f"name {row:05d}",
        "year": 1990 + row % 40,
        "score": row / 7,
        "id": 2**63 + row,
        "ok": row % 2 == 0,
        "tags": [f"t{row % 11}", f"t{row % 13}"],
        "author": {"name": f"a{row % 100}"},
    }


@pytest.fixture(scope="module")
def index() -> FieldIndex:
    index = FieldIndex()
    index.add(0, [json.dumps(payload(row)).encode() for row in range(ROWS)])
    return index


@pytest.fixture(scope="module")
def data(index: FieldIndex) -> bytes:
    return index.to_bytes()


FILTERS: list[Filter] = [
    parse(written)
    for written in (
        {"field": "lang", "match": "de"},
        {"field": "lang", "match": ["de", "xx", "fr"]},
        {"field": "name", "match": "name 00017"},
        {"field": "name", "range": {"gte": "name 00100", "lt": "name 01"}},
        {"field": "lang", "range": {"gt": "de"}},
        {"field": "tags", "range": {"gt": "t3", "lte": "t7"}},
        {"field": "year", "range": {"gte": 2000, "lt": 2010}},
        {"field": "year", "match": [1991, 2005, 1]},
        {"field": "score", "range": {"gt": 10, "lt": 20.5}},
        {"field": "id", "range": {"lte": 2**63 + 5}},
        {"field": "ok", "match": False},
        {"exists": "author"},
        {"must": [{"field": "author.name", "match": "a7"}], "must_not": [{"field": "tags", "match": "t1"}]},
        {"exists": "nothing"},
    )
]


def test_view_answers_like_the_index_it_came_from(index: FieldIndex, data: bytes) -> None:
    view = FieldIndexView(data)
    assert view.rows == index.rows
    found = [list(evaluate(filter_, view)) for filter_ in FILTERS]
    assert found == [list(evaluate(filter_, index)) for filter_ in FILTERS]
    assert [len(rows) for rows in found[:-1]].count(0) == 0


def test_view_reads_any_buffer(data: bytes) -> None:
    for buffer in (bytearray(data), memoryview(data), np.frombuffer(data, np.uint64).data):
        assert list(FieldIndexView(buffer).match(FILTERS[2])) == [17]  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [1, 63, 64, 65, 66])
def test_view_keeps_short_and_long_postings_apart(count: int) -> None:
    index = FieldIndex()
    index.add(0, [b'{"a": "m"}'] * count + [b'{"a": "a"}', b'{"a": "z"}'] * 3)
    view = FieldIndexView(index.to_bytes())
    assert list(evaluate(parse({"field": "a", "match": "m"}), view)) == list(range(count))
    assert list(evaluate(parse({"field": "a", "match": "a"}), view)) == list(range(count, count + 6, 2))
    assert list(evaluate(parse({"field": "a", "range": {"gte": "m"}}), view)) == [
        *range(count),
        *range(count + 1, count + 6, 2),
    ]


def test_view_of_no_rows() -> None:
    view = FieldIndexView(FieldIndex().to_bytes())
    assert [list(evaluate(filter_, view)) for filter_ in FILTERS] == [[]] * len(FILTERS)
    assert list(evaluate(parse({}), view)) == []


@pytest.mark.parametrize(
    ("damage", "msg"),
    [
        (lambda data: data[:20], "too few"),
        (lambda data: b"\0" + data[1:], "wrong magic"),
        (lambda data: data[:-1], "do not fit"),
        (lambda data: data + b"\0", "do not fit"),
        (lambda data: data[:16] + struct.pack("<Q", 1 << 60) + data[24:], "do not fit"),
        (lambda data: data[:8] + struct.pack("<Q", 1 << 33) + data[16:], "do not fit"),
    ],
)
def test_view_refuses_a_header_that_does_not_fit(data: bytes, damage: Any, msg: str) -> None:
    with pytest.raises(CorruptionError, match=msg) as caught:
        FieldIndexView(damage(data), name="seg/7")
    assert "object seg/7" in str(caught.value)


def place_of(data: bytes, field: bytes, part: int) -> tuple[int, int]:
    """Offset and length of a part of a field."""
    for at in range(HEADER.size, len(data), ENTRY.size):
        places = ENTRY.unpack_from(data, at)
        if data[places[0] : places[0] + places[1]] == field:
            return places[2 * part], places[2 * part + 1]
    raise AssertionError(field)


@pytest.mark.parametrize(
    ("field", "part", "where", "value", "condition", "msg"),
    [
        (b"ok", 1, 0, b"\xff" * 8, {"exists": "ok"}, "a bitmap can't be read"),
        (b"lang", 4, 0, struct.pack("<Q", 1 << 62), {"field": "lang", "match": "en"}, "do not add up"),
        (b"lang", 4, 40, b"\xff" * 32, {"field": "lang", "match": "en"}, "a key lies from"),
        (b"year", 5, 8 * ROWS, b"\xff" * 4 * ROWS, {"field": "year", "match": 1991}, f"of {ROWS}"),
        (
            b"name",
            4,
            40 + 16 * (ROWS + 1) + 8,
            b"\xff" * 4 * ROWS,
            {"field": "name", "range": {"gt": ""}},
            f"of {ROWS}",
        ),
    ],
)
def test_view_names_damage_where_it_is_used(
    data: bytes, field: bytes, part: int, where: int, value: bytes, condition: Any, msg: str
) -> None:
    offset, _ = place_of(data, field, part)
    at = offset + where
    view = FieldIndexView(data[:at] + value + data[at + len(value) :], name="seg/7")
    with pytest.raises(CorruptionError, match=msg):
        evaluate(parse(condition), view)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.integers(0, 2**32), st.integers(1, 40), st.booleans())
def test_view_survives_random_damage(data: bytes, seed: int, flips: int, early: bool) -> None:
    """Flipped bytes give an answer within the rows, or CorruptionError: nothing else, and no row outside."""
    rng = random.Random(seed)
    damaged = bytearray(data)
    for _ in range(flips):  # half of the runs aim at header, directory and the first names
        damaged[rng.randrange(2_000 if early else len(data))] ^= 1 << rng.randrange(8)
    for filter_ in FILTERS:
        try:
            view = FieldIndexView(damaged)
            found = evaluate(filter_, view)
        except CorruptionError:
            continue
        assert len(found) == 0 or found.max() < view.rows


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.binary(max_size=600))
def test_view_survives_any_directory(data: bytes, body: bytes) -> None:
    length = len(data)
    damaged = (data[: HEADER.size] + body + data[HEADER.size + len(body) :])[:length]
    for filter_ in FILTERS:
        try:
            found = evaluate(filter_, FieldIndexView(damaged))
        except CorruptionError:
            continue
        assert len(found) == 0 or found.max() < ROWS
