"""Operations and their bytes."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from akidb.errors import CorruptionError, InvalidInputError
from akidb.wal import record
from akidb.wal.record import Delete, Entry, Once, Operation, Patch, Seal, Upsert, decode_operation, encode_operation

texts = st.text(max_size=20)
payloads = st.none() | st.binary(min_size=1, max_size=30)


@st.composite
def upserts(draw: st.DrawFn) -> Upsert:
    rows, dim = draw(st.integers(0, 8)), draw(st.integers(1, 5))
    vectors = draw(npst.arrays(np.float32, (rows, dim), elements=st.floats(width=32)))
    lists = st.lists(payloads, min_size=rows, max_size=rows)
    return Upsert(draw(st.lists(texts, min_size=rows, max_size=rows)), vectors, draw(lists))


@st.composite
def patches(draw: st.DrawFn) -> Patch:
    ids = draw(st.lists(texts, max_size=8))
    return Patch(ids, draw(st.lists(st.binary(min_size=1, max_size=30), min_size=len(ids), max_size=len(ids))))


operations = st.one_of(
    upserts(),
    patches(),
    st.builds(Delete, st.lists(texts, max_size=8)),
    st.just(Seal()),
    st.builds(Entry, st.binary()),
    st.builds(Once, st.binary(min_size=16, max_size=16)),
)


def joined(operation: Operation) -> bytes:
    return b"".join(encode_operation(operation))


def same(one: object, other: object) -> bool:
    if isinstance(one, Upsert) and isinstance(other, Upsert):
        vectors = one.vectors.shape == other.vectors.shape and one.vectors.tobytes() == other.vectors.tobytes()
        return vectors and (list(one.ids), list(one.payloads)) == (list(other.ids), list(other.payloads))
    return type(one) is type(other) and one == other


@given(operations)
def test_operations_come_back(operation: Operation) -> None:
    assert same(decode_operation(memoryview(joined(operation))), operation)


def test_vectors_are_not_copied_on_either_side() -> None:
    vectors = np.arange(6, dtype=np.float32).reshape(2, 3)
    parts = encode_operation(Upsert(["a", "b"], vectors, [None, b"{}"]))
    assert any(np.shares_memory(np.frombuffer(part, np.uint8), vectors.view(np.uint8)) for part in parts)
    body = b"".join(parts)
    decoded = decode_operation(memoryview(body))
    assert isinstance(decoded, Upsert)
    assert np.shares_memory(decoded.vectors.view(np.uint8), np.frombuffer(body, np.uint8))
    assert not decoded.vectors.flags.writeable


@pytest.mark.parametrize("layout", ["F", "strided", "big-endian"])
def test_vectors_of_any_layout_are_written_as_rows(layout: str) -> None:
    rows = np.arange(12, dtype=np.float32).reshape(4, 3)
    given_ = {"F": np.asfortranarray(rows), "strided": np.repeat(rows, 2, axis=1)[:, ::2], "big-endian": rows}[layout]
    decoded = decode_operation(memoryview(joined(Upsert(list("abcd"), given_, [None] * 4))))
    assert isinstance(decoded, Upsert)
    np.testing.assert_array_equal(decoded.vectors, rows)


@pytest.mark.parametrize(
    "operation",
    [
        Upsert(["a"], np.zeros((2, 3), np.float32), [None, None]),
        Upsert(["a"], np.zeros((1, 3), np.float32), []),
        Upsert(["a"], np.zeros((1, 3), np.float64), [None]),  # type: ignore[arg-type]
        Upsert(["a"], np.zeros(3, np.float32), [None]),
        Upsert(["a"], np.zeros((1, 3), np.float32), [b""]),
        Upsert(["\ud800"], np.zeros((1, 3), np.float32), [None]),
        Patch(["a"], []),
        Patch(["a"], [b""]),
        Delete(["\udfff"]),
    ],
    ids=str,
)
def test_what_cannot_be_written_is_refused(operation: Operation) -> None:
    with pytest.raises(InvalidInputError) as caught:
        encode_operation(operation)
    assert caught.value.code == "invalid_batch"


def test_an_operation_above_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "BATCH_BYTES_MAX", 1000)
    encode_operation(Upsert(["a"], np.zeros((1, 200), np.float32), [None]))
    with pytest.raises(InvalidInputError, match="at most 1,000") as caught:
        encode_operation(Upsert(["a"], np.zeros((1, 250), np.float32), [None]))
    assert caught.value.code == "batch_too_large"


HEAD = struct.Struct("<IIIIQQ")


@pytest.mark.parametrize(
    "section",
    [
        b"",
        bytes(31),
        HEAD.pack(0, 0, 0, 0, 0, 0),
        HEAD.pack(6, 0, 0, 0, 0, 0),
        HEAD.pack(4, 0, 0, 1, 0, 0),
        HEAD.pack(2, 0, 3, 0, 0, 0),
        HEAD.pack(1, 0, 3, 0, 0, 0) + b"x",
        HEAD.pack(1, 2**32 - 1, 2**32 - 1, 0, 0, 0),
        HEAD.pack(2, 1, 0, 0, 1, 0) + struct.pack("<II", 0, 2) + b"a",
        HEAD.pack(2, 1, 0, 0, 1, 0) + struct.pack("<II", 1, 0) + b"a",
        HEAD.pack(2, 1, 0, 0, 1, 0) + struct.pack("<II", 0, 1) + b"\xff",
        HEAD.pack(3, 1, 0, 0, 1, 1) + struct.pack("<IIII", 0, 1, 0, 9) + b"ab",
    ],
    ids=lambda section: section.hex()[:80],
)
def test_bytes_that_hold_no_operation_are_corruption(section: bytes) -> None:
    with pytest.raises(CorruptionError):
        decode_operation(memoryview(section))
