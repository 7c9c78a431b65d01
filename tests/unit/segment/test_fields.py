"""The growing field index: refusals, what readers in other threads see, and bytes that depend on content alone."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from akidb.errors import InvalidInputError
from akidb.filter import PayloadSchema, evaluate, parse, to_mask
from akidb.segment.fields import FieldIndex, FieldIndexView

PAYLOADS: list[bytes | None] = [
    b'{"lang": "en", "year": 2020, "score": 0.5, "ok": true, "tags": ["x", "y", "x"]}',
    None,
    b'{"lang": "de", "year": 2021.0, "score": 3, "ok": false, "author": {"name": "A", "big": 18446744073709551615}}',
    b"",
    b'{"lang": null, "year": [1, 2.5, "n/a"], "tags": []}',
]


def index_of(payloads: list[bytes | None], schema: PayloadSchema | None = None) -> FieldIndex:
    index = FieldIndex(schema)
    index.add(0, payloads)
    return index


@pytest.mark.parametrize(
    ("bad", "msg"),
    [
        (b"{", "is not JSON"),
        (b"[]", "is not a JSON object"),
        (b'{"a": 36893488147419103232}', "beyond 64 bits"),
        (b'{"a":' * 40 + b"1" + b"}" * 40, "more than 32 levels deep"),
    ],
)
def test_add_refuses_all_or_nothing(bad: bytes, msg: str) -> None:
    index = index_of(PAYLOADS)
    before = index.to_bytes()
    with pytest.raises(InvalidInputError, match=msg) as caught:
        index.add(5, [b'{"lang": "fr", "new": 1}', bad])
    assert (caught.value.code, caught.value.faults[0].loc) == ("invalid_payload", ("payloads", 1))
    assert (index.rows, index.to_bytes()) == (5, before)


def test_add_refuses_rows_that_are_there() -> None:
    with pytest.raises(ValueError, match="row 4 is there already, 5 rows are"):
        index_of(PAYLOADS).add(4, [None])


def test_to_bytes_does_not_depend_on_how_rows_were_added() -> None:
    one_by_one = FieldIndex()
    for row, payload in enumerate(PAYLOADS):
        one_by_one.add(row, [payload])
    assert one_by_one.to_bytes() == index_of(PAYLOADS).to_bytes()


def test_to_bytes_does_not_depend_on_spelling_or_order_of_members() -> None:
    left = index_of([b'{"a": 1, "b": ["x", "y"]}', b'{"c": 2.0}'])
    right = index_of([b'{"b": ["y", "x", "x"], "a": 1.0}', b'{"c": 2, "d": null}'])
    assert left.to_bytes() == right.to_bytes()


def test_unindexed_fields_keep_their_existence_only() -> None:
    schema = PayloadSchema.parse({"body": {"index": False}})
    index = index_of([b'{"body": {"text": "long", "n": [1, 2]}}', b'{"body": null}', b'{"body": "x", "a": 1}'], schema)
    for source in (index, FieldIndexView(index.to_bytes())):
        assert list(source.exists("body")) == [0, 2]
        assert list(source.exists("body.text")) == []
        assert list(evaluate(parse({"field": "body", "match": "x"}), source)) == []
    assert b"long" not in index.to_bytes()


def test_columns_grow_under_readers() -> None:
    """Two threads read while one adds single rows: every answer is exact for the rows there were when it was asked."""
    index = FieldIndex()
    rounds, faults = 1_000, []
    filters = [
        (parse({"field": "n", "range": {"gte": 0}}), lambda rows: np.ones(rows, np.bool_)),
        (parse({"field": "even", "match": True}), lambda rows: np.arange(rows) % 2 == 0),
        (parse({"field": "t", "range": {"gte": "k1"}}), lambda rows: np.arange(rows) % 7 >= 1),
        (parse({"must_not": [{"exists": "x"}]}), lambda rows: np.arange(rows) % 5 != 0),
    ]

    def read() -> None:
        try:
            while not done.is_set():
                for filter_, expected in filters:
                    rows = index.rows
                    if not np.array_equal(to_mask(evaluate(filter_, index), rows), expected(rows)):
                        faults.append(f"{filter_} at {rows} rows")
        except Exception as error:  # a thread's own error would be lost
            faults.append(repr(error))

    done = threading.Event()
    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for row in range(rounds):
            extra = b', "x": {"f%d": 1}' % row if row % 5 == 0 else b""
            even = b"true" if row % 2 == 0 else b"false"
            index.add(row, [b'{"n": %d, "even": %b, "t": "k%d"%b}' % (row, even, row % 7, extra)])
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert faults == []
    assert index.rows == rounds
