"""Byte layout of a segment object (docs/formats/segment.md) and the streaming writer of its frame.

A segment is a frame of akidb.codec.frame whose sections, here called regions, are arrays that are used where they lie.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, TypeAlias
from uuid import UUID

import google_crc32c
import numpy as np
import numpy.typing as npt

from akidb.codec import frame
from akidb.types import Metric

ALIGNMENT = 64 << 10
"""Regions of at least this size begin at multiples of it: the largest page size of ARM kernels."""
SMALL_ALIGNMENT = 64
"""Smaller regions begin at multiples of a cache line, so that a segment of a few rows is a few KiB and not a MiB."""

PAYLOAD_BLOCK_BYTES = 8 << 10

META = struct.Struct("<QIIQQ")
METRIC_CODES = {Metric.COSINE: 0, Metric.EUCLIDEAN: 1, Metric.DOT: 2}
METRICS = {code: metric for metric, code in METRIC_CODES.items()}

U32 = np.dtype("<u4")
U64 = np.dtype("<u8")
F32 = np.dtype("<f4")

Bytes: TypeAlias = bytes | memoryview | npt.NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class Meta:
    """Region `meta`: what the sizes of the other regions follow from."""

    rows: int
    dim: int
    metric: Metric
    lsn_min: int
    lsn_max: int

    def pack(self) -> bytes:
        return META.pack(self.rows, self.dim, METRIC_CODES[self.metric], self.lsn_min, self.lsn_max)

    def sizes(self) -> dict[str, int]:
        """Bytes of every region whose size is fixed by rows, dim and metric."""
        rows = self.rows
        sizes = {
            "meta": META.size,
            "idoff": 8 * (rows + 1),
            "idhash": 8 * rows,
            "idrow": 4 * rows,
            "idorder": 4 * rows,
            "vectors": 4 * rows * self.dim,
            "lsns": 8 * rows,
            "payoff": 8 * (rows + 1),
            "payhas": (rows + 7) // 8,
        }
        if self.metric is Metric.COSINE:
            sizes["norms"] = 4 * rows
        return sizes


class FrameWriter:
    """Writes a frame's sections straight into a file, each with its CRC-32C; nothing is held but a section's first 64
    KiB.

    CRC-32C because it is every object's checksum and costs less than the disk: 6 GB/s here, against 9 for XXH3-64,
    which the directory has no room for.
    """

    def __init__(self, file: BinaryIO, kind: int, uuid: UUID) -> None:
        self._file = file
        self._kind = kind
        self._uuid = uuid
        self._entries: list[bytes] = []
        self.offset = 0
        self._put(b"\0" * frame.HEADER.size)

    @contextmanager
    def section(self, name: str) -> Iterator[Section]:
        """The section `name`, to be written to until the with block ends."""
        section = Section(self)
        yield section
        section.close()
        self._entries.append(frame.ENTRY.pack(name.encode("ascii"), section.offset, section.length, section.crc, 0))

    def put(self, name: str, *pieces: Bytes) -> int:
        """A whole section at once; returns its CRC-32C."""
        with self.section(name) as section:
            for piece in pieces:
                section.write(piece)
        return section.crc

    @contextmanager
    def written(self) -> Iterator[tuple[dict[str, memoryview], dict[str, int]]]:
        """The sections so far, mapped, and where each begins: what later ones are made from."""
        self._file.flush()
        entries = [frame.ENTRY.unpack(entry) for entry in self._entries]
        starts = {raw.rstrip(b"\0").decode("ascii"): offset for raw, offset, *_ in entries}
        sizes = [size for _, _, size, *_ in entries]
        mapped = memoryview(mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ))
        yield {name: mapped[at : at + size] for (name, at), size in zip(starts.items(), sizes, strict=True)}, starts

    def finish(self) -> int:
        """Writes directory and header. Returns the object's length."""
        at, directory = self.offset, b"".join(self._entries)
        self._put(directory)
        head = frame.HEADER.pack(
            frame.MAGIC, self._kind, frame.MAJOR, frame.MINOR, 0, self.offset, at, self._uuid.bytes,
            len(self._entries), frame.crc32c(directory), 0, 0,
        )[:60]  # fmt: skip
        self._file.seek(0)
        self._file.write(head + struct.pack("<I", frame.crc32c(head)))
        self._file.flush()
        return self.offset

    def align(self, alignment: int) -> int:
        self._put(b"\0" * (-self.offset % alignment))
        return self.offset

    def _put(self, data: bytes | memoryview) -> None:
        self._file.write(data)
        self.offset += len(data)


class Section:
    """One section while it is written. Where it begins depends on its growing to 64 KiB, so its start is held back."""

    def __init__(self, writer: FrameWriter) -> None:
        self._writer = writer
        self._held: bytearray | None = bytearray()
        self.offset = 0
        self.length = 0
        self.crc = 0

    def write(self, data: Bytes) -> None:
        view = as_bytes(data)
        for at in range(0, len(view), frame.CRC_STEP):
            self._write(view[at : at + frame.CRC_STEP])

    def _write(self, view: memoryview) -> None:
        self.crc = google_crc32c.extend(self.crc, bytes(view))
        self.length += len(view)
        if self._held is None:
            self._writer._put(view)
        else:
            self._held += view
            if self.length >= ALIGNMENT:
                self._release(ALIGNMENT)

    def _release(self, alignment: int) -> None:
        assert self._held is not None
        self.offset = self._writer.align(alignment)
        self._writer._put(memoryview(self._held))
        self._held = None

    def close(self) -> None:
        if self._held is not None:
            self._release(SMALL_ALIGNMENT)


def as_bytes(data: Bytes) -> memoryview:
    """The bytes of a buffer or a C-contiguous array, not copied."""
    if isinstance(data, np.ndarray):
        return np.ascontiguousarray(data).reshape(-1).view(np.uint8).data
    return memoryview(data)
