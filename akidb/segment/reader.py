"""A segment file in use: mapped, not parsed. Opening reads header, ids and payload offsets: some 40 bytes a row."""

from __future__ import annotations

import contextlib
import itertools
import math
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from copy import copy
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar
from uuid import UUID

import numpy as np
import numpy.typing as npt

from akidb.codec.frame import KIND_SEGMENT, decode
from akidb.errors import CorruptionError
from akidb.index import GraphIndex, MappedFile
from akidb.segment.blocks import SHARED_BLOCKS, BlockCache, decode_block
from akidb.segment.columns import Mask, Rows
from akidb.segment.fields import FieldIndexView
from akidb.segment.format import F32, META, METRICS, U32, U64, Meta
from akidb.segment.ids import id_hashes
from akidb.segment.verify import ID_REGIONS
from akidb.types import Metric, VectorArray

T = TypeVar("T", bound=np.generic)

_FOLLOWING_STEP = 1024

_READ_AT_OPEN = frozenset(
    ["meta", "idoff", "idtext", "idhash", "idrow", "idorder", "lsns", "payblk", "payoff", "payhas"]
)
"""Regions that are compared with their checksums by every opening: some 50 bytes a row. A flipped bit in one of them
would make a point unfindable, and the next upsert of its id would store it twice, or would let a condition hold that
does not; in the others a bit is part of a value, or is met by checks of its own (payload blocks, links of the graph).
"""

_openings = itertools.count()  # names blocks in the cache: a file that was replaced must not be answered from it


class _Graph(GraphIndex):
    """A segment's graph: what is wrong with its bytes is told with the object's name."""

    def __init__(self, segment: Segment) -> None:
        self._name = segment.name  # not the segment, which has this graph: its mapping would wait for the collector
        with self._named():
            super().__init__(
                segment.vectors, segment.regions["graph"], segment.meta.metric.native, segment.inverse_norms,
                file=segment.file,
            )  # fmt: skip

    def search(self, *args: Any, **kwargs: Any) -> tuple[Rows, VectorArray]:
        with self._named():
            return super().search(*args, **kwargs)

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except CorruptionError as error:
            raise CorruptionError(f"region graph: {error}", key=self._name) from error


class Segment:
    """Immutable rows in a file. Satisfies Columns; safe from any thread.

    The mapping lives as long as the segment or any array that came from it, also when the file is deleted; there is
    nothing to close: the file is as long open as the segment or its graph is there.
    """

    live: Mask | None = None

    damage: CorruptionError | None = None
    """What was found wrong with it after it was opened; it is not read any more then."""

    lost_ids = False
    """Whether the damage is where ids are: which of the rows later slots replaced can't be told then."""

    verified_at = -math.inf
    """When all of it was last compared with its checksums (time.monotonic seconds)."""

    def __init__(
        self,
        data: memoryview,
        *,
        name: str,
        verify: bool = False,
        blocks: BlockCache = SHARED_BLOCKS,
        file: MappedFile | None = None,
    ) -> None:
        frame = decode(data, kind=KIND_SEGMENT, name=name, verify=verify or _READ_AT_OPEN)
        self.name = name
        self.uuid: UUID = frame.uuid
        self.bytes = len(data)
        self.regions: Mapping[str, memoryview] = MappingProxyType(dict(frame.sections))
        self.checksums = frame.checksums
        self._data = data
        self.file = file
        self._blocks = blocks
        self._opening = next(_openings)
        self._lock = threading.Lock()
        self._graph: GraphIndex | None = None
        self.meta = self._read_meta()
        self.rows = self.meta.rows
        self.vectors: VectorArray = self._array("vectors", F32).reshape(self.rows, self.meta.dim)
        cosine = self.meta.metric is Metric.COSINE
        self.inverse_norms: VectorArray | None = self._array("norms", F32) if cosine else None
        self.lsns: npt.NDArray[np.uint64] = self._array("lsns", U64)
        self._id_offsets = self._array("idoff", U64)
        self._id_text = self.regions["idtext"]
        self._hashes, self._hash_rows = self._array("idhash", U64), self._array("idrow", U32)
        self._order = self._array("idorder", U32)
        self._payload_offsets, self._payload_bits = self._array("payoff", U64), self._array("payhas", np.dtype("u1"))
        self._block_raw, self._block_at = self._read_blocks()
        self._check_offsets("idoff", self._id_offsets, len(self._id_text))

    @classmethod
    def open(cls, path: Path, *, name: str, verify: bool = False, blocks: BlockCache = SHARED_BLOCKS) -> Segment:
        """Maps the file. `name` is the object's key, for messages; `verify` reads all of it and compares checksums.

        Raises:
            CorruptionError: header, sizes, ids, payload offsets or, with `verify`, any checksum do not fit.
            FileNotFoundError: no such file.
        """
        file = MappedFile(path)
        return cls(file.data, name=name, verify=verify, blocks=blocks, file=file)

    @property
    def has_graph(self) -> bool:
        return "graph" in self.regions

    def verify(self, regions: Collection[str] | None = None) -> None:
        """Reads everything, or some regions, and raises CorruptionError, naming object and region, at the first
        checksum that differs."""
        decode(self._data, kind=KIND_SEGMENT, name=self.name, verify=True if regions is None else regions)

    def quarantine(self, damage: CorruptionError) -> None:
        """Has it read by nobody any more."""
        try:
            self.verify(ID_REGIONS)
        except CorruptionError:
            self.lost_ids = True
        self.damage = damage

    def check(self) -> None:
        """Raises CorruptionError if it is known to be damaged."""
        if self.damage is not None:
            raise copy(self.damage)  # each with a traceback of its own

    @cached_property
    def fields(self) -> FieldIndexView:
        return FieldIndexView(self.regions["fields"], name=self.name)

    @property
    def graph(self) -> GraphIndex | None:
        """Opened, and its links checked, when first asked for; raises CorruptionError when they do not fit."""
        with self._lock:
            if self._graph is None and self.has_graph:
                self._graph = _Graph(self)
            return self._graph

    def find(self, ids: Sequence[str]) -> Rows:
        found = np.full(len(ids), -1, np.int64)
        if not self.rows:
            return found
        keys = [id_.encode() for id_ in ids]
        hashes = id_hashes(keys)
        at = np.searchsorted(self._hashes, hashes)
        pending = np.arange(len(keys))
        while len(pending):  # a second round only where different ids share a hash
            pending = pending[at[pending] < self.rows]
            pending = pending[self._hashes[at[pending]] == hashes[pending]]
            rows = self._checked(self._hash_rows[at[pending]], "idrow")
            candidates = zip(pending.tolist(), self._texts(rows), strict=True)
            same = np.fromiter((keys[i] == text for i, text in candidates), np.bool_, len(rows))
            found[pending[same]] = rows[same]
            pending = pending[~same]
            at[pending] += 1
        return found

    def id_at(self, rows: npt.ArrayLike) -> list[str]:
        try:
            return [str(text, "utf-8") for text in self._texts(np.asarray(rows, np.int64))]
        except UnicodeDecodeError as error:
            raise self._bad(f"region idtext is not UTF-8: {error}") from error

    def payloads(self, rows: npt.ArrayLike) -> list[bytes | None]:
        wanted = np.asarray(rows, np.int64)
        present = (self._payload_bits[wanted >> 3] >> (wanted & 7).astype(np.uint8)) & 1
        starts, ends = self._payload_offsets[wanted], self._payload_offsets[wanted + 1]
        blocks = np.searchsorted(self._block_raw, starts, side="right") - 1
        places = zip(present.tolist(), starts.tolist(), ends.tolist(), blocks.tolist(), strict=True)
        out: list[bytes | None] = []
        for has, start, end, block in places:
            if not has:
                out.append(None)
            elif start == end:
                out.append(b"")
            else:
                out.append(self._slice(block, start, end))
        return out

    def payload_blocks(self, rows: Rows) -> set[tuple[int, int, int]]:
        """Where in region paydata the blocks lie that hold these rows' payloads, [start, end), and how long they are
        decoded."""
        starts, ends = self._payload_offsets[rows], self._payload_offsets[rows + 1]
        blocks = np.unique(np.searchsorted(self._block_raw, starts[ends > starts], side="right") - 1)
        raw = self._block_raw[blocks + 1] - self._block_raw[blocks]
        return set(zip(self._block_at[blocks].tolist(), self._block_at[blocks + 1].tolist(), raw.tolist(), strict=True))

    def following(self, after: str | None, limit: int, mask: Mask | None) -> Rows:
        at = 0 if after is None else self._place(after.encode())
        found: list[Rows] = []
        missing = limit
        while missing > 0 and at < self.rows:
            rows = self._checked(self._order[at : at + max(_FOLLOWING_STEP, limit)], "idorder")
            at += len(rows)
            chosen = (rows if mask is None else rows[mask[rows]])[:missing]
            found.append(chosen)
            missing -= len(chosen)
        return np.concatenate([np.empty(0, np.int64), *found])

    def _place(self, key: bytes) -> int:
        """How many ids are not greater than `key`, by bisection of the id order."""
        low, high = 0, self.rows
        while low < high:
            middle = (low + high) // 2
            row = self._checked(self._order[middle : middle + 1], "idorder")
            if self._texts(row)[0] <= key:
                low = middle + 1
            else:
                high = middle
        return low

    def _texts(self, rows: Rows) -> list[bytes]:
        starts, ends = self._id_offsets[rows].tolist(), self._id_offsets[rows + 1].tolist()
        text = self._id_text
        return [text[start:end].tobytes() for start, end in zip(starts, ends, strict=True)]

    def _slice(self, block: int, start: int, end: int) -> bytes:
        if block + 1 >= len(self._block_raw) or not start < end <= self._block_raw[block + 1]:
            raise self._bad(f"region payoff points outside of payload block {block}")
        raw_start = int(self._block_raw[block])
        raw = self._blocks.get((self._opening, block), lambda: self._decode(block))
        return raw[start - raw_start : end - raw_start]

    def _decode(self, block: int) -> bytes:
        raw_bytes = int(self._block_raw[block + 1] - self._block_raw[block])
        try:
            return decode_block(self.regions["paydata"][self._block_at[block] : self._block_at[block + 1]], raw_bytes)
        except ValueError as error:
            raise self._bad(f"payload block {block}: {error}") from error

    def _read_meta(self) -> Meta:
        raw = self._region("meta", META.size)
        rows, dim, code, lsn_min, lsn_max = META.unpack(raw)
        if code not in METRICS or not dim or rows >= 1 << 32:
            raise self._bad(f"region meta has {rows} rows of dimension {dim} under metric {code}")
        meta = Meta(rows, dim, METRICS[code], lsn_min, lsn_max)
        for name, size in meta.sizes().items():
            self._region(name, size)
        for name in ("idtext", "payblk", "paydata", "fields"):
            self._region(name)
        return meta

    def _read_blocks(self) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
        region = self.regions["payblk"]
        if len(region) < 16 or len(region) % 16:
            raise self._bad(f"region payblk has {len(region)} bytes, expected a multiple of 16")
        directory = self._array("payblk", U64).reshape(-1, 2)
        raw, at = np.ascontiguousarray(directory[:, 0]), np.ascontiguousarray(directory[:, 1])
        self._check_offsets("payblk", raw, int(self._payload_offsets[-1]))
        self._check_offsets("payblk", at, len(self.regions["paydata"]))
        return raw, at

    def _region(self, name: str, size: int | None = None) -> memoryview:
        region = self.regions.get(name)
        if region is None:
            raise self._bad(f"region {name} is missing")
        if size is not None and len(region) != size:
            raise self._bad(f"region {name} has {len(region)} bytes, expected {size}")
        return region

    def _array(self, name: str, dtype: np.dtype[T]) -> npt.NDArray[T]:
        return np.frombuffer(self.regions[name], dtype)

    def _check_offsets(self, name: str, offsets: npt.NDArray[np.uint64], end: int) -> None:
        if offsets[0] != 0 or offsets[-1] != end or (offsets[1:] < offsets[:-1]).any():
            raise self._bad(f"region {name} does not hold ascending offsets up to {end}")

    def _checked(self, rows: npt.NDArray[np.uint32], name: str) -> Rows:
        if len(rows) and rows.max() >= self.rows:
            raise self._bad(f"region {name} names row {rows.max()} of {self.rows}")
        return rows.astype(np.int64)

    def _bad(self, what: str) -> CorruptionError:
        return CorruptionError(what, key=self.name)
