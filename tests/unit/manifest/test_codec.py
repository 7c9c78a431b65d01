"""HEAD's bytes: they come back, and damage of any kind is named."""

from __future__ import annotations

import struct
from dataclasses import replace
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from akidb.codec import decode, encode
from akidb.codec.frame import HEADER, KIND_CATALOGUE_HEAD, KIND_HEAD, crc32c
from akidb.errors import CorruptionError
from akidb.manifest import Head, Pin, RequestsRef, SegmentRef, decode_head, encode_head

SHARD = UUID(int=5)
u64, u32 = st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1)
refs = st.builds(
    SegmentRef,
    uuid=st.uuids(),
    key=st.text("abc/-09", max_size=30),
    rows=u64,
    live=u64,
    bytes=u64,
    lsn_max=u64,
    has_graph=st.booleans(),
    deletes_key=st.none() | st.text("abc/-09", max_size=30),
)
heads = st.builds(
    Head,
    version=u64,
    commit_id=st.uuids(),
    recent=st.lists(st.uuids(), max_size=64).map(tuple),
    segments=st.lists(refs, max_size=5).map(tuple),
    folded=u64,
    garbage=u64,
    gc_epoch=u64,
    term=u64,
    compaction_epoch=u64,
    chain=st.binary(min_size=16, max_size=16),
    live_count=u64,
    live_sum=st.binary(min_size=16, max_size=16),
    sealed=st.booleans(),
    collected=u32,
    settled=u64,
    requests=st.lists(st.builds(RequestsRef, uuid=st.uuids(), count=u64, written=u64, epoch=u64), max_size=3).map(
        tuple
    ),
    pins=st.lists(
        st.builds(
            Pin,
            name=st.text(max_size=9),
            uuid=st.uuids(),
            lsn=u64,
            created=u32,
            points=u64,
            epoch=u32,
            clone=st.booleans(),
        ),
        max_size=3,
    ).map(tuple),
)


@given(heads)
def test_head_comes_back(head: Head) -> None:
    assert decode_head(encode_head(head, shard=SHARD), shard=SHARD, name="x") == head


def test_two_swaps_never_have_the_same_bytes() -> None:
    first, second = uuid4(), uuid4()
    head = Head(version=1, commit_id=first, recent=(first,))
    again = replace(head, commit_id=second, recent=(second,))
    assert encode_head(head, shard=SHARD) != encode_head(again, shard=SHARD)


def test_every_single_bit_flip_is_noticed() -> None:
    ref = SegmentRef(uuid4(), "p/seg/0-1", 9, 8, 4096, 3, True, "p/del/2")
    body = bytearray(encode_head(Head(4, uuid4(), (uuid4(),), (ref,), 4), shard=SHARD))
    for bit in range(8 * len(body)):
        body[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptionError, match="object p/head"):
            decode_head(body, shard=SHARD, name="p/head")
        body[bit // 8] ^= 1 << bit % 8


def test_another_shards_head_is_refused() -> None:
    body = encode_head(Head(0, uuid4()), shard=UUID(int=6))
    with pytest.raises(CorruptionError, match="belongs to shard"):
        decode_head(body, shard=SHARD, name="x")


def test_a_catalogues_head_is_another_kind() -> None:
    body = encode_head(Head(0, uuid4()), shard=SHARD, kind=KIND_CATALOGUE_HEAD)
    with pytest.raises(CorruptionError, match="kind is 7, expected 2"):
        decode_head(body, shard=SHARD, name="x")
    assert decode_head(body, shard=SHARD, name="x", kind=KIND_CATALOGUE_HEAD).version == 0


def test_a_newer_major_says_so() -> None:
    body = bytearray(encode_head(Head(0, uuid4()), shard=SHARD))
    struct.pack_into("<H", body, 10, 2)
    body[60:64] = struct.pack("<I", crc32c(bytes(body[:60])))
    with pytest.raises(CorruptionError) as caught:
        decode_head(body, shard=SHARD, name="x")
    assert caught.value.code == "newer_format"


@pytest.mark.parametrize("missing", ["head", "recent", "segments", "keys"])
def test_a_missing_section_is_corruption(missing: str) -> None:
    body = encode_head(Head(0, uuid4()), shard=SHARD)
    sections = {name: bytes(data) for name, data in decode(body, kind=KIND_HEAD, name="x").sections.items()}
    del sections[missing]
    with pytest.raises(CorruptionError, match="object x"):
        decode_head(encode(KIND_HEAD, SHARD, sections), shard=SHARD, name="x")


@pytest.mark.parametrize(
    ("section", "content"),
    [
        ("head", b"short"),
        ("recent", bytes(17)),
        ("segments", bytes(HEADER.size)),
        ("keys", b""),
        ("keys", bytes(7) + b"\xff"),
        ("pins", bytes(5)),
        ("pins", bytes(42) + b"\x01\x00"),
        ("requests", bytes(32)),
    ],
)
def test_a_section_of_the_wrong_shape_is_corruption(section: str, content: bytes) -> None:
    body = encode_head(Head(0, uuid4()), shard=SHARD)
    sections = {name: bytes(data) for name, data in decode(body, kind=KIND_HEAD, name="x").sections.items()}
    with pytest.raises(CorruptionError, match="object x"):
        decode_head(encode(KIND_HEAD, SHARD, {**sections, section: content}), shard=SHARD, name="x")
