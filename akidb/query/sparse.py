"""Segments of the store as files with holes: ids, versions and the field index are read, rows when somebody wants them.

A twentieth of a segment tells which points it has and which match a filter; the vectors and payloads of a few are a
range each. What is filled in is where it lies in the object, so the segment's own reader works on it, checks included.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import weakref
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from akidb.codec.frame import HEADER, KIND_SEGMENT, Directory, read_directory
from akidb.errors import CorruptionError, StorageFullError
from akidb.index import MappedFile
from akidb.query.remote import AT_ONCE, READS_MAX, RemoteSegment, checked_range
from akidb.segment import Rows, Segment, decode_block
from akidb.storage.object_store import ObjectStore

T = TypeVar("T")

_PIECES = (("meta", "idorder"), ("norms", "lsns"), ("payblk", "fields"))
"""First and last region of what is read at once: they lie side by side. Norms are there under cosine."""


class SparseSegment:
    """Everything of a segment but vectors, payloads, graph and lists; of the first two, what `load` brought."""

    def __init__(self, store: ObjectStore, remote: RemoteSegment) -> None:
        self.ref = remote.ref
        self.live = remote.live
        self._store = store
        self._directory = remote.directory
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._loaded: set[tuple[int, int]] = set()

    @classmethod
    async def open(cls, store: ObjectStore, remote: RemoteSegment) -> SparseSegment:
        """Two rounds of reads.

        Raises:
            CorruptionError: what was read fails its checks (GoneError: the object is not there).
            StorageFullError: no room in the temporary folder.
            UnavailableError: the store is away.
        """
        self = cls(store, remote)
        for attempt in range(READS_MAX):
            try:
                await self._open()
                break
            except CorruptionError:
                if attempt + 1 == READS_MAX:
                    raise
                await store.forget_local(self.ref.key)
        return self

    async def _open(self) -> None:
        ref, tail = self.ref, self.ref.bytes - self.ref.coarse_bytes
        head, end = await asyncio.gather(self._range((0, HEADER.size)), self._range((tail, ref.bytes)))

        def read(start: int, stop: int) -> bytes:
            return end[start - tail : stop - tail] if start >= tail else head[start:stop]

        directory = read_directory(read, ref.bytes, kind=KIND_SEGMENT, name=ref.key)
        ranges = _ranges(directory, ref.key)
        pieces = await asyncio.gather(*map(self._range, ranges))
        self._descriptor, mapped = _temporary(self, ref.bytes)
        for (start, _), piece in zip([(0, 0), (tail, 0), *ranges], [head, end, *pieces], strict=True):
            await self._fill(start, piece)
        self.segment = await asyncio.to_thread(_opened, mapped.data, ref.key)
        if self.segment.uuid != ref.uuid or self.segment.rows != ref.rows:
            raise CorruptionError(f"it is segment {self.segment.uuid} of {self.segment.rows} rows", key=ref.key)

    async def load(self, rows: Rows, *, vectors: bool, payloads: bool = True) -> None:
        """Brings what these rows have. Raises as `open`."""
        wanted: dict[tuple[int, int], Callable[[bytes], object]] = {}
        if vectors:
            for block in {block for row in rows.tolist() for block in self._directory.blocks_of(row)}:
                check = partial(self._directory.check_block, block, name=self.ref.key)
                wanted[self._directory.block_of(block)] = check
        if payloads:
            for start, end, raw_bytes in self.segment.payload_blocks(rows):
                place = self._directory.payloads_at + start, self._directory.payloads_at + end
                wanted[place] = partial(self._check_payloads, raw_bytes)
        await asyncio.gather(*(self._load(*each) for each in sorted(wanted.items()) if each[0] not in self._loaded))

    async def _load(self, place: tuple[int, int], check: Callable[[bytes], object]) -> None:
        def checked(data: bytes) -> bytes:
            check(data)
            return data

        async with self._slots:
            data = await checked_range(self._store, self.ref.key, place, checked)
        await self._fill(place[0], data)
        self._loaded.add(place)

    def _check_payloads(self, raw_bytes: int, data: bytes) -> None:
        try:
            decode_block(memoryview(data), raw_bytes)
        except ValueError as error:
            raise CorruptionError(f"a payload block: {error}", key=self.ref.key) from error

    async def _range(self, place: tuple[int, int]) -> bytes:
        return await checked_range(self._store, self.ref.key, place, bytes)

    async def _fill(self, start: int, data: bytes) -> None:
        """By a write: a full disk is an error then, and through the mapping it would be the process's end."""
        try:
            await asyncio.to_thread(_write, self._descriptor, data, start)
        except OSError as failed:
            raise StorageFullError(f"no room for a part of {self.ref.key}: {failed.strerror}; set TMPDIR") from failed


def _temporary(owner: SparseSegment, size: int) -> tuple[int, MappedFile]:
    """A nameless file of `size` bytes, all holes, that is there as long as its owner: a descriptor to write to it."""
    descriptor, name = tempfile.mkstemp(prefix="akidb-sparse-")
    weakref.finalize(owner, os.close, descriptor).atexit = False  # threads may be at work until the end
    try:
        os.truncate(descriptor, size)
        return descriptor, MappedFile(name)
    finally:
        os.unlink(name)


def _ranges(directory: Directory, name: str) -> list[tuple[int, int]]:
    entries = {entry.name: entry for entry in directory.entries}
    try:
        firsts = [entries.get(first, entries[last]) for first, last in _PIECES]
        lasts = [entries[last] for _, last in _PIECES]
    except KeyError as missing:
        raise CorruptionError(f"region {missing} is missing", key=name) from missing
    return [(first.offset, last.offset + last.size) for first, last in zip(firsts, lasts, strict=True)]


def _opened(mapped: memoryview, name: str) -> Segment:
    segment = Segment(mapped, name=name)
    segment.verify(("norms", "fields"))
    return segment


def _write(descriptor: int, data: bytes, start: int) -> None:
    rest = memoryview(data)
    while rest:
        written = os.pwrite(descriptor, rest, start)
        rest, start = rest[written:], start + written
