"""Compares an open segment's bytes with their checksums again: all now and then, some before they are copied."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from akidb.codec.frame import KIND_SEGMENT, crc32c, read_directory, unlike_checksum
from akidb.errors import CorruptionError
from akidb.segment.lists_format import BLOCK_BYTES, decode_directory
from akidb.storage.files import NOWAIT, read_at

if TYPE_CHECKING:
    from akidb.segment.columns import Rows
    from akidb.segment.reader import Segment

ID_REGIONS = ("idoff", "idtext", "idhash", "idrow")
"""What finding a row by its id reads."""

STEP_BYTES = 1 << 20
_READ_BYTES = 256 << 10
"""Reading gives up the interpreter and the checksum does not: a search waits for this much of it, 40 microseconds."""


def reread(segment: Segment) -> Iterator[int]:
    """Reads the segment's file anew, about STEP_BYTES at each `next`, which tells how many, and compares header,
    directory and regions with their checksums.

    By reads and not through the mapping, so that nothing of it becomes resident memory of the process; what had to come
    from the disk does not stay in the page cache either, in the place of what searches use.

    Raises:
        CorruptionError: names the object, and the region; also where the disk does not give the bytes.
    """
    if segment.file is None:
        segment.verify()
        return
    try:
        yield from _reread(segment, segment.file.fileno())
    except OSError as failed:
        raise CorruptionError(f"it can't be read: {failed.strerror}", key=segment.name) from failed


def _reread(segment: Segment, descriptor: int) -> Iterator[int]:
    size = os.fstat(descriptor).st_size
    if size != segment.bytes:
        raise CorruptionError(f"it has {size} bytes, it had {segment.bytes} when it was opened", key=segment.name)
    directory = read_directory(
        lambda start, end: _read(descriptor, start, end), size, kind=KIND_SEGMENT, name=segment.name
    )
    if directory.uuid != segment.uuid:
        raise CorruptionError(f"it is segment {directory.uuid}, it was {segment.uuid}", key=segment.name)
    told = 0
    for entry in directory.entries:
        crc, end = 0, entry.offset + entry.size
        for at in range(entry.offset, end, _READ_BYTES):
            crc = crc32c(_read(descriptor, at, min(at + _READ_BYTES, end)), after=crc)
            if at - told >= STEP_BYTES:
                yield at - told
                told = at
        if crc != entry.crc:
            raise unlike_checksum(segment.name, entry.name)
    yield size - told


def _read(descriptor: int, start: int, end: int) -> bytes | bytearray:
    if NOWAIT:
        buffer = bytearray(end - start)
        try:
            if os.preadv(descriptor, [buffer], start, NOWAIT) == len(buffer):
                return buffer
        except OSError:  # not in the kernel's memory; or a file system without the flag
            pass
    data = read_at(descriptor, start, end)
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, start, end - start, os.POSIX_FADV_DONTNEED)
    return data


def verify_vectors(segment: Segment, rows: Rows) -> None:
    """Compares what holds these rows' vectors with its checksums: their blocks where the segment has a list directory,
    else all vectors, which take 16 MiB at most. Raises CorruptionError."""
    if "coarse" not in segment.regions:
        segment.verify(("vectors",))
        return
    directory = decode_directory(segment.regions["coarse"], name=segment.name, segment=segment.uuid)
    vectors = segment.regions["vectors"]
    for block in sorted({block for row in np.unique(rows).tolist() for block in directory.blocks_of(row)}):
        directory.check_block(block, vectors[block * BLOCK_BYTES : (block + 1) * BLOCK_BYTES], name=segment.name)
