"""From rows of other columns to one segment file, column by column: memory holds ids and a chunk, never the vectors."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

import numpy as np
import numpy.typing as npt
import zstandard

from akidb.codec import pack
from akidb.codec.frame import KIND_SEGMENT, unlike_checksum
from akidb.errors import AkiDBError, StorageFullError
from akidb.filter import PayloadSchema
from akidb.segment.columns import Columns, Mask, Rows
from akidb.segment.fields import FieldIndex
from akidb.segment.format import PAYLOAD_BLOCK_BYTES, U32, U64, FrameWriter, Meta
from akidb.segment.ids import id_hashes, id_order
from akidb.segment.lists import LISTS_REGIONS, copy_lists, wants_lists, write_lists
from akidb.segment.reader import Segment
from akidb.types import CollectionSpec, Metric

_CHUNK_BYTES = 4 << 20
_CHUNK_ROWS = 256
_BREATH_SECS = 50e-6


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """Rows to be written: those of `columns` that `live` marks, in row order; None means all rows."""

    columns: Columns
    live: Mask | None = None

    def row_numbers(self) -> Rows:
        """int64, ascending."""
        if self.live is None:
            return np.arange(self.columns.rows, dtype=np.int64)
        return np.flatnonzero(self.live)


@dataclass(frozen=True, slots=True)
class SegmentStats:
    """What was written; the LSNs are those of the rows, 0 when there are none. `coarse_bytes` before the end begins
    region `coarse`; 0 where there is none."""

    rows: int
    bytes: int
    lsn_min: int
    lsn_max: int
    coarse_bytes: int = 0


def write_segment(
    path: Path, *, uuid: UUID, spec: CollectionSpec, sources: Sequence[Source], graph: memoryview | None = None
) -> SegmentStats:
    """Writes the rows of `sources`, one after another, as a segment. The same rows give the same bytes.

    Segments among the sources are verified first: a merge must not put a fresh checksum on damaged bytes. One whole
    segment keeps its row numbers and its bytes are copied, so that adding a graph to it costs no more than reading
    it.

    Args:
        path: replaced; a part-written file never has this name. Not fsynced: the store does that.
        graph: bytes of akidb.index.build_graph over exactly these rows, in this order.

    Raises:
        CorruptionError: a source fails its checksums.
        StorageFullError: no room at `path`; nothing is left there.
        AkiDBError: an id is live in two sources, which would be a bug of ours; nothing is left at `path`.
    """
    for source in sources:
        if isinstance(source.columns, Segment):
            source.columns.verify()
    partial = path.with_name(path.name + ".partial")
    try:
        with open(partial, "x+b") as file:
            stats = _write(file, uuid, spec, sources, graph)
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFullError(f"no room for a segment at {path.parent}: {error.strerror}") from error
        raise
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return stats


def _write(
    file: BinaryIO, uuid: UUID, spec: CollectionSpec, sources: Sequence[Source], graph: memoryview | None
) -> SegmentStats:
    out = FrameWriter(file, KIND_SEGMENT, uuid)
    whole = sources[0].columns if len(sources) == 1 and sources[0].live is None else None
    if isinstance(whole, Segment):
        meta = whole.meta
        for name, region in whole.regions.items():
            if name not in ("graph", *LISTS_REGIONS) and out.put(name, region) != whole.checksums[name]:
                raise unlike_checksum(whole.name, name)
    else:
        whole = None
        meta = _write_columns(out, spec, [(source.columns, source.row_numbers()) for source in sources])
    if graph is not None:
        out.put("graph", graph)
    coarse_at = _write_lists(out, uuid, meta, whole)
    size = out.finish()
    return SegmentStats(meta.rows, size, meta.lsn_min, meta.lsn_max, 0 if coarse_at is None else size - coarse_at)


def _write_lists(out: FrameWriter, uuid: UUID, meta: Meta, whole: Segment | None) -> int | None:
    """The regions that a search reads from the bucket, last in the file, where they are due; returns where the second
    begins. Those of the same rows are taken over."""
    if whole is not None and "coarse" in whole.regions:
        return copy_lists(out, uuid, whole.regions, name=whole.name, segment=whole.uuid)
    return write_lists(out, uuid, meta) if wants_lists(meta) else None


_Selection = tuple[Columns, Rows]


def _write_columns(out: FrameWriter, spec: CollectionSpec, selections: Sequence[_Selection]) -> Meta:
    lsns = np.concatenate([np.empty(0, U64), *(columns.lsns[rows] for columns, rows in selections)])
    lsn_min, lsn_max = (int(lsns.min()), int(lsns.max())) if len(lsns) else (0, 0)
    meta = Meta(len(lsns), spec.dim, spec.metric, lsn_min, lsn_max)
    out.put("meta", meta.pack())
    _write_ids(out, selections)
    with out.section("vectors") as section:
        for chunk in _gather(selections, lambda columns: columns.vectors, spec.dim):
            section.write(chunk)
    if spec.metric is Metric.COSINE:
        with out.section("norms") as section:
            for chunk in _gather(selections, _inverse_norms, 1):
                section.write(chunk)
    out.put("lsns", lsns)
    _write_payloads(out, spec, meta.rows, selections)
    return meta


def _gather(
    selections: Sequence[_Selection], column: Callable[[Columns], npt.NDArray[np.float32]], width: int
) -> Iterator[npt.NDArray[np.float32]]:
    """The selected rows of one column in chunks of about 4 MiB."""
    step = max(1, _CHUNK_BYTES // (4 * width))
    for columns, rows in selections:
        values = column(columns)
        for at in range(0, len(rows), step):
            yield values[rows[at : at + step]]


def _inverse_norms(columns: Columns) -> npt.NDArray[np.float32]:
    assert columns.inverse_norms is not None, "columns of a cosine collection have inverse norms"
    return columns.inverse_norms


def _write_ids(out: FrameWriter, selections: Sequence[_Selection]) -> None:
    keys: list[bytes] = []
    for columns, rows in selections:
        for at in range(0, len(rows), _CHUNK_ROWS):
            keys += [id_.encode() for id_ in columns.id_at(rows[at : at + _CHUNK_ROWS])]
            _breathe()
    offsets, text = pack(keys)
    hashes = id_hashes(keys)
    by_hash = np.argsort(hashes, kind="stable")
    hashes = hashes[by_hash]
    for at in np.flatnonzero(hashes[1:] == hashes[:-1]).tolist():
        if keys[by_hash[at]] == keys[by_hash[at + 1]]:
            raise AkiDBError(f"id {keys[by_hash[at]]!r} is live in two parts of one collection; nothing was written")
    out.put("idoff", offsets)
    out.put("idtext", text)
    out.put("idhash", hashes)
    out.put("idrow", by_hash.astype(U32))
    out.put("idorder", id_order(offsets, text).astype(U32))


def _write_payloads(out: FrameWriter, spec: CollectionSpec, count: int, selections: Sequence[_Selection]) -> None:
    """Regions paydata, payblk, payoff, payhas and fields, in one pass over the payloads."""
    fields = FieldIndex(PayloadSchema.parse(spec.payload_schema))
    offsets = np.zeros(count + 1, U64)
    present = np.zeros(count, np.bool_)
    row = 0
    with out.section("paydata") as section:
        blocks = _Blocks(section.write)
        for columns, rows in selections:
            for at in range(0, len(rows), _CHUNK_ROWS):
                payloads = columns.payloads(rows[at : at + _CHUNK_ROWS])
                fields.add(row, payloads)
                present[row : row + len(payloads)] = [payload is not None for payload in payloads]
                for payload in payloads:
                    row += 1
                    offsets[row] = blocks.add(payload or b"")
                _breathe()
        blocks.cut()
    out.put("payblk", np.array(blocks.directory, U64))
    out.put("payoff", offsets)
    out.put("payhas", np.packbits(present, bitorder="little"))
    out.put("fields", fields.to_bytes())


def _breathe() -> None:
    """Lets other threads have the interpreter, for which a search would wait 5 ms at each of its steps otherwise.

    A sleep of 0 gives it up and takes it again before anybody has woken.
    """
    time.sleep(_BREATH_SECS)


class _Blocks:
    """Cuts a stream of payloads into zstd blocks of at least 8 KiB raw; a payload is never split.

    Small, so that fetching ten scattered payloads decodes 80 KiB; each frame carries its XXH64, so a damaged block is
    noticed when it is read and not only by `verify`.
    """

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self.directory: list[tuple[int, int]] = [(0, 0)]
        self.raw_bytes = 0
        self._write = write
        self._pending: list[bytes] = []
        self._compressor = zstandard.ZstdCompressor(level=3, write_checksum=True, write_content_size=False)

    def add(self, payload: bytes) -> int:
        """Appends; returns how many raw bytes there are now."""
        self._pending.append(payload)
        self.raw_bytes += len(payload)
        if self.raw_bytes - self.directory[-1][0] >= PAYLOAD_BLOCK_BYTES:
            self.cut()
        return self.raw_bytes

    def cut(self) -> None:
        raw_start, start = self.directory[-1]
        if self.raw_bytes > raw_start:
            block = self._compressor.compress(b"".join(self._pending))
            self._write(block)
            self.directory.append((self.raw_bytes, start + len(block)))
        self._pending.clear()
