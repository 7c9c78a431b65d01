"""Bytes of the regions `lists` and `coarse` (docs/formats/lists.md): what a search reads of a segment in the bucket."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from uuid import UUID

import numpy as np
import numpy.typing as npt

from akidb.codec.frame import Buffer, crc32c
from akidb.errors import CorruptionError
from akidb.types import Metric, VectorArray

BLOCK_BYTES = 64 << 10
"""Vectors are checked, and fetched, by blocks of this size."""

PROBES = tuple(2**i for i in range(12))
"""Numbers of lists for which the recall is written down."""

NO_PAYLOAD = 0xFFFFFFFF
CODE_LEVELS = 15  # half a byte: 0 to 15
CODE_CENTRE = np.float32(7.5)

_MAGIC = b"AkiLists"
_VERSION = 1
_HEADER = struct.Struct("<8sII16sQIIfIQQQ")
_CRC = struct.Struct("<I")

_LIST = np.dtype([("start", "<u8"), ("bytes", "<u4"), ("rows", "<u4"), ("crc", "<u4"), ("zero", "<u4")])

ENTRY = np.dtype(
    [
        ("place", "<u8"),
        ("row", "<u4"),
        ("packed", "<u4"),
        ("unpacked", "<u4"),
        ("start", "<u4"),
        ("bytes", "<u4"),
        ("id_bytes", "<u4"),
        ("step", "<f4"),
    ]
)
"""What a list holds of each row besides its code and id: where its payload lies, and what one step of its code is.

`place` and `packed` are where its payload block begins in region `paydata` and how long it is there, `unpacked` how
long it is decoded; `start` and `bytes` cut the payload out of it, NO_PAYLOAD bytes where there is none.
"""

Entries = npt.NDArray[np.void]


@dataclass(frozen=True, slots=True, eq=False)
class ListDirectory:
    """Region `coarse`: where the lists are and what lies in them, and the checksums of the vectors' blocks.

    Args:
        segment: its uuid.
        rows, dim: of the segment.
        unit: of the centres' numbers.
        lists_at, vectors_at, payloads_at: where lists, vectors and payload blocks begin in the object.
        recall: float32 (len(PROBES),): recall@10 of reading so many lists.
        table: start (from `lists_at`), bytes, rows and CRC-32C of each list.
        block_crcs: uint32: CRC-32C of each 64 KiB of the vectors.
        centres: int8 (lists, dim).
    """

    segment: UUID
    rows: int
    dim: int
    unit: float
    lists_at: int
    vectors_at: int
    payloads_at: int
    recall: VectorArray
    table: Entries
    block_crcs: npt.NDArray[np.uint32]
    centres: npt.NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.table)

    def encode(self) -> bytes:
        head = _HEADER.pack(
            _MAGIC, _VERSION, len(self.table), self.segment.bytes, self.rows, self.dim, len(self.block_crcs), self.unit,
            len(self.recall), self.lists_at, self.vectors_at, self.payloads_at,
        )  # fmt: skip
        body = b"".join(
            part.tobytes()
            for part in (self.recall.astype("<f4"), self.table, self.block_crcs.astype("<u4"), self.centres)
        )
        return head + body + _CRC.pack(crc32c(head, body))

    def moved(self, segment: UUID, lists_at: int, vectors_at: int, payloads_at: int) -> ListDirectory:
        """That of a copy of the segment."""
        return replace(self, segment=segment, lists_at=lists_at, vectors_at=vectors_at, payloads_at=payloads_at)

    def range_of(self, number: int) -> tuple[int, int]:
        """Where list `number` lies in the object, [start, end)."""
        start = self.lists_at + int(self.table["start"][number])
        return start, start + int(self.table["bytes"][number])

    def block_of(self, number: int) -> tuple[int, int]:
        """Where block `number` of the vectors lies in the object, [start, end)."""
        start, size = number * BLOCK_BYTES, 4 * self.rows * self.dim
        return self.vectors_at + start, self.vectors_at + min(start + BLOCK_BYTES, size)

    def check_block(self, number: int, data: Buffer, *, name: str) -> None:
        """Compares block `number` of the vectors of object `name` with its checksum. Raises CorruptionError."""
        if crc32c(data) != self.block_crcs[number]:
            raise CorruptionError(f"block {number} of region vectors fails its checksum", key=name)

    def blocks_of(self, row: int) -> range:
        """The blocks that hold a row's vector."""
        start, size = 4 * self.dim * row, 4 * self.dim
        return range(start // BLOCK_BYTES, (start + size - 1) // BLOCK_BYTES + 1)

    def centre(self, number: int) -> VectorArray:
        """Float32 (dim,)."""
        return np.asarray(self.centres[number].astype(np.float32) * np.float32(self.unit), np.float32)

    def lists_for(self, recall: float) -> int:
        """How many lists were to be read for that recall@10, by interpolation; all, where that was not reached."""
        most = len(self.table)
        reached = self.recall >= recall
        if not reached.any():
            return most
        at = int(np.argmax(reached))
        if at == 0:
            return 1
        low, high = float(self.recall[at - 1]), float(self.recall[at])
        share = (recall - low) / (high - low)
        return min(most, int(np.ceil(PROBES[at - 1] + share * (PROBES[at] - PROBES[at - 1]))))


def decode_directory(data: Buffer, *, name: str, segment: UUID) -> ListDirectory:
    """The directory at the beginning of `data`, the end of the object `name`. Raises CorruptionError."""

    def bad(what: str) -> CorruptionError:
        return CorruptionError(f"region coarse: {what}", key=name)

    if len(data) < _HEADER.size:
        raise bad(f"{len(data)} bytes are too few")
    magic, version, lists, uuid, rows, dim, blocks, unit, probes, lists_at, vectors_at, payloads_at = (
        _HEADER.unpack_from(data)
    )
    if magic != _MAGIC or version != _VERSION:
        raise bad(f"it begins with {magic!r} and version {version}, expected {_MAGIC!r} and {_VERSION}")
    sizes = (4 * probes, _LIST.itemsize * lists, 4 * blocks, lists * dim)
    end = _HEADER.size + sum(sizes)
    if len(data) < end + _CRC.size or _CRC.unpack_from(data, end)[0] != crc32c(memoryview(data)[:end]):
        raise bad("it fails its checksum")
    if uuid != segment.bytes:
        raise bad(f"it is of segment {UUID(bytes=uuid)}, expected {segment}")
    at = np.cumsum([_HEADER.size, *sizes]).tolist()
    recall = np.frombuffer(data, "<f4", probes, at[0])
    table = np.frombuffer(data, _LIST, lists, at[1])
    crcs = np.frombuffer(data, "<u4", blocks, at[2])
    centres = np.frombuffer(data, "i1", lists * dim, at[3])
    return ListDirectory(
        segment, rows, dim, unit, lists_at, vectors_at, payloads_at, recall, table, crcs, centres.reshape(lists, dim)
    )


def list_row(start: int, data: bytes, rows: int) -> tuple[int, int, int, int, int]:
    """The directory's row about a list of `rows` rows whose bytes are `data`, `start` bytes from the first."""
    return start, len(data), rows, crc32c(data), 0


def list_table(rows: Sequence[tuple[int, int, int, int, int]]) -> Entries:
    return np.array(rows, _LIST)


def encode_list(vectors: VectorArray, centre: VectorArray, entries: Entries, ids: bytes) -> bytes:
    """One list's bytes: `entries` (their `step` is set here), the codes of the rows' `vectors`, their ids."""
    residual = vectors - centre
    step = np.abs(residual).max(axis=1, initial=0) / CODE_CENTRE
    step = np.maximum(step, np.finfo(np.float32).tiny * 256)
    codes = np.clip(np.rint(residual / step[:, None] + CODE_CENTRE), 0, CODE_LEVELS).astype(np.uint8)
    half = -(-codes.shape[1] // 2)
    packed = codes[:, :half].copy()
    packed[:, : codes.shape[1] - half] |= codes[:, half:] << 4
    entries["step"] = step
    return b"".join([entries.tobytes(), packed.tobytes(), ids])


class RowList:
    """One list, its bytes checked and decoded when they are first used."""

    def __init__(self, data: bytes, number: int, directory: ListDirectory, *, name: str) -> None:
        """Raises CorruptionError naming the object."""
        start, end = directory.range_of(number)
        if len(data) != end - start or crc32c(data) != directory.table["crc"][number]:
            raise CorruptionError(f"list {number} fails its checksum", key=name)
        self._data = data
        self._directory = directory
        self._number = number
        self.rows = int(directory.table["rows"][number])
        self.entries: Entries = np.frombuffer(data, ENTRY, self.rows)

    def distances(self, queries: VectorArray, metric: Metric) -> VectorArray:
        """Nearly those of the rows to queries (n, dim): float32 (n, rows), smaller is nearer.

        Squared L2; under the other metrics minus the dot product, which orders by the cosine what has length 1. The
        codes are multiplied as they are: to decode them first took five times as long.
        """
        dim, half = self._directory.dim, -(-self._directory.dim // 2)
        centre, step = self._directory.centre(self._number), self.entries["step"]
        codes = np.frombuffer(self._data, np.uint8, self.rows * half, self.entries.nbytes).reshape(self.rows, half)
        towards = queries - centre if metric is Metric.EUCLIDEAN else queries
        low, high = (codes & CODE_LEVELS).astype(np.float32), (codes[:, : dim - half] >> 4).astype(np.float32)
        products = towards[:, :half] @ low.T + towards[:, half:] @ high.T
        products -= CODE_CENTRE * towards.sum(axis=1, keepdims=True)
        products *= step
        if metric is not Metric.EUCLIDEAN:
            return np.asarray(-products - (queries @ centre)[:, None], np.float32)
        # The sum of (c - 7.5)^2 over a code's numbers c, by products: a table of bytes took three times as long.
        squares = (
            sum(np.einsum("ij,ij->i", some, some - 2 * CODE_CENTRE) for some in (low, high)) + dim * CODE_CENTRE**2
        )
        lengths = np.square(step) * squares
        return np.asarray(np.square(towards).sum(axis=1)[:, None] - 2 * products + lengths, np.float32)

    def id_at(self, row: int) -> str:
        """Of the row at this position."""
        end = int(self._id_ends[row])
        return self._data[end - int(self.entries["id_bytes"][row]) : end].decode()

    @cached_property
    def _id_ends(self) -> npt.NDArray[np.int64]:
        first = self.entries.nbytes + self.rows * -(-self._directory.dim // 2)
        return first + np.cumsum(self.entries["id_bytes"], dtype=np.int64)
