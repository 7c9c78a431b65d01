"""What a payload_schema may say, and which payloads it refuses."""

from __future__ import annotations

import json
from typing import Any

import pytest

from akidb.errors import InvalidInputError
from akidb.filter import PayloadSchema

SCHEMA = {
    "year": "integer",
    "price": "float",
    "lang": "keyword",
    "in_stock": "bool",
    "body": {"type": "keyword", "index": False},
    "raw": {"index": False},
    "author.age": {"type": "integer"},
}


def test_parse_understands_every_form() -> None:
    schema = PayloadSchema.parse(SCHEMA)
    assert schema.types == {
        "year": "integer",
        "price": "float",
        "lang": "keyword",
        "in_stock": "bool",
        "body": "keyword",
        "author.age": "integer",
    }
    assert schema.unindexed == {"body", "raw"}
    assert PayloadSchema.parse(None).unindexed_at("anything") is None


@pytest.mark.parametrize(
    ("obj", "loc", "msg"),
    [
        ([], (), "is list, expected an object of fields"),
        ({"": "keyword"}, ("",), "is not the path of a field"),
        ({"a": "text"}, ("a",), "expected keyword, integer, float or bool"),
        ({"a": 3}, ("a",), "expected a type or an object"),
        ({"a": {"type": ["keyword"]}}, ("a",), "expected keyword, integer, float or bool"),
        ({"a": {"index": "no"}}, ("a", "index"), "expected true or false"),
        ({"a": {"indexed": False}}, ("a", "indexed"), "is unknown here, expected type, index"),
    ],
)
def test_parse_refuses(obj: Any, loc: tuple[str, ...], msg: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        PayloadSchema.parse(obj)
    assert caught.value.code == "invalid_payload_schema"
    assert caught.value.faults[0].loc == ("payload_schema", *loc)
    assert msg in caught.value.faults[0].msg


def test_unindexed_at_covers_what_lies_below() -> None:
    schema = PayloadSchema.parse({"a.b": {"index": False}})
    assert schema.unindexed_at("a.b") == schema.unindexed_at("a.b.c") == "a.b"
    assert [schema.unindexed_at(field) for field in ("a", "a.bc", "b", "a.c")] == [None] * 4


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"year": 2020, "price": 3, "lang": "en", "in_stock": True, "author": {"age": 40}},
        {"year": 2020.0, "price": 1.5, "lang": None, "in_stock": [True, None, False]},
        {"year": [1, 2], "unnamed": {"anything": ["goes", 1, True]}, "raw": {"deep": [1, "x"]}},
    ],
)
def test_check_accepts(payload: dict[str, Any]) -> None:
    PayloadSchema.parse(SCHEMA).check(json.dumps(payload).encode())


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        ({"year": 1.5}, "year"),
        ({"year": True}, "year"),
        ({"year": "2020"}, "year"),
        ({"price": "3"}, "price"),
        ({"price": False}, "price"),
        ({"lang": 1}, "lang"),
        ({"lang": ["en", 1]}, "lang"),
        ({"in_stock": 1}, "in_stock"),
        ({"body": 1}, "body"),
        ({"author": [{"age": 1}, {"age": "x"}]}, "author.age"),
    ],
)
def test_check_refuses_another_type(payload: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInputError, match=f"in field '{field}', payload_schema says") as caught:
        PayloadSchema.parse(SCHEMA).check(json.dumps(payload).encode(), ("vectors", 2, "payload"))
    assert caught.value.code == "payload_schema_mismatch"
    assert caught.value.faults[0].loc == ("vectors", 2, "payload")


@pytest.mark.parametrize(
    ("payload", "msg"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b'{"a": NaN}', "is not JSON"),
        (b'{"a": 1e999}', "is not JSON"),
        (b'{"a": "\xff"}', "is not JSON"),
        (b'{"a": "\\ud800 alone"}', "is not JSON"),
        (b"[1]", "is not a JSON object"),
        (b"null", "is not a JSON object"),
        (b'{"a": 18446744073709551616}', "an integer beyond 64 bits in field 'a'"),
        (b'{"a": [{"b": [-9223372036854775809]}]}', "an integer beyond 64 bits in field 'a.b'"),
        (b'{"a":' * 32 + b"{}" + b"}" * 32, "more than 32 levels deep"),
        (b'{"a":' + b"[" * 32 + b"]" * 32 + b"}", "more than 32 levels deep"),
        (b'{"a":' + b"[" * 50_000 + b"]" * 50_000 + b"}", "more than 32 levels deep"),
    ],
)
def test_check_refuses_what_cannot_be_indexed(payload: bytes, msg: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        PayloadSchema().check(payload)
    assert caught.value.code == "invalid_payload"
    assert msg in caught.value.faults[0].msg


def test_check_accepts_thirty_two_levels() -> None:
    PayloadSchema().check(b'{"a":' * 31 + b"{}" + b"}" * 31)
    PayloadSchema().check(b'{"a":' + b"[" * 31 + b"]" * 31 + b"}")
