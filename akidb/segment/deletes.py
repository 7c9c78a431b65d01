"""Deletes objects: which rows of a segment are dead, as a small immutable bitmap that HEAD names beside the segment."""

from __future__ import annotations

from uuid import UUID

from pyroaring import BitMap

from akidb.codec.frame import KIND_DELETES, decode, encode
from akidb.errors import CorruptionError
from akidb.filter import from_mask, to_mask
from akidb.segment.columns import Mask

_REGION = "dead"


def encode_deletes(segment: UUID, live: Mask) -> bytes:
    """The object: a frame with the segment's uuid around a portable roaring bitmap of the rows that are not live."""
    dead = from_mask(~live)
    dead.run_optimize()
    return encode(KIND_DELETES, segment, {_REGION: dead.serialize()})


def decode_deletes(data: bytes, *, rows: int, name: str, segment: UUID | None = None) -> Mask:
    """The live mask, bool (rows,). `name` is the object's key; `segment` the uuid of the segment it must belong to.

    Raises:
        CorruptionError: checksums, the bitmap, its rows or its segment do not fit.
    """
    frame = decode(data, kind=KIND_DELETES, name=name)
    if segment is not None and frame.uuid != segment:
        raise CorruptionError(f"it belongs to segment {frame.uuid}, expected {segment}", key=name)
    if _REGION not in frame.sections:
        raise CorruptionError(f"region {_REGION} is missing", key=name)
    try:
        dead = BitMap.deserialize(bytes(frame.sections[_REGION]))
    except ValueError as error:
        raise CorruptionError(f"its bitmap can't be read: {error}", key=name) from error
    if dead and dead.max() >= rows:
        raise CorruptionError(f"row {dead.max()} is dead, the segment has {rows}", key=name)
    return ~to_mask(dead, rows)
