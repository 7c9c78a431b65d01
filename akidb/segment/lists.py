"""Writes the regions `lists` and `coarse`: rows near each other in one piece, for searches by a few ranged reads.

An inverted file (Sivic and Zisserman, "Video Google", ICCV 2003; Jegou, Douze and Schmid, "Product quantization for
nearest neighbor search", PAMI 2011) with codes of half a byte per dimension. A graph would take ten reads, one after
the other, to get anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

import numpy as np
import numpy.typing as npt

from akidb.codec.frame import crc32c
from akidb.index import Grid, chained, clusters
from akidb.segment.format import F32, U64, FrameWriter, Meta
from akidb.segment.lists_format import (
    BLOCK_BYTES,
    ENTRY,
    NO_PAYLOAD,
    PROBES,
    Entries,
    ListDirectory,
    decode_directory,
    encode_list,
    list_row,
    list_table,
)
from akidb.types import Metric, VectorArray

LISTS_BYTES_MIN = 16 << 20
"""Segments whose vectors take less have no lists: fetching them whole is as quick."""

LISTS_REGIONS = ("lists", "coarse")

ROWS_PER_LIST = 512
_SAMPLE_ROWS = 4096
_QUERIES = 64
_CHUNK_ROWS = 8192
_K = 10

Rows = npt.NDArray[np.int64]
T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """A segment's regions as they lie in the file that is being written."""

    meta: Meta
    regions: Mapping[str, memoryview]
    starts: Mapping[str, int]

    def array(self, name: str, dtype: np.dtype[T]) -> npt.NDArray[T]:
        return np.frombuffer(self.regions[name], dtype)

    def take(self, rows: Rows) -> VectorArray:
        """The vectors as they are compared: under cosine scaled to length 1."""
        vectors = self.array("vectors", F32).reshape(self.meta.rows, self.meta.dim)[rows]
        if self.meta.metric is Metric.COSINE:
            vectors *= self.array("norms", F32)[rows][:, None]
        return vectors

    def ids(self, rows: Rows) -> tuple[npt.NDArray[np.uint64], bytes]:
        """Lengths and text."""
        offsets, text = self.array("idoff", U64), self.regions["idtext"]
        starts, ends = offsets[rows], offsets[rows + 1]
        return ends - starts, b"".join(text[start:end] for start, end in zip(starts, ends, strict=True))

    def payload_places(self, rows: Rows, entries: Entries) -> None:
        """Fills in where the payloads lie."""
        blocks = self.array("payblk", U64).reshape(-1, 2)
        offsets, bits = self.array("payoff", U64), self.array("payhas", np.dtype("u1"))
        starts, ends = offsets[rows], offsets[rows + 1]
        present = (bits[rows >> 3] >> (rows & 7).astype(np.uint8)) & 1 == 1
        entries["bytes"] = np.where(present, ends - starts, NO_PAYLOAD)
        some = present & (ends > starts)
        block = np.searchsorted(blocks[:, 0], starts[some], side="right") - 1
        (raw, at), (raw_end, at_end) = blocks[block].T, blocks[block + 1].T
        columns = {"place": at, "packed": at_end - at, "unpacked": raw_end - raw, "start": starts[some] - raw}
        for name, values in columns.items():
            entries[name][some] = values


def wants_lists(meta: Meta) -> bool:
    """Whether a segment of these rows is to have lists."""
    return 4 * meta.rows * meta.dim >= LISTS_BYTES_MIN


def write_lists(out: FrameWriter, uuid: UUID, meta: Meta) -> int:
    """Appends both regions to a file that has all others of the rows; returns where the second begins. The same rows
    give the same lists."""
    with out.written() as (regions, starts):
        source = _Rows(meta, regions, starts)
        spread = np.linspace(0, meta.rows - 1, min(meta.rows, _SAMPLE_ROWS)).astype(np.int64)
        grid = Grid.over(source.take(spread))
        table: list[tuple[int, int, int, int, int]] = []
        centres: list[VectorArray] = []
        home = np.empty(meta.rows, np.int32)
        at = 0
        with out.section("lists") as section:
            found = list(clusters(meta.rows, source.take, grid, rows_per_cluster=ROWS_PER_LIST))
            for number in chained(np.array([centre for _, centre in found])).tolist():
                rows, centre = found[number]
                home[rows] = len(table)
                entries = np.zeros(len(rows), ENTRY)
                entries["row"] = rows
                entries["id_bytes"], ids = source.ids(rows)
                source.payload_places(rows, entries)
                data = encode_list(source.take(rows), centre * grid.unit, entries, ids)
                section.write(data)
                table.append(list_row(at, data, len(rows)))
                centres.append(centre)
                at += len(data)
        crcs = _block_crcs(regions["vectors"])
        recall = _recall(source, grid, np.array(centres, np.float32), home)
    directory = ListDirectory(
        uuid, meta.rows, meta.dim, float(grid.unit), section.offset, starts["vectors"], starts["paydata"], recall,
        list_table(table), crcs, np.array(centres, np.int8).reshape(len(table), meta.dim),
    )  # fmt: skip
    return _put(out, directory)


def copy_lists(out: FrameWriter, uuid: UUID, regions: Mapping[str, memoryview], *, name: str, segment: UUID) -> int:
    """Appends those of the same rows in object `name`, whose uuid is `segment`."""
    directory = decode_directory(regions["coarse"], name=name, segment=segment)
    with out.section("lists") as section:
        section.write(regions["lists"])
    with out.written() as (_, starts):
        return _put(out, directory.moved(uuid, section.offset, starts["vectors"], starts["paydata"]))


def _put(out: FrameWriter, directory: ListDirectory) -> int:
    with out.section("coarse") as section:
        section.write(directory.encode())
    return section.offset


def _block_crcs(vectors: memoryview) -> npt.NDArray[np.uint32]:
    return np.array([crc32c(vectors[at : at + BLOCK_BYTES]) for at in range(0, len(vectors), BLOCK_BYTES)], np.uint32)


def _recall(source: _Rows, grid: Grid, centres: VectorArray, home: npt.NDArray[np.int32]) -> VectorArray:
    """Recall@10 of reading the nearest 1, 2, 4, … lists: float32 (len(PROBES),), measured with some rows as queries, in
    whole numbers so that it is the same everywhere. A query is not counted as its own neighbour.
    """
    count = len(home)
    asked = np.linspace(0, count - 1, min(count, _QUERIES)).astype(np.int64)
    queries = grid.numbers(source.take(asked))
    lengths = 0 if source.meta.metric is Metric.DOT else 1

    def nearness(points: VectorArray) -> VectorArray:
        near = 2 * queries @ points.T
        return near - lengths * np.square(points).sum(axis=1)  # type: ignore[no-any-return]

    near = np.empty((len(asked), count), np.float32)
    for at in range(0, count, _CHUNK_ROWS):
        rows = np.arange(at, min(at + _CHUNK_ROWS, count))
        near[:, rows] = nearness(grid.numbers(source.take(rows)))
    near[np.arange(len(asked)), asked] = -np.inf
    order = np.argsort(-nearness(centres), axis=1, kind="stable")
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(len(centres))[None], axis=1)
    ranks = []
    nth = min(_K, count)
    for i in range(len(asked)):
        tenth = np.partition(near[i], -nth)[-nth]  # rows as near as the tenth count too: which of them came is chance
        ranks.append(rank[i, home[near[i] >= tenth]])
    found = np.concatenate(ranks)
    return np.array([np.mean(found < lists) for lists in PROBES], np.float32)
