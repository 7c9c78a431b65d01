"""What the log says: operations, the batches they come in, and their bytes, column by column (docs/formats/slot.md)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias
from uuid import UUID

import numpy as np
import numpy.typing as npt

from akidb.codec import pack, pack_text, unpack, unpack_text
from akidb.codec.frame import Buffer
from akidb.errors import CorruptionError, InvalidInputError
from akidb.types import VectorArray

BATCH_BYTES_MAX = 64 << 20
"""A batch is one slot's content or part of it, never split: what a reader sees of it, it sees at once."""


@dataclass(frozen=True, slots=True, eq=False)
class Upsert:
    """Whole points: what is stored under these ids is replaced.

    vectors is float32 of shape (n, dim); payloads holds JSON text or None. Of an id given twice the last one stays.
    """

    ids: Sequence[str]
    vectors: VectorArray
    payloads: Sequence[bytes | None]


@dataclass(frozen=True, slots=True)
class Delete:
    """Tombstones; an id that is not there is no error."""

    ids: Sequence[str]


@dataclass(frozen=True, slots=True)
class Patch:
    """Payload changes: `patches[i]` is JSON text to be merged into the payload of `ids[i]`."""

    ids: Sequence[str]
    patches: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Seal:
    """The last operation of a log: the collection is dropped."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One record of a catalogue's log, as JSON text."""

    json: bytes


@dataclass(frozen=True, slots=True)
class Once:
    """Says of its batch, whose first operation it is, that it is a request which may be sent again and is done once:
    the batch's uuid is the request's, and `fingerprint` (16 bytes) tells it from another under the same key."""

    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class Revert:
    """From here on the points are those of snapshot `uuid`, whose manifest object was made in `epoch`. It has a slot of
    its own, and HEAD names the snapshot until that slot is folded."""

    uuid: UUID
    epoch: int


@dataclass(frozen=True, slots=True)
class Unpin:
    """Drops snapshot `uuid`: nothing reverts to it from here on, and the fold of this slot takes it out of HEAD."""

    uuid: UUID


Operation: TypeAlias = Upsert | Delete | Patch | Seal | Entry | Once | Revert | Unpin


@dataclass(frozen=True, slots=True)
class Batch:
    """What one request wrote: applied whole and once. `uuid` is its identity wherever it is found."""

    uuid: UUID
    operations: Sequence[Operation]

    @property
    def once(self) -> Once | None:
        """What tells the request apart, if it may be sent again."""
        first = self.operations[0] if self.operations else None
        return first if isinstance(first, Once) else None

    @property
    def revert(self) -> Revert | None:
        """The snapshot whose points are taken, if that is what the batch does."""
        return next((operation for operation in self.operations if isinstance(operation, Revert)), None)

    @property
    def of_snapshots(self) -> bool:
        return any(isinstance(operation, Revert | Unpin) for operation in self.operations)


_FINGERPRINT_BYTES = 16
_HEAD = struct.Struct("<IIIIQQ")
_SNAPSHOT = struct.Struct("<16sQ")
_UPSERT, _DELETE, _PATCH, _SEAL, _ENTRY, _ONCE, _REVERT, _UNPIN = range(1, 9)
_NOTHING = np.zeros((0, 0), np.float32)


def encode_operation(operation: Operation) -> list[Buffer]:
    """The parts of an operation's section; vectors and blobs are not copied, so they must not change until it is put.

    Raises:
        InvalidInputError: lengths differ, a text is not UTF-8, a payload is empty, or it is above BATCH_BYTES_MAX.
    """
    match operation:
        case Upsert(ids, vectors, payloads):
            if vectors.ndim != 2 or vectors.dtype != np.float32 or not len(ids) == len(vectors) == len(payloads):
                raise _refused(
                    f"upsert of {len(ids)} ids, {len(payloads)} payloads, "
                    f"vectors of {vectors.dtype} {list(vectors.shape)}"
                )
            return _encode(_UPSERT, ids, payloads, vectors)
        case Delete(ids):
            return _encode(_DELETE, ids, None)
        case Patch(ids, patches):
            if len(ids) != len(patches):
                raise _refused(f"patch of {len(ids)} ids with {len(patches)} payloads")
            return _encode(_PATCH, ids, patches)
        case Seal():
            return _encode(_SEAL, (), None)
        case Entry(json):
            return [_HEAD.pack(_ENTRY, 0, 0, 0, 0, len(json)), json]
        case Once(fingerprint):
            return [_HEAD.pack(_ONCE, 0, 0, 0, 0, _FINGERPRINT_BYTES), fingerprint]
        case Revert(uuid, epoch):
            return [_HEAD.pack(_REVERT, 0, 0, 0, 0, _SNAPSHOT.size), _SNAPSHOT.pack(uuid.bytes, epoch)]
        case Unpin(uuid):
            return [_HEAD.pack(_UNPIN, 0, 0, 0, 0, _SNAPSHOT.size), _SNAPSHOT.pack(uuid.bytes, 0)]


def estimate_bytes(operation: Operation) -> int:
    """Roughly the size of its section, told without looking at each id."""
    match operation:
        case Upsert(ids, vectors, _):
            return vectors.nbytes + 256 * len(ids)
        case Delete(ids) | Patch(ids, _):
            return 256 * len(ids)
        case Entry(json):
            return len(json)
        case Seal() | Once() | Revert() | Unpin():
            return 0


def _encode(
    kind: int, ids: Sequence[str], payloads: Sequence[bytes | None] | None, vectors: VectorArray = _NOTHING
) -> list[Buffer]:
    if payloads is not None and b"" in payloads:
        raise _refused("a payload is empty, expected JSON text or None")
    try:
        id_ends, id_blob = pack_text(ids)
    except UnicodeEncodeError as error:
        raise _refused(f"an id is not UTF-8 text: {error}") from error
    ends, blob = pack(payloads) if payloads is not None else (id_ends[:0], b"")
    dim = vectors.shape[1]
    size = vectors.nbytes + len(id_blob) + len(blob) + 4 * (len(id_ends) + len(ends)) + _HEAD.size
    if size > BATCH_BYTES_MAX:
        raise InvalidInputError(
            f"an operation of {size:,} bytes, expected at most {BATCH_BYTES_MAX:,}; send it in parts",
            code="batch_too_large",
        )
    parts: list[Buffer] = [_HEAD.pack(kind, len(ids), dim, 0, len(id_blob), len(blob))]
    if vectors.size:
        parts.append(memoryview(np.ascontiguousarray(vectors, "<f4")).cast("B"))  # type: ignore[arg-type]
    if len(ids):
        parts += [id_ends.astype("<u4").tobytes(), ends.astype("<u4").tobytes(), id_blob, blob]
    return parts


def _refused(what: str) -> InvalidInputError:
    return InvalidInputError(what, code="invalid_batch")


def decode_operation(section: memoryview) -> Operation:
    """The inverse of encode_operation; vectors are a read-only view of `section`.

    Raises:
        CorruptionError: it is none, says what does not fit; the caller knows the object's name.
    """
    if len(section) < _HEAD.size:
        raise CorruptionError(f"an operation of {len(section)} bytes")
    kind, rows, dim, reserved, id_size, blob_size = _HEAD.unpack_from(section)
    if not _UPSERT <= kind <= _UNPIN or reserved or (dim and kind != _UPSERT):
        raise CorruptionError(f"an operation of unknown kind {kind}")
    with_payloads = kind in (_UPSERT, _PATCH)
    offsets_size = 4 * (rows + 1) * (1 + with_payloads) if rows else 0
    at_offsets = _HEAD.size + 4 * rows * dim
    at_ids = at_offsets + offsets_size
    if len(section) != at_ids + id_size + blob_size or (id_size and not rows):
        raise CorruptionError(f"an operation of {len(section)} bytes does not hold what its header says")
    if kind == _SEAL:
        return Seal()
    if kind == _ENTRY:
        return Entry(bytes(section[at_ids:]))
    if kind == _ONCE:
        if blob_size != _FINGERPRINT_BYTES:
            raise CorruptionError(f"a fingerprint of {blob_size} bytes, expected {_FINGERPRINT_BYTES}")
        return Once(bytes(section[at_ids:]))
    if kind in (_REVERT, _UNPIN):
        if blob_size != _SNAPSHOT.size:
            raise CorruptionError(f"the name of a snapshot in {blob_size} bytes, expected {_SNAPSHOT.size}")
        uuid, epoch = _SNAPSHOT.unpack(section[at_ids:])
        return Revert(UUID(bytes=uuid), epoch) if kind == _REVERT else Unpin(UUID(bytes=uuid))
    offsets = np.frombuffer(section[at_offsets:at_ids], "<u4").astype(np.uint64).reshape(-1, rows + 1) if rows else None
    ids = [] if offsets is None else unpack_text(offsets[0], section[at_ids : at_ids + id_size])
    if kind == _DELETE:
        return Delete(ids)
    blobs = [] if offsets is None else unpack(offsets[1], section[at_ids + id_size :])
    if kind == _PATCH:
        return Patch(ids, blobs)
    vectors: npt.NDArray[np.float32] = np.frombuffer(section[_HEAD.size : at_offsets], "<f4").reshape(rows, dim)
    return Upsert(ids, vectors, [blob or None for blob in blobs])
