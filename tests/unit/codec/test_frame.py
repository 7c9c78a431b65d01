"""The frame shows every damaged bit, and takes its parts without caring how they are cut."""

from __future__ import annotations

import random
import struct
from uuid import UUID

import google_crc32c
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from akidb.codec.frame import CRC_STEP, HEADER, KIND_HEAD, KIND_SLOT, crc32c, decode, encode
from akidb.errors import CorruptionError

SHARD = UUID(int=7)
SECTIONS = {"a": b"first", "b": b"", "c": bytes(range(100))}


def _sealed(head: bytes) -> bytes:
    return head[:60] + struct.pack("<I", crc32c(head[:60]))


@given(
    st.dictionaries(st.text("abcdefgh", min_size=1, max_size=8), st.binary(max_size=200), max_size=6),
    st.sampled_from([1, 8, 16, 64]),
)
def test_sections_come_back_as_they_went_in(sections: dict[str, bytes], alignment: int) -> None:
    opened = decode(encode(KIND_SLOT, SHARD, sections, alignment=alignment), kind=KIND_SLOT, name="x")
    assert {name: bytes(data) for name, data in opened.sections.items()} == sections
    assert opened.uuid == SHARD


def test_sections_begin_at_multiples_of_the_alignment() -> None:
    body = encode(KIND_SLOT, SHARD, SECTIONS, alignment=64)
    for data in decode(body, kind=KIND_SLOT, name="x").sections.values():
        where = np.frombuffer(data, np.uint8).ctypes.data if len(data) else 0
        assert where == 0 or (where - np.frombuffer(body, np.uint8).ctypes.data) % 64 == 0


def test_parts_make_the_same_bytes_as_their_sum() -> None:
    large = np.arange(CRC_STEP, dtype=np.float32)
    parts = [b"head", memoryview(large), b"", b"tail"]
    joined = b"head" + large.tobytes() + b"tail"
    assert encode(KIND_SLOT, SHARD, {"a": parts}) == encode(KIND_SLOT, SHARD, {"a": joined})
    assert crc32c(*parts) == google_crc32c.value(joined)


def test_checksum_of_the_rfc_example() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytearray(b"12345"), memoryview(b"6789")) == 0xE3069283


def test_every_single_bit_flip_is_noticed() -> None:
    body = bytearray(encode(KIND_SLOT, SHARD, SECTIONS, alignment=64))
    for bit in range(8 * len(body)):
        body[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptionError, match="object x"):
            decode(body, kind=KIND_SLOT, name="x")
        body[bit // 8] ^= 1 << bit % 8
    decode(body, kind=KIND_SLOT, name="x")


def test_every_truncation_and_any_growth_is_noticed() -> None:
    body = encode(KIND_SLOT, SHARD, SECTIONS)
    for length in range(len(body)):
        with pytest.raises(CorruptionError, match="object x"):
            decode(body[:length], kind=KIND_SLOT, name="x")
    with pytest.raises(CorruptionError, match="length"):
        decode(body + b"\0", kind=KIND_SLOT, name="x")


@pytest.mark.parametrize(("fill", "fine"), [(bytes(8), True), (bytes(7) + b"x", False)], ids=["zeros", "else"])
def test_only_zeros_may_lie_before_the_directory(fill: bytes, fine: bool) -> None:
    body = encode(KIND_SLOT, SHARD, {"a": b"12345678"})
    at = HEADER.size + 8
    moved = bytearray(body[:at] + fill + body[at:])
    struct.pack_into("<QQ", moved, 16, len(moved), at + 8)
    moved[: HEADER.size] = _sealed(bytes(moved[: HEADER.size]))
    if fine:
        assert bytes(decode(moved, kind=KIND_SLOT, name="x").sections["a"]) == b"12345678"
    else:
        with pytest.raises(CorruptionError, match="padding before the directory"):
            decode(moved, kind=KIND_SLOT, name="x")


@pytest.mark.parametrize("second", ["a", "b"])
def test_sections_that_overlap_or_come_twice_are_refused(second: str) -> None:
    body = bytearray(encode(KIND_SLOT, SHARD, {"a": b"12345678", "c": b"12345678"}))
    directory = HEADER.size + 16
    body[directory + 32 : directory + 40] = second.encode().ljust(8, b"\0")
    offset = HEADER.size if second == "b" else HEADER.size + 8
    struct.pack_into("<Q", body, directory + 40, offset)
    struct.pack_into("<I", body, 52, crc32c(bytes(body[directory:])))
    body[: HEADER.size] = _sealed(bytes(body[: HEADER.size]))
    with pytest.raises(CorruptionError, match=f"section {second} lies"):
        decode(body, kind=KIND_SLOT, name="x")


@pytest.mark.parametrize(("at", "fmt", "value"), [(10, "<H", 2), (14, "<H", 1 << 15)], ids=["major", "must_understand"])
def test_a_newer_format_says_so(at: int, fmt: str, value: int) -> None:
    body = bytearray(encode(KIND_SLOT, SHARD, SECTIONS))
    struct.pack_into(fmt, body, at, value)
    body[: HEADER.size] = _sealed(bytes(body[: HEADER.size]))
    with pytest.raises(CorruptionError, match="upgrade AkiDB") as caught:
        decode(body, kind=KIND_SLOT, name="x")
    assert caught.value.code == "newer_format"


def test_a_newer_minor_is_read() -> None:
    body = bytearray(encode(KIND_SLOT, SHARD, SECTIONS))
    struct.pack_into("<H", body, 12, 9)
    body[: HEADER.size] = _sealed(bytes(body[: HEADER.size]))
    assert bytes(decode(body, kind=KIND_SLOT, name="x").sections["a"]) == b"first"


def test_another_kind_is_refused() -> None:
    with pytest.raises(CorruptionError, match="kind is 2, expected 1"):
        decode(encode(KIND_HEAD, SHARD, {}), kind=KIND_SLOT, name="x")


def test_unverified_sections_are_not_read_but_the_directory_is() -> None:
    body = bytearray(encode(KIND_SLOT, SHARD, SECTIONS))
    body[HEADER.size] ^= 1
    assert len(decode(body, kind=KIND_SLOT, name="x", verify=False).sections) == 3
    body[-1] ^= 1
    with pytest.raises(CorruptionError, match="directory"):
        decode(body, kind=KIND_SLOT, name="x", verify=False)


def test_damage_of_several_bytes_is_noticed() -> None:
    seeded = random.Random(1)
    body = encode(KIND_SLOT, SHARD, {"a": seeded.randbytes(5000)})
    for _ in range(300):
        start = seeded.randrange(len(body) - 16)
        damaged = body[:start] + seeded.randbytes(16) + body[start + 16 :]
        with pytest.raises(CorruptionError):
            decode(damaged, kind=KIND_SLOT, name="x")
