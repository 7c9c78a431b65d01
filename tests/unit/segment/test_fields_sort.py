"""The radix sort equals Python's, also where bytes are zero, keys are prefixes of each other, or end at a word."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from akidb.segment.fields_sort import joined, lengths, order

pieces = st.sampled_from([b"", b"\0", b"a", b"b", b"\xff", b"\0" * 7, b"\0" * 8, b"a" * 8, b"https://", b"x" * 160])
keys = st.one_of(st.binary(max_size=20), st.lists(pieces, max_size=4).map(b"".join))


@settings(max_examples=500, deadline=None, derandomize=True)
@given(st.sets(keys, max_size=30).map(lambda found: sorted(found, key=hash)))
def test_order_equals_sorted(items: list[bytes]) -> None:
    assert [items[i] for i in order(items).tolist()] == sorted(items)


@pytest.mark.parametrize("prefix", [b"", b"https://example.org/a/long/common/path?page="])
def test_order_of_more_keys_than_one_chunk(prefix: bytes) -> None:
    items = [prefix + b"%d" % i for i in range(25_000)]
    random.Random(2).shuffle(items)
    assert [items[i] for i in order(items).tolist()] == sorted(items)
    assert b"".join(joined(items)) == b"".join(items)
    assert lengths(items).tolist() == [len(item) for item in items]
