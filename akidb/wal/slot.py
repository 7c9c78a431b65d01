"""One slot of the log and its bytes: batches under one LSN, chained to the slot before (docs/formats/slot.md)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from uuid import UUID

from xxhash import xxh3_128_digest

from akidb.codec import frame
from akidb.codec.frame import KIND_SLOT, Buffer
from akidb.errors import CorruptionError
from akidb.types import Lsn
from akidb.wal.record import Batch, Revert, decode_operation, encode_operation

SLOT_BYTES_TARGET = 8 << 20
"""Group commit adds no batch past this. One batch alone may be larger, up to record.BATCH_BYTES_MAX."""

CHAIN_START = bytes(16)
"""prev_hash of slot 1."""

_META = struct.Struct("<Q16s16sIIQ")
_BATCH = struct.Struct("<16sII")
_ALIGNMENT = 16  # what a bytes object's content has in memory; more would be padding that no reader gains by


@dataclass(frozen=True, slots=True)
class Slot:
    """What the log holds at `lsn`. `digest` is XXH3-128 of the slot's bytes, known once they are; `prev_hash` is the
    digest of slot lsn - 1, CHAIN_START for slot 1. `writer` names the process that put it.
    """

    lsn: Lsn
    shard: UUID
    writer: UUID
    prev_hash: bytes
    batches: Sequence[Batch]
    digest: bytes = b""

    @property
    def revert(self) -> tuple[UUID, Revert] | None:
        """The batch that reverts, and to what; nothing else is in such a slot."""
        found = ((batch.uuid, batch.revert) for batch in self.batches)
        return next(((uuid, revert) for uuid, revert in found if revert is not None), None)

    @property
    def rows(self) -> int:
        """Ids that applying it has to look at."""
        return sum(len(getattr(operation, "ids", ())) for batch in self.batches for operation in batch.operations)


def encode_slot(
    slot: Slot, *, kind: int = KIND_SLOT, encoded: Sequence[Sequence[list[Buffer]]] | None = None
) -> tuple[bytes, Slot]:
    """The slot's bytes, and the slot with their digest.

    `encoded` may hold encode_operation of each operation of each batch, so that a slot lost to another writer costs no
    second packing. Holds the GIL for no longer than a millisecond at a time.
    """
    if encoded is None:
        encoded = [[encode_operation(operation) for operation in batch.operations] for batch in slot.batches]
    meta = [_META.pack(slot.lsn, slot.writer.bytes, slot.prev_hash, len(slot.batches), 0, 0)]
    meta += [_BATCH.pack(batch.uuid.bytes, len(batch.operations), 0) for batch in slot.batches]
    sections: dict[str, frame.Section] = {"slot": b"".join(meta)}
    for operations in encoded:
        for parts in operations:
            sections[f"{len(sections):08x}"] = parts
    features = frame.REQUESTS if any(batch.once is not None for batch in slot.batches) else 0
    features |= frame.SNAPSHOTS if any(batch.of_snapshots for batch in slot.batches) else 0
    body = frame.encode(kind, slot.shard, sections, alignment=_ALIGNMENT, must_understand=features)
    return body, replace(slot, digest=xxh3_128_digest(body))


def decode_slot(body: Buffer, *, lsn: Lsn, shard: UUID, name: str, kind: int = KIND_SLOT) -> Slot:
    """The slot in `body`, whose key `name` says that it is `lsn` of `shard`. Vectors are views of `body`.

    Raises:
        CorruptionError: a checksum, a length, the LSN or the shard is wrong (code `newer_format`: of a later AkiDB).
    """
    opened = frame.decode(body, kind=kind, name=name)
    try:
        if opened.uuid != shard:
            raise CorruptionError(f"it belongs to shard {opened.uuid}, expected {shard}")
        meta, *operations = opened.sections.values()
        said, writer, prev_hash, count, term, reserved = _META.unpack_from(meta)
        if said != lsn:
            raise CorruptionError(f"it says it is slot {said}, expected {lsn}")
        if len(meta) != _META.size + count * _BATCH.size or term or reserved:
            raise CorruptionError(
                f"its batch list is {len(meta)} bytes long, expected {_META.size + count * _BATCH.size}"
            )
        sizes = list(_BATCH.iter_unpack(meta[_META.size :]))
        if sum(size for _, size, _ in sizes) != len(operations):
            raise CorruptionError(f"it holds {len(operations)} operations, its batch list says otherwise")
        rest = map(decode_operation, operations)
        batches = [Batch(UUID(bytes=uuid), list(islice(rest, size))) for uuid, size, _ in sizes]
    except (CorruptionError, ValueError, struct.error) as error:
        raise CorruptionError(str(error), key=name) from error
    return Slot(lsn, shard, UUID(bytes=writer), prev_hash, batches, xxh3_128_digest(body))
