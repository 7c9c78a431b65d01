"""Golden files of every version stay readable; the documents' worked examples are the bytes that are written."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest

from akidb.codec import encode
from akidb.codec.frame import KIND_FORMAT, KIND_MANIFEST
from akidb.collection.lease import Held, decode_lease, encode_lease
from akidb.collection.requests import RequestsObject, Written, decode_requests, encode_requests
from akidb.database.members import decode_node, encode_node
from akidb.manifest import Head, Pin, RequestsRef, SegmentRef, decode_head, encode_head
from akidb.wal import CHAIN_START, Batch, Once, Revert, Slot, Unpin, Upsert, decode_slot, encode_slot

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden"
SHARD, WRITER, BATCH = UUID(int=0x11), UUID(int=0x22), UUID(int=0x33)
UPSERT = Upsert(["a"], np.array([[1.0, -2.0]], np.float32), [b'{"n":1}'])
SLOT = Slot(1, SHARD, WRITER, CHAIN_START, [Batch(BATCH, [UPSERT])])
SEGMENT = SegmentRef(UUID(int=0x66), "t/seg/0-66", 1, 1, 4096, 1)


def _head() -> Head:
    chain = encode_slot(SLOT)[1].digest
    commits = UUID(int=0x44), UUID(int=0x55)
    return Head(1, commits[1], commits, (SEGMENT,), folded=2, garbage=1, chain=chain, live_count=1)


REQUEST = RequestsRef(UUID(int=0x77), 1, 1_700_000_000)
DONE = Written(1, 1, bytes(range(16)))
ONCE = Slot(1, SHARD, WRITER, CHAIN_START, [Batch(BATCH, [Once(DONE.fingerprint), UPSERT])])
PIN = Pin("first", UUID(int=0x88), 1, 1_700_000_000, 1)
LENT = Pin(UUID(int=0x99).hex, UUID(int=0x88), 1, 1_700_000_000, 1, clone=True)
REVERT = Slot(2, SHARD, WRITER, bytes(16), [Batch(BATCH, [Revert(PIN.uuid, PIN.epoch)])])
UNPIN = replace(REVERT, batches=[Batch(BATCH, [Unpin(PIN.uuid)])])


LEASE = Held(WRITER, 2, 7)
NODE = "http://10.0.0.5:8080"


def _written() -> dict[str, bytes]:
    requests = RequestsObject.of({BATCH: DONE})
    return {
        "requests": encode_requests(requests, uuid=REQUEST.uuid),
        "slot-once": encode_slot(ONCE)[0],
        "head-requests": encode_head(replace(_head(), requests=(REQUEST,)), shard=SHARD),
        "head-snapshots": encode_head(replace(_head(), pins=(PIN,)), shard=SHARD),
        "head-clones": encode_head(replace(_head(), pins=(LENT,)), shard=SHARD),
        "manifest": encode_head(replace(_head(), recent=()), shard=SHARD, kind=KIND_MANIFEST),
        "slot-revert": encode_slot(REVERT)[0],
        "slot-unpin": encode_slot(UNPIN)[0],
        "lease": encode_lease(LEASE, shard=SHARD),
        "node": encode_node(NODE, uuid=SHARD),
        "frame": encode(KIND_FORMAT, SHARD, {"format": b"{}"}),
        "slot": encode_slot(SLOT)[0],
        "head": encode_head(_head(), shard=SHARD),
    }


@pytest.mark.parametrize("name", ["frame", "slot", "head", "requests", "lease", "node"])
def test_the_worked_example_is_what_is_written(name: str) -> None:
    text = (ROOT / "docs" / "formats" / f"{name}.md").read_text()
    (dump,) = re.findall(r"```\n(0000 .*?)```", text, re.DOTALL)
    told = bytes.fromhex("".join(line[6:] for line in dump.splitlines()))
    assert told == _written()[name]


def test_the_slots_digest_is_told_right() -> None:
    assert encode_slot(SLOT)[1].digest.hex() in (ROOT / "docs" / "formats" / "slot.md").read_text()


def test_slot_1_0_is_read() -> None:
    body = (GOLDEN / "slot-1.0.bin").read_bytes()
    slot = decode_slot(body, lsn=1, shard=SHARD, name="slot-1.0.bin")
    (batch,) = slot.batches
    (upsert,) = batch.operations
    assert (slot.writer, slot.prev_hash, batch.uuid) == (WRITER, CHAIN_START, BATCH)
    assert isinstance(upsert, Upsert)
    assert (upsert.ids, upsert.payloads) == (["a"], [b'{"n":1}'])
    np.testing.assert_array_equal(upsert.vectors, UPSERT.vectors)


def test_head_1_0_is_read() -> None:
    body = (GOLDEN / "head-1.0.bin").read_bytes()
    assert decode_head(body, shard=SHARD, name="head-1.0.bin") == _head()


def test_lease_1_0_is_read() -> None:
    assert decode_lease((GOLDEN / "lease-1.0.bin").read_bytes(), shard=SHARD, name="x") == LEASE


def test_node_1_0_is_read() -> None:
    assert decode_node((GOLDEN / "node-1.0.bin").read_bytes(), name="x") == NODE


def test_requests_1_0_are_read() -> None:
    slot = decode_slot((GOLDEN / "slot-once-1.0.bin").read_bytes(), lsn=1, shard=SHARD, name="x")
    assert (slot.batches[0].uuid, slot.batches[0].once) == (BATCH, Once(DONE.fingerprint))
    head = decode_head((GOLDEN / "head-requests-1.0.bin").read_bytes(), shard=SHARD, name="x")
    assert head == replace(_head(), requests=(REQUEST,))
    requests = decode_requests((GOLDEN / "requests-1.0.bin").read_bytes(), REQUEST, name="x")
    assert requests.find(BATCH) == DONE


def test_snapshots_1_0_are_read() -> None:
    head = decode_head((GOLDEN / "head-snapshots-1.0.bin").read_bytes(), shard=SHARD, name="x")
    assert head == replace(_head(), pins=(PIN,))
    manifest = (GOLDEN / "manifest-1.0.bin").read_bytes()
    assert decode_head(manifest, shard=SHARD, name="x", kind=KIND_MANIFEST) == replace(_head(), recent=())
    for name, slot in (("slot-revert", REVERT), ("slot-unpin", UNPIN)):
        body = (GOLDEN / f"{name}-1.0.bin").read_bytes()
        assert decode_slot(body, lsn=2, shard=SHARD, name="x").batches[0].operations == slot.batches[0].operations


def test_who_knows_no_snapshots_is_told_of_a_newer_format() -> None:
    """Bit 1 of must_understand: a reader that knows bit 0 alone refuses, rather than lose what they keep."""
    for name in ("head-snapshots", "slot-revert", "slot-unpin"):
        assert (GOLDEN / f"{name}-1.0.bin").read_bytes()[14:16] == b"\2\0"


def test_clones_1_0_are_read() -> None:
    body = (GOLDEN / "head-clones-1.0.bin").read_bytes()
    head = decode_head(body, shard=SHARD, name="x")
    assert head == replace(_head(), pins=(LENT,))
    assert (head.lent, LENT.borrower) == ((LENT,), UUID(int=0x99))
    assert body[14:16] == b"\6\0", "who knows no clones is told of a newer format"


NAMES = [
    "slot", "slot-once", "slot-revert", "slot-unpin", "head", "head-requests", "head-snapshots", "head-clones",
    "manifest", "requests", "lease", "node",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_golden_files_of_this_version_are_what_is_written(name: str) -> None:
    assert (GOLDEN / f"{name}-1.0.bin").read_bytes() == _written()[name]
