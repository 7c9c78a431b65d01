"""Bytes of HEAD (docs/formats/head.md)."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from uuid import UUID

import numpy as np

from akidb.codec import decode, encode, pack_text, unpack_text
from akidb.codec.frame import CLONES, KIND_HEAD, REQUESTS, SNAPSHOTS, Buffer, Section
from akidb.errors import CorruptionError
from akidb.manifest.model import Head, Pin, RequestsRef, SegmentRef

_HEAD = struct.Struct("<Q16sQQQQQQ16s16sII")
_SEGMENT = struct.Struct("<16sQQQQII")
_REQUESTS = struct.Struct("<16sQQQ")
_PIN = struct.Struct("<16sQQIIHH")
_SEALED = _HAS_GRAPH = _CLONE = 1
_HAS_DELETES = 2


def encode_head(head: Head, *, shard: UUID, kind: int = KIND_HEAD) -> bytes:
    """The object's bytes. `shard` is the uuid of the shard that the HEAD belongs to."""
    fixed = _HEAD.pack(
        head.version, head.commit_id.bytes, head.folded, head.garbage, head.gc_epoch, head.term, head.compaction_epoch,
        head.live_count, head.chain, head.live_sum, _SEALED if head.sealed else 0,
        head.collected,
    )  # fmt: skip
    rows = [
        _SEGMENT.pack(
            ref.uuid.bytes, ref.rows, ref.live, ref.bytes, ref.lsn_max,
            (_HAS_GRAPH if ref.has_graph else 0) | (_HAS_DELETES if ref.deletes_key is not None else 0),
            ref.coarse_bytes,
        )
        for ref in head.segments
    ]  # fmt: skip
    offsets, keys = pack_text([key for ref in head.segments for key in (ref.key, ref.deletes_key or "")])
    sections: dict[str, Section] = {
        "head": fixed,
        "recent": b"".join(commit.bytes for commit in head.recent),
        "segments": b"".join(rows),
        "keys": [offsets.astype("<u8").tobytes(), keys],
    }
    must_understand = 0
    if head.requests:
        must_understand |= REQUESTS
        sections["requests"] = b"".join(
            _REQUESTS.pack(ref.uuid.bytes, ref.count, ref.written, ref.epoch) for ref in head.requests
        )
    if head.pins:
        must_understand |= SNAPSHOTS | (CLONES if head.lent else 0)
        sections["pins"] = b"".join(part for pin in head.pins for part in _encode_pin(pin))
    if head.settled:  # who swaps HEAD without it only keeps slots for longer
        sections["settled"] = head.settled.to_bytes(8, "little")
    return encode(kind, shard, sections, must_understand=must_understand)


def pins_bytes(pins: Iterable[Pin]) -> int:
    """What they take of HEAD."""
    return sum(_PIN.size + len(pin.name.encode()) for pin in pins)


def _encode_pin(pin: Pin) -> tuple[bytes, bytes]:
    name = pin.name.encode()
    return (
        _PIN.pack(
            pin.uuid.bytes, pin.lsn, pin.points, pin.created, pin.epoch, _CLONE if pin.clone else 0, len(name)
        ),
        name,
    )  # fmt: skip


def decode_head(body: Buffer, *, shard: UUID, name: str, kind: int = KIND_HEAD) -> Head:
    """The inverse. Raises CorruptionError naming the object."""
    frame = decode(body, kind=kind, name=name)
    try:
        if frame.uuid != shard:
            raise CorruptionError(f"it belongs to shard {frame.uuid}, expected {shard}")
        (
            version,
            commit,
            folded,
            garbage,
            gc_epoch,
            term,
            compaction_epoch,
            live_count,
            chain,
            live_sum,
            flags,
            collected,
        ) = _HEAD.unpack(frame.sections["head"])
        recent = bytes(frame.sections["recent"])
        return Head(
            version=version,
            commit_id=UUID(bytes=commit),
            recent=tuple(UUID(bytes=recent[at : at + 16]) for at in range(0, len(recent), 16)),
            segments=_decode_segments(frame.sections["segments"], frame.sections["keys"]),
            folded=folded,
            garbage=garbage,
            gc_epoch=gc_epoch,
            term=term,
            compaction_epoch=compaction_epoch,
            chain=chain,
            live_count=live_count,
            live_sum=live_sum,
            sealed=bool(flags & _SEALED),
            requests=tuple(
                RequestsRef(UUID(bytes=uuid), count, written, epoch)
                for uuid, count, written, epoch in _REQUESTS.iter_unpack(frame.sections.get("requests", b""))
            ),
            collected=collected,
            settled=int.from_bytes(frame.sections.get("settled", b""), "little"),
            pins=tuple(_decode_pins(frame.sections.get("pins", memoryview(b"")))),
        )
    except (CorruptionError, KeyError, ValueError, struct.error) as error:
        raise CorruptionError(str(error), key=name) from error


def _decode_pins(section: memoryview) -> Iterator[Pin]:
    at = 0
    while at < len(section):
        uuid, lsn, points, created, epoch, flags, size = _PIN.unpack_from(section, at)
        at += _PIN.size
        if at + size > len(section):
            raise CorruptionError(f"the name of snapshot {UUID(bytes=uuid)} reaches past the section")
        name = str(section[at : at + size], "utf-8")
        at += size
        yield Pin(name, UUID(bytes=uuid), lsn, created, points, epoch, bool(flags & _CLONE))


def _decode_segments(rows: memoryview, packed: memoryview) -> tuple[SegmentRef, ...]:
    count, rest = divmod(len(rows), _SEGMENT.size)
    at = 8 * (2 * count + 1)
    if rest or len(packed) < at:
        raise CorruptionError(f"its segment list is {len(rows)} bytes long, its keys {len(packed)}")
    keys = unpack_text(np.frombuffer(packed[:at], "<u8"), packed[at:])
    refs = []
    for i, (uuid, n, live, size, lsn_max, flags, coarse) in enumerate(_SEGMENT.iter_unpack(rows)):
        key, deletes_key = keys[2 * i : 2 * i + 2]
        with_deletes = deletes_key if flags & _HAS_DELETES else None
        if coarse > size:
            raise CorruptionError(f"its segment {key} of {size} bytes has a list directory of {coarse}")
        has_graph = bool(flags & _HAS_GRAPH)
        refs.append(SegmentRef(UUID(bytes=uuid), key, n, live, size, lsn_max, has_graph, with_deletes, coarse))
    return tuple(refs)
