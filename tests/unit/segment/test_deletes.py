"""Deletes objects: masks survive, damage and strangers are refused."""

from __future__ import annotations

import struct
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from akidb.codec.frame import KIND_DELETES, encode
from akidb.errors import CorruptionError
from akidb.segment import decode_deletes, encode_deletes

SEGMENT = UUID(int=5)


@given(st.integers(0, 200_000), st.floats(0, 1), st.integers(0, 9))
def test_deletes_round_trip(rows: int, share: float, seed: int) -> None:
    live = np.random.default_rng(seed).random(rows) >= share
    data = encode_deletes(SEGMENT, live)
    np.testing.assert_array_equal(decode_deletes(data, rows=rows, name="del/1", segment=SEGMENT), live)


def test_deletes_of_runs_are_small() -> None:
    live = np.ones(1_000_000, np.bool_)
    live[:900_000] = False
    assert len(encode_deletes(SEGMENT, live)) < 300


def test_decode_deletes_refuses_damage_anywhere() -> None:
    whole = encode_deletes(SEGMENT, np.arange(500) % 7 != 0)
    directory = struct.unpack_from("<Q", whole, 24)[0]
    body_end = sum(struct.unpack_from("<QQ", whole, directory + 8))
    padding = range(body_end, directory)
    for at in range(len(whole)):
        data = bytearray(whole)
        data[at] ^= 0x08
        if at in padding:
            continue
        with pytest.raises(CorruptionError, match="object del/1: "):
            decode_deletes(bytes(data), rows=500, name="del/1")


def test_decode_deletes_refuses_what_does_not_belong() -> None:
    data = encode_deletes(SEGMENT, np.array([True, False, False]))
    with pytest.raises(CorruptionError, match="belongs to segment"):
        decode_deletes(data, rows=3, name="del/1", segment=UUID(int=6))
    with pytest.raises(CorruptionError, match="row 2 is dead, the segment has 2"):
        decode_deletes(data, rows=2, name="del/1")
    with pytest.raises(CorruptionError, match="bitmap can't be read"):
        decode_deletes(encode(KIND_DELETES, SEGMENT, {"dead": b"nonsense"}), rows=3, name="del/1")
    with pytest.raises(CorruptionError, match="region dead is missing"):
        decode_deletes(encode(KIND_DELETES, SEGMENT, {}), rows=3, name="del/1")
