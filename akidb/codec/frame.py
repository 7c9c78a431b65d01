"""The frame of every object that AkiDB puts into a store: a 64-byte header, then named sections, all checked.

Byte layout, little-endian (docs/formats/frame.md has the worked example):

    0   8  magic     b"AkiDB\\r\\n\\x1a"  (the line end and the ^Z show text-mode damage at once)
    8   2  kind      slot 1, HEAD 2, segment 3, deletes 4, format 5, catalogue slot 6, catalogue HEAD 7, requests 8,
                     manifest 9, lease 10, node 11
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
Sections lie in the directory's order, begin at multiples of `alignment`, and what is between them is zero.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias
from uuid import UUID

import google_crc32c
import numpy as np

from akidb.errors import CorruptionError

MAGIC = b"AkiDB\r\n\x1a"
HEADER = struct.Struct("<8sHHHHQQ16sIIII")
ENTRY = struct.Struct("<8sQQII")
MAJOR = 1
MINOR = 0

KIND_SLOT, KIND_HEAD, KIND_SEGMENT, KIND_DELETES, KIND_FORMAT, KIND_CATALOGUE_SLOT, KIND_CATALOGUE_HEAD = range(1, 8)
KIND_REQUESTS, KIND_MANIFEST, KIND_LEASE, KIND_NODE = 8, 9, 10, 11

REQUESTS = 1
"""Must-understand bit of slots and HEADs that tell of requests by their key: who ignored them would do one twice."""

SNAPSHOTS = 2
"""Must-understand bit of slots and HEADs that tell of snapshots: who ignored them would lose what they keep."""

CLONES = 4
"""Must-understand bit of HEADs that keep objects for a clone: who dropped the collection without looking for these
would lose the clone's points."""

_KNOWN = REQUESTS | SNAPSHOTS | CLONES

Buffer: TypeAlias = bytes | bytearray | memoryview

Section: TypeAlias = Buffer | Sequence[Buffer]
"""The bytes of a section, or the parts that make it up: large parts are copied once, into the object."""

CRC_STEP = 1 << 20
"""Work that holds the GIL is done in pieces of this size, so that other threads get their turn between two of them."""


def crc32c(*parts: Buffer, after: int = 0) -> int:
    """CRC-32C (Castagnoli, RFC 3720 appendix B.4) of the parts as one text, that of checksum `after` being before them;
    without copying them."""
    crc = after
    for part in parts:
        if type(part) is bytes and len(part) <= CRC_STEP:
            crc = google_crc32c.extend(crc, part)
        else:  # google_crc32c refuses a memoryview; an array over the same memory it takes
            data = np.frombuffer(part, np.uint8)
            for start in range(0, len(data), CRC_STEP):
                crc = google_crc32c.extend(crc, data[start : start + CRC_STEP])
    return int(crc)


def _join(parts: Sequence[Buffer], length: int) -> bytes:
    """b"".join in pieces: one memcpy of 64 MiB would keep the GIL from the event loop for tens of milliseconds."""
    if length <= CRC_STEP:
        return b"".join(parts)
    out = io.BytesIO()
    for part in parts:
        view = memoryview(part).cast("B")
        for start in range(0, len(view), CRC_STEP):
            out.write(view[start : start + CRC_STEP])
    return out.getvalue()


@dataclass(frozen=True, slots=True)
class Frame:
    """An opened object: its identity and views of its sections, without copies; `checksums` are those that were put
    into it, by section."""

    kind: int
    uuid: UUID
    sections: Mapping[str, memoryview]
    checksums: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a section lies in the object, and the CRC-32C of its bytes."""

    name: str
    offset: int
    size: int
    crc: int


@dataclass(frozen=True, slots=True)
class Directory:
    """What header and directory tell; `offset` is the directory's own."""

    kind: int
    uuid: UUID
    offset: int
    entries: Sequence[Entry]


def encode(
    kind: int, uuid: UUID, sections: Mapping[str, Section], *, alignment: int = 8, must_understand: int = 0
) -> bytes:
    """The bytes of an object. Order of `sections` is the order in the object; the directory comes last."""
    parts: list[Buffer] = [b""]
    entries: list[bytes] = []
    offset = HEADER.size
    for name, section in sections.items():
        if fill := -offset % alignment:
            parts.append(bytes(fill))
            offset += fill
        pieces = [section] if isinstance(section, bytes | bytearray | memoryview) else section
        views = [piece if type(piece) is bytes else memoryview(piece).cast("B") for piece in pieces]
        size = sum(map(len, views))
        entries.append(ENTRY.pack(name.encode("ascii"), offset, size, crc32c(*views), 0))
        parts += views
        offset += size
    directory = b"".join(entries)
    length = offset + len(directory)
    head = HEADER.pack(
        MAGIC, kind, MAJOR, MINOR, must_understand, length, offset, uuid.bytes, len(entries), crc32c(directory), 0, 0
    )[:60]
    parts[0] = head + struct.pack("<I", crc32c(head))
    parts.append(directory)
    return _join(parts, length)


def decode(data: Buffer, *, kind: int, name: str, verify: bool | Collection[str] = True) -> Frame:
    """Opens an object of `kind`; `name` is its key, for the message.

    `verify=False` leaves the sections unread; names of sections have those alone compared with their checksums.

    Raises:
        CorruptionError: anything does not fit; a newer major or an unknown must-understand bit says so.
    """
    view = memoryview(data).cast("B")
    directory = read_directory(lambda start, end: view[start:end], len(view), kind=kind, name=name)
    sections: dict[str, memoryview] = {}
    end = HEADER.size
    for entry in directory.entries:
        body = view[entry.offset : entry.offset + entry.size]
        if verify is True and any(view[end : entry.offset]):
            raise CorruptionError(f"the padding before section {entry.name} is not zero", key=name)
        if (verify if isinstance(verify, bool) else entry.name in verify) and crc32c(body) != entry.crc:
            raise unlike_checksum(name, entry.name)
        sections[entry.name] = body
        end = entry.offset + entry.size
    if verify is True and any(view[end : directory.offset]):
        raise CorruptionError("the padding before the directory is not zero", key=name)
    return Frame(directory.kind, directory.uuid, sections, {entry.name: entry.crc for entry in directory.entries})


def unlike_checksum(name: str, section: str) -> CorruptionError:
    """Says that a section of an object is not what was put there."""
    return CorruptionError(f"section {section} fails its checksum", key=name)


def read_directory(read: Callable[[int, int], Buffer], length: int, *, kind: int, name: str) -> Directory:
    """The directory of an object of `length` bytes, of which `read(start, end)` gives some. Raises as `decode`."""

    def bad(what: str) -> CorruptionError:
        return CorruptionError(what, key=name)

    if length < HEADER.size:
        raise bad(f"{length} bytes are too few for a header")
    head = memoryview(read(0, HEADER.size))
    magic, got_kind, major, _minor, must, told, at, raw_uuid, count, dir_crc, _, head_crc = HEADER.unpack(head)
    if magic != MAGIC:
        raise bad("it is not an AkiDB object (wrong magic)")
    if crc32c(head[:60]) != head_crc:
        raise bad("the header fails its checksum")
    if major != MAJOR or must & ~_KNOWN:
        raise CorruptionError(
            f"format {major} with features {must:#x} is newer than this AkiDB reads ({MAJOR}); upgrade AkiDB",
            code="newer_format",
            key=name,
        )
    if got_kind != kind:
        raise bad(f"kind is {got_kind}, expected {kind}")
    if told != length or at + count * ENTRY.size != length:
        raise bad(f"length is {length}, the header says {told}")
    directory = read(at, length)
    if crc32c(directory) != dir_crc:
        raise bad("the section directory fails its checksum")
    entries: dict[str, Entry] = {}
    end = HEADER.size
    for i in range(count):
        raw, offset, size, crc, _ = ENTRY.unpack_from(directory, i * ENTRY.size)
        section = raw.rstrip(b"\0").decode("ascii", "replace")
        if offset < end or offset + size > at or section in entries:
            raise bad(f"section {section} lies outside the object or over another")
        entries[section] = Entry(section, offset, size, crc)
        end = offset + size
    return Directory(got_kind, UUID(bytes=raw_uuid), at, list(entries.values()))
