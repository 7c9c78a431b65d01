"""Slots and their bytes: every way one can be wrong is an error that names the object."""

from __future__ import annotations

import random
import struct
from uuid import UUID, uuid4

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh3_128_digest

from akidb.codec import decode, encode
from akidb.codec.frame import KIND_CATALOGUE_SLOT, KIND_SLOT, crc32c
from akidb.errors import CorruptionError
from akidb.wal import Batch, Delete, Entry, Seal, Slot, Upsert, decode_slot, encode_slot
from akidb.wal.record import encode_operation
from tests.unit.wal.test_record import operations, same

SHARD, WRITER = UUID(int=1), UUID(int=2)
NAME = "p/wal/0/7"
batches = st.lists(st.builds(Batch, st.uuids(), st.lists(operations, max_size=3)), max_size=4)


def _slot(*batch: Batch, lsn: int = 7) -> Slot:
    return Slot(lsn, SHARD, WRITER, bytes(range(16)), batch)


def _example() -> Slot:
    seeded = np.random.default_rng(3)
    vectors = seeded.standard_normal((20, 8), np.float32)
    upsert = Upsert([f"id-{i}" for i in range(20)], vectors, [b'{"n":%d}' % i if i % 2 else None for i in range(20)])
    return _slot(Batch(UUID(int=3), [upsert, Delete(["id-1"])]), Batch(UUID(int=4), [Delete(["é"])]))


def _decode(body: bytes, lsn: int = 7) -> Slot:
    return decode_slot(body, lsn=lsn, shard=SHARD, name=NAME)


@given(batches, st.integers(1, 2**63), st.binary(min_size=16, max_size=16))
def test_slots_come_back(content: list[Batch], lsn: int, prev_hash: bytes) -> None:
    body, slot = encode_slot(Slot(lsn, SHARD, WRITER, prev_hash, content))
    back = _decode(body, lsn)
    assert (back.lsn, back.shard, back.writer, back.prev_hash) == (lsn, SHARD, WRITER, prev_hash)
    assert back.digest == slot.digest == xxh3_128_digest(body)
    assert [batch.uuid for batch in back.batches] == [batch.uuid for batch in content]
    for one, other in zip(back.batches, content, strict=True):
        assert len(one.operations) == len(other.operations)
        assert all(map(same, one.operations, other.operations))


def test_operations_encoded_before_give_the_same_bytes() -> None:
    slot = _example()
    encoded = [[encode_operation(operation) for operation in batch.operations] for batch in slot.batches]
    assert encode_slot(slot, encoded=encoded) == encode_slot(slot)


def test_a_slot_larger_than_a_step_comes_back() -> None:
    vectors = np.random.default_rng(0).standard_normal((3000, 256), np.float32)
    body, slot = encode_slot(_slot(Batch(uuid4(), [Upsert([str(i) for i in range(3000)], vectors, [None] * 3000)])))
    back = _decode(body)
    assert back.digest == slot.digest
    upsert = back.batches[0].operations[0]
    assert isinstance(upsert, Upsert)
    np.testing.assert_array_equal(upsert.vectors, vectors)


def test_flipped_bits_at_a_thousand_places_are_noticed() -> None:
    body = bytearray(encode_slot(_example())[0])
    places = random.Random(11)
    for _ in range(1000):
        at, bit = places.randrange(len(body)), 1 << places.randrange(8)
        body[at] ^= bit
        with pytest.raises(CorruptionError, match=f"object {NAME}"):
            _decode(bytes(body))
        body[at] ^= bit
    _decode(bytes(body))


def test_truncation_anywhere_is_noticed() -> None:
    body = encode_slot(_example())[0]
    for length in range(0, len(body), 7):
        with pytest.raises(CorruptionError, match=f"object {NAME}"):
            _decode(body[:length])


def test_another_lsn_is_noticed() -> None:
    with pytest.raises(CorruptionError, match=f"object {NAME}: it says it is slot 7, expected 8"):
        _decode(encode_slot(_example())[0], lsn=8)


def test_another_shard_is_noticed() -> None:
    body = encode_slot(Slot(7, UUID(int=99), WRITER, bytes(16), []))[0]
    with pytest.raises(CorruptionError, match=f"object {NAME}: it belongs to shard"):
        _decode(body)


def test_a_catalogues_slot_is_another_kind() -> None:
    body = encode_slot(_slot(Batch(uuid4(), [Entry(b"{}")])), kind=KIND_CATALOGUE_SLOT)[0]
    with pytest.raises(CorruptionError, match="kind is 6, expected 1"):
        _decode(body)
    assert decode_slot(body, lsn=7, shard=SHARD, name=NAME, kind=KIND_CATALOGUE_SLOT).batches[0].operations


def test_a_newer_major_says_so() -> None:
    body = bytearray(encode_slot(_example())[0])
    struct.pack_into("<H", body, 10, 2)
    body[60:64] = struct.pack("<I", crc32c(bytes(body[:60])))
    with pytest.raises(CorruptionError, match="upgrade AkiDB") as caught:
        _decode(bytes(body))
    assert caught.value.code == "newer_format"


def _sections(slot: Slot) -> dict[str, bytes]:
    opened = decode(encode_slot(slot)[0], kind=KIND_SLOT, name=NAME)
    return {name: bytes(data) for name, data in opened.sections.items()}


META = struct.Struct("<Q16s16sIIQ")


@pytest.mark.parametrize(
    "meta",
    [
        b"",
        META.pack(7, bytes(16), bytes(16), 1, 0, 0),
        META.pack(7, bytes(16), bytes(16), 0, 1, 0),
        META.pack(7, bytes(16), bytes(16), 0, 0, 1),
        META.pack(7, bytes(16), bytes(16), 1, 0, 0) + struct.pack("<16sII", bytes(16), 2, 0),
        META.pack(7, bytes(16), bytes(16), 0, 0, 0),
    ],
    ids=["empty", "batch missing", "term", "reserved", "operation missing", "operation left over"],
)
def test_a_batch_list_that_does_not_fit_is_noticed(meta: bytes) -> None:
    sections = {**_sections(_slot(Batch(UUID(int=1), [Seal()]))), "slot": meta}
    with pytest.raises(CorruptionError, match=f"object {NAME}"):
        _decode(encode(KIND_SLOT, SHARD, sections, alignment=16))


def test_no_sections_at_all_are_noticed() -> None:
    with pytest.raises(CorruptionError, match=f"object {NAME}"):
        _decode(encode(KIND_SLOT, SHARD, {}))


def test_a_damaged_operation_names_the_object() -> None:
    sections = {**_sections(_slot(Batch(UUID(int=1), [Seal()]))), "00000001": bytes(32)}
    with pytest.raises(CorruptionError, match=f"object {NAME}: an operation of unknown kind 0"):
        _decode(encode(KIND_SLOT, SHARD, sections, alignment=16))
