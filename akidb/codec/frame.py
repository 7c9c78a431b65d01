"""The frame of every object that AkiDB puts into a store: a 64-byte header, then named sections, all checked.

Byte layout, little-endian (docs/formats/frame.md has the worked example):

    0   8  magic     b"AkiDB\\r\\n\\x1a"  (the line end and the ^Z show text-mode damage at once)
    8   2  kind      slot 1, HEAD 2, segment 3, deletes 4, format 5, catalogue slot 6, catalogue HEAD 7
    10  2  major     a reader refuses a major it does not know
    12  2  minor
    14  2  must_understand   bits; a reader refuses a bit it does not know
    16  8  length    of the whole object in bytes
    24  8  directory offset of the section directory
    32  16 uuid      of the object, or of what it belongs to
    48  4  section count
    52  4  directory CRC32C
    56  4  reserved  0
    60  4  CRC32C of bytes 0..59

A directory entry is 32 bytes: name (8 bytes, ASCII, zero padded), offset u64, length u64, CRC32C u32, reserved u32 0.
Sections begin at multiples of `alignment` and are followed by zeros up to the next one.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias
from uuid import UUID

import google_crc32c

from akidb.errors import CorruptionError

MAGIC = b"AkiDB\r\n\x1a"
HEADER = struct.Struct("<8sHHHHQQ16sIIII")
ENTRY = struct.Struct("<8sQQII")
MAJOR = 1
MINOR = 0

KIND_SLOT, KIND_HEAD, KIND_SEGMENT, KIND_DELETES, KIND_FORMAT, KIND_CATALOGUE_SLOT, KIND_CATALOGUE_HEAD = range(1, 8)

Buffer: TypeAlias = bytes | bytearray | memoryview


CRC_STEP = 1 << 20
"""A checksum takes bytes only: other buffers are copied, this much at a time, since a segment's region can be gigabytes."""


def crc32c(data: Buffer) -> int:
    """CRC-32C (Castagnoli, RFC 3720 appendix B.4)."""
    if isinstance(data, bytes):
        return int(google_crc32c.value(data))
    view, crc = memoryview(data).cast("B"), 0
    for at in range(0, len(view), CRC_STEP):
        crc = google_crc32c.extend(crc, bytes(view[at : at + CRC_STEP]))
    return int(crc)


@dataclass(frozen=True, slots=True)
class Frame:
    """An opened object: its identity and views of its sections, without copies."""

    kind: int
    uuid: UUID
    sections: Mapping[str, memoryview]


def encode(kind: int, uuid: UUID, sections: Mapping[str, Buffer], *, alignment: int = 8) -> bytes:
    """The bytes of an object. Order of `sections` is the order in the object; the directory comes last."""
    parts: list[Buffer] = [b"\0" * HEADER.size]
    entries: list[bytes] = []
    offset = HEADER.size

    def pad() -> None:
        nonlocal offset
        fill = -offset % alignment
        if fill:
            parts.append(b"\0" * fill)
            offset += fill

    for name, data in sections.items():
        pad()
        view = memoryview(data).cast("B")
        entries.append(ENTRY.pack(name.encode("ascii"), offset, len(view), crc32c(view), 0))
        parts.append(view)
        offset += len(view)
    directory = b"".join(entries)
    head = HEADER.pack(
        MAGIC, kind, MAJOR, MINOR, 0, offset + len(directory), offset, uuid.bytes, len(entries), crc32c(directory), 0, 0
    )
    parts[0] = head[:60] + struct.pack("<I", crc32c(head[:60]))
    parts.append(directory)
    return b"".join(parts)


def decode(data: Buffer, *, kind: int, name: str, verify: bool = True) -> Frame:
    """Opens an object of `kind`; `name` is its key, for the message. `verify=False` leaves the sections' checksums unread.

    Raises:
        CorruptionError: anything does not fit; a newer major or an unknown must-understand bit says so.
    """
    view = memoryview(data).cast("B")

    def bad(what: str) -> CorruptionError:
        return CorruptionError(f"object {name}: {what}")

    if len(view) < HEADER.size:
        raise bad(f"{len(view)} bytes are too few for a header")
    magic, got_kind, major, _minor, must, length, at, raw_uuid, count, dir_crc, _, head_crc = HEADER.unpack(view[: HEADER.size])
    if magic != MAGIC:
        raise bad("it is not an AkiDB object (wrong magic)")
    if crc32c(view[:60]) != head_crc:
        raise bad("the header fails its checksum")
    if major != MAJOR or must:
        raise CorruptionError(
            f"object {name}: format {major} with features {must:#x} is newer than this AkiDB reads ({MAJOR}); upgrade AkiDB",
            code="newer_format",
        )
    if got_kind != kind:
        raise bad(f"kind is {got_kind}, expected {kind}")
    if length != len(view) or at + count * ENTRY.size != length:
        raise bad(f"length is {len(view)}, the header says {length}")
    directory = view[at:length]
    if crc32c(directory) != dir_crc:
        raise bad("the section directory fails its checksum")
    sections: dict[str, memoryview] = {}
    for i in range(count):
        raw, offset, size, crc, _ = ENTRY.unpack_from(directory, i * ENTRY.size)
        section = raw.rstrip(b"\0").decode("ascii", "replace")
        if offset < HEADER.size or offset + size > at:
            raise bad(f"section {section} lies outside the object")
        body = view[offset : offset + size]
        if verify and crc32c(body) != crc:
            raise bad(f"section {section} fails its checksum")
        sections[section] = body
    return Frame(got_kind, UUID(bytes=raw_uuid), sections)
