"""Searches segments that are still in the bucket, by ranged reads in three rounds: which lists there are, the nearest
lists, and of their best rows the exact vectors and the payloads.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from akidb.errors import CorruptionError
from akidb.index import scan
from akidb.index.arguments import MetricWord
from akidb.manifest import SegmentRef
from akidb.query.execute import above
from akidb.query.plan import Batch, SearchQuery, batches
from akidb.segment import ListDirectory, Mask, RowList, Rows, decode_block, decode_directory
from akidb.segment.lists_format import BLOCK_BYTES, NO_PAYLOAD
from akidb.storage.object_store import ObjectStore
from akidb.types import CollectionSpec, Metric, ScoredPoint, VectorArray

T = TypeVar("T")


class Runner(Protocol):
    """Makes a call in a thread."""

    def __call__(self, call: Callable[[], T], /) -> Awaitable[T]: ...


TOP_K_MAX = 100
QUERIES_MAX = 16
"""What asks for more waits for the segments themselves: it would read most of them anyway."""

RECALL = 0.95
"""Share of the nearest whose lists are read where the query does not say."""

AT_ONCE = 96
"""Ranges that are asked for at a time: those of a round of most searches, which fewer would make two rounds."""

_RUN_BYTES_MAX = 2 << 20
GAP_BYTES_MAX = 256 << 10
"""What is read between two lists to spare a request: over a million rows 30 MB in 62 requests are less work for client
and store than 25 MB in 86."""

READS_MAX = 3
_EXTRA_SHARE, _EXTRA_MIN = 0.5, 8
"""Rows beyond top_k whose exact vectors are read: codes of half a byte put the tenth among the first 16."""


class GoneError(CorruptionError):
    """The object is not in the store (any more): a newer HEAD may tell of others."""


@dataclass(frozen=True, slots=True, eq=False)
class RemoteSegment:
    """A segment of the store of which this node has the list directory alone, and which rows live (None: all)."""

    ref: SegmentRef
    directory: ListDirectory
    live: Mask | None


def serves(queries: Sequence[SearchQuery]) -> bool:
    """Whether these are answered by ranged reads: few, of small top_k, without filter, not exact."""
    return len(queries) <= QUERIES_MAX and all(
        query.filter is None and not query.exact and query.top_k <= TOP_K_MAX for query in queries
    )


async def read_directory(store: ObjectStore, ref: SegmentRef) -> ListDirectory:
    """The first round. Raises CorruptionError (GoneError where the object is not there), UnavailableError."""
    start = ref.bytes - ref.coarse_bytes
    decode = partial(decode_directory, name=ref.key, segment=ref.uuid)
    return await checked_range(store, ref.key, (start, ref.bytes), decode)


async def checked_range(store: ObjectStore, key: str, byte_range: tuple[int, int], decode: Callable[[bytes], T]) -> T:
    """What `decode` makes of the bytes; they are read again where it finds them damaged, past any cache."""
    for attempt in range(READS_MAX):
        reply = await store.get(key, byte_range=byte_range)
        if not reply.ok:
            raise GoneError(f"object {key}: HEAD names this segment, the store does not have it")
        try:
            return decode(reply.body)
        except CorruptionError:
            if attempt + 1 == READS_MAX:
                raise
            await store.forget_local(key)
    raise AssertionError("the loop returns or raises")


async def search_remote(
    store: ObjectStore,
    segments: Sequence[RemoteSegment],
    queries: Sequence[SearchQuery],
    spec: CollectionSpec,
    *,
    hidden: Callable[[], Awaitable[Container[str]]],
    run: Runner,
) -> list[list[ScoredPoint]]:
    """The answers in the order of `queries`, as `query.execute`'s; scores are exact.

    Args:
        hidden: tells, while the second round is under way, ids that are not to be found here: newer slots have them.
        run: for what computes.

    Raises:
        CorruptionError: what was read fails its checks (GoneError: the object is not there).
        UnavailableError: the store is away.
    """
    reader = _Reader(store, segments, spec)
    groups = batches(queries, spec)
    wanted = {batch.positions[0]: await run(partial(reader.nearest, batch)) for batch in groups}
    unseen, _ = await asyncio.gather(hidden(), reader.read_lists(set().union(*wanted.values())))
    answers: list[list[ScoredPoint]] = [[] for _ in queries]
    for batch in groups:
        chosen = await run(partial(reader.candidates, batch, wanted[batch.positions[0]], unseen))
        await reader.read_rows(set().union(*map(set, chosen)), with_payload=batch.with_payload)
        found = await run(partial(reader.ranked, batch, chosen))
        for position, answer in zip(batch.positions, found, strict=True):
            answers[position] = above(answer, queries[position].score_threshold, spec.metric)
    return answers


_List = tuple[int, int]
"""Number of the segment, number of the list in it."""

_Place = tuple[int, int, int]
"""A list, and the position of a row in it."""


class _Reader:
    """What one call has read so far."""

    def __init__(self, store: ObjectStore, segments: Sequence[RemoteSegment], spec: CollectionSpec) -> None:
        self._store = store
        self._segments = segments
        self._spec = spec
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._lists: dict[_List, RowList] = {}
        self._blocks: dict[tuple[int, int], bytes] = {}
        self._payloads: dict[tuple[int, int], bytes] = {}

    def nearest(self, batch: Batch) -> set[_List]:
        """The lists to read: of each segment as many as its calibration asks for."""
        found = set()
        recall = RECALL if batch.target_recall is None else batch.target_recall
        wider = batch.ef_search / max(batch.top_k, self._spec.index.ef_search)
        points = self._comparable(batch.vectors)
        metric: MetricWord = "ip" if self._spec.metric is Metric.DOT else "l2"
        for number, segment in enumerate(self._segments):
            directory = segment.directory
            count = min(len(directory), math.ceil(directory.lists_for(recall) * wider))
            centres = directory.centres.astype(np.float32) * np.float32(directory.unit)
            rows, _ = scan(centres, metric, points, count)
            found |= {(number, row) for row in np.unique(rows).tolist() if row >= 0}
        return found

    def _comparable(self, vectors: VectorArray) -> VectorArray:
        if self._spec.metric is not Metric.COSINE:
            return vectors
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.ascontiguousarray(vectors / np.where(lengths > 0, lengths, 1), np.float32)

    async def read_lists(self, wanted: set[_List]) -> None:
        await asyncio.gather(*(self._read_run(*run) for run in self._runs(wanted)))

    def _runs(self, wanted: set[_List]) -> Iterator[tuple[int, list[int]]]:
        """Lists that lie near each other, as those of near rows often do, up to a size and with what is between them: a
        request costs more than its bytes."""
        run: list[int] = []
        of = -1
        for number, list_ in sorted(wanted):
            ranges = self._segments[number].directory.range_of
            start, end = ranges(list_)
            if run and (
                number != of or start - ranges(run[-1])[1] > GAP_BYTES_MAX or end - ranges(run[0])[0] > _RUN_BYTES_MAX
            ):
                yield of, run
                run = []
            of = number
            run.append(list_)
        if run:
            yield of, run

    async def _read_run(self, number: int, run: Sequence[int]) -> None:
        segment = self._segments[number]
        directory, name = segment.directory, segment.ref.key
        first, last = directory.range_of(run[0])[0], directory.range_of(run[-1])[1]

        def decode(data: bytes) -> list[RowList]:
            ranges = ((list_, *directory.range_of(list_)) for list_ in run)
            return [RowList(data[a - first : b - first], list_, directory, name=name) for list_, a, b in ranges]

        for list_, rows in zip(run, await self._read(segment, (first, last), decode), strict=True):
            self._lists[number, list_] = rows

    async def _read(self, segment: RemoteSegment, byte_range: tuple[int, int], decode: Callable[[bytes], T]) -> T:
        async with self._slots:
            return await checked_range(self._store, segment.ref.key, byte_range, decode)

    def candidates(self, batch: Batch, wanted: set[_List], hidden: Container[str]) -> list[list[_Place]]:
        """For each query the rows whose codes are nearest, of those that are live and not `hidden`."""
        count = batch.top_k + max(_EXTRA_MIN, math.ceil(batch.top_k * _EXTRA_SHARE))
        places = [(which, self._lists[which]) for which in sorted(wanted)]
        if not places:
            return [[] for _ in batch.positions]
        queries = self._comparable(batch.vectors)
        distances = np.concatenate([rows.distances(queries, self._spec.metric) for _, rows in places], axis=1)
        distances[:, ~np.concatenate([self._live(which, rows) for which, rows in places])] = np.inf
        starts = np.cumsum([0, *(rows.rows for _, rows in places)])

        def place(rows: Rows) -> list[_Place]:
            at = np.searchsorted(starts, rows, side="right") - 1
            return [(*places[n][0], row) for n, row in zip(at.tolist(), (rows - starts[at]).tolist(), strict=True)]

        return [self._nearest_visible(near, count, place, hidden) for near in distances]

    def _live(self, which: _List, rows: RowList) -> Mask:
        live = self._segments[which[0]].live
        return np.ones(rows.rows, np.bool_) if live is None else live[rows.entries["row"]]

    def _nearest_visible(
        self, near: VectorArray, count: int, place: Callable[[Rows], list[_Place]], hidden: Container[str]
    ) -> list[_Place]:
        """The `count` nearest of those at less than infinity that are not hidden. From the nearest on, since the ids of
        few of all the rows that were read are needed so."""
        reach = count
        while True:
            rows = np.argpartition(near, min(reach, len(near)) - 1)[:reach]
            rows = rows[near[rows] < np.inf]
            visible = [at for at in place(rows[np.argsort(near[rows])]) if self._id(at) not in hidden]
            if len(visible) >= count or len(rows) < reach:
                return visible[:count]
            reach *= 2

    def _id(self, place: _Place) -> str:
        number, list_, at = place
        return self._lists[number, list_].id_at(at)

    async def read_rows(self, places: set[_Place], *, with_payload: bool) -> None:
        """The vectors' blocks and the payload blocks of some rows, each once."""
        blocks: set[tuple[int, int]] = set()
        payloads: dict[tuple[int, int], tuple[int, int]] = {}
        for segment, list_, at in places:
            entry = self._lists[segment, list_].entries[at]
            blocks |= {(segment, block) for block in self._segments[segment].directory.blocks_of(int(entry["row"]))}
            if with_payload and entry["bytes"] not in (0, NO_PAYLOAD):
                payloads[segment, int(entry["place"])] = int(entry["packed"]), int(entry["unpacked"])
        await asyncio.gather(
            *(self._read_block(*each) for each in sorted(blocks - self._blocks.keys())),
            *(self._read_payload(*each, *payloads[each]) for each in sorted(payloads.keys() - self._payloads.keys())),
        )

    async def _read_block(self, number: int, block: int) -> None:
        segment = self._segments[number]

        def decode(data: bytes) -> bytes:
            segment.directory.check_block(block, data, name=segment.ref.key)
            return data

        self._blocks[number, block] = await self._read(segment, segment.directory.block_of(block), decode)

    async def _read_payload(self, number: int, place: int, packed: int, unpacked: int) -> None:
        segment = self._segments[number]

        def decode(data: bytes) -> bytes:
            try:
                return decode_block(memoryview(data), unpacked)
            except ValueError as error:
                raise CorruptionError(f"payload block at {place}: {error}", key=segment.ref.key) from error

        start = segment.directory.payloads_at + place
        self._payloads[number, place] = await self._read(segment, (start, start + packed), decode)

    def ranked(self, batch: Batch, chosen: Sequence[Sequence[_Place]]) -> list[list[ScoredPoint]]:
        """The answers by the rows' own vectors, best first, equal ones by id."""
        return [self._rank(batch, vector, places) for vector, places in zip(batch.vectors, chosen, strict=True)]

    def _rank(self, batch: Batch, query: VectorArray, places: Sequence[_Place]) -> list[ScoredPoint]:
        if not places:
            return []
        vectors = np.stack([self._vector(place) for place in places])
        rows, distances = scan(vectors, self._spec.metric.native, query[None], len(places))
        ids = [self._id(place) for place in places]
        order = sorted(zip(distances[0].tolist(), (ids[row] for row in rows[0]), rows[0].tolist(), strict=True))
        kept = order[: batch.top_k]
        scores = self._spec.metric.scores(np.array([[distance for distance, _, _ in kept]], np.float32))[0].tolist()
        return [
            ScoredPoint(
                id_,
                score,
                self._payload(places[row]) if batch.with_payload else None,
                vectors[row].copy() if batch.with_vector else None,
            )
            for (_, id_, row), score in zip(kept, scores, strict=True)
        ]

    def _vector(self, place: _Place) -> npt.NDArray[np.float32]:
        number, list_, at = place
        directory = self._segments[number].directory
        row = int(self._lists[number, list_].entries["row"][at])
        blocks = directory.blocks_of(row)
        data = b"".join(self._blocks[number, block] for block in blocks)
        start = 4 * directory.dim * row - blocks.start * BLOCK_BYTES
        return np.frombuffer(data, np.float32, directory.dim, start)

    def _payload(self, place: _Place) -> bytes | None:
        number, list_, at = place
        entry = self._lists[number, list_].entries[at]
        if entry["bytes"] == NO_PAYLOAD:
            return None
        if entry["bytes"] == 0:
            return b""
        start = int(entry["start"])
        return self._payloads[number, int(entry["place"])][start : start + int(entry["bytes"])]


def merged(
    answers: Sequence[Sequence[list[ScoredPoint]]], queries: Sequence[SearchQuery], metric: Metric
) -> list[list[ScoredPoint]]:
    """One answer per query from the answers of several parts."""
    sign = 1 if metric is Metric.EUCLIDEAN else -1
    found = []
    for query, parts in zip(queries, zip(*answers, strict=True), strict=True):
        points = sorted((point for part in parts for point in part), key=lambda point: (sign * point.score, point.id))
        found.append(points[: query.top_k])
    return found
