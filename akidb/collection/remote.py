"""A shard whose segments are still in the bucket: HEAD and the log's tail are known, searches read segments by ranges.

What is written to the tail hides the rows of the same ids below it, and that is all that answering a search needs. For
everything else the segments are fetched and the shard goes on as one of this machine. Gets and counts need the rows'
ids besides, which `akidb.query.sparse` reads.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import numpy as np

from akidb.collection.state import LiveSegment, ShardState
from akidb.collection.workers import INLINE_ROWS, aside
from akidb.errors import CorruptionError
from akidb.filter import Filter
from akidb.manifest import Head, HeadStore, SegmentRef
from akidb.query import (
    GoneError,
    Part,
    RemoteSegment,
    SearchQuery,
    Snapshot,
    SparseSegment,
    execute,
    matching_rows,
    merged,
    read_directory,
    search_remote,
)
from akidb.query.remote import Runner
from akidb.segment import Mask, Rows, decode_deletes
from akidb.storage.object_store import ObjectStore
from akidb.types import CollectionSpec, Lsn, ScoredPoint
from akidb.wal import Log, Patch, Revert, Slot
from akidb.wal.log import check_chain

T = TypeVar("T")

HEAD_SECS = 10.0
"""How old HEAD may be while searches go by it: then one looks whether the tail was folded."""

_TRIES = 3

MATCHES_MAX = 256
"""Rows that a filtered search reads one by one, each with the 64 KiB around it; for more it waits for the segments."""


class _NeedsSegmentsError(Exception):
    """The tail holds what cannot be told without the segments."""


class _Hidden:
    """Ids whose rows in segments the tail replaced or deleted, each with the first slot that did."""

    def __init__(self) -> None:
        self._since: dict[str, Lsn] = {}

    def add(self, slot: Slot) -> None:
        for batch in slot.batches:
            for operation in batch.operations:
                new = dict.fromkeys(getattr(operation, "ids", ()), slot.lsn)
                for id_ in new.keys() & self._since.keys():
                    del new[id_]
                self._since.update(new)

    def at(self, lsn: Lsn) -> _HiddenAt:
        """Those of the slots up to `lsn`."""
        return _HiddenAt(self._since, lsn)


class _HiddenAt:
    """What a search of another moment's tail goes by; it never changes, whatever is applied meanwhile."""

    def __init__(self, since: Mapping[str, Lsn], lsn: Lsn) -> None:
        self._since = since
        self._lsn = lsn

    def __contains__(self, id_: object) -> bool:
        since = self._since.get(id_) if isinstance(id_, str) else None
        return since is not None and since <= self._lsn

    def ids(self) -> list[str]:
        return [id_ for id_, since in list(self._since.items()) if since <= self._lsn]


class RemoteShard:
    """The state of a shard without its segments. One event loop uses it."""

    def __init__(
        self,
        store: ObjectStore,
        heads: HeadStore,
        log: Log,
        spec: CollectionSpec,
        head: Head,
        open_whole: Callable[[SegmentRef], Awaitable[LiveSegment]],
    ) -> None:
        self.spec = spec
        self._store = store
        self._heads = heads
        self._log = log
        self._open_whole = open_whole
        self._following = asyncio.Lock()
        self._changing = asyncio.Lock()
        self._segments: dict[SegmentRef, asyncio.Task[RemoteSegment | None]] = {}
        self._sparse: dict[SegmentRef, asyncio.Task[SparseSegment]] = {}
        self._take(head)

    def _take(self, head: Head) -> None:
        """Begins anew from another HEAD; what is known of its segments stays known."""
        self.head = head
        self.state = ShardState(self.spec, head, [], {}, lazy_fields=True)
        self.caught_up = -math.inf
        """The state holds all that the log held at this time (time.monotonic seconds); -inf: the log was not read."""
        self._read_head = time.monotonic()
        self._hidden = _Hidden()
        self._beyond_us = False
        kept = {ref: task for ref, task in self._segments.items() if ref in head.segments and _is_remote(task)}
        self._segments = kept
        self._sparse = {ref: task for ref, task in self._sparse.items() if ref in kept}

    async def take_spec(self, spec: CollectionSpec) -> None:
        async with self._changing:
            self.spec = spec
            self.state.take_spec(spec)

    async def renew(self) -> None:
        """Begins anew from the same HEAD: a segment that was open has another file now."""
        async with self._following:
            self._take(self.head)

    async def search(
        self,
        queries: Sequence[SearchQuery],
        follow: Callable[[], Awaitable[None]],
        *,
        deadline: float,
        run: Runner,
    ) -> list[list[ScoredPoint]] | None:
        """The answers, with all that is in the log after `follow`; None where they need the segments themselves.

        Raises:
            CorruptionError, UnavailableError: what could not be read.
        """
        return await self._asked(lambda: self._search(queries, follow, deadline, run))

    async def search_filtered(
        self,
        queries: Sequence[SearchQuery],
        follow: Callable[[], Awaitable[None]],
        *,
        deadline: float,
        run: Runner,
    ) -> list[list[ScoredPoint]] | None:
        """The exact answers where few rows match, which are then read, with all that is in the log after `follow`; None
        and raises as `search`, and StorageFullError."""

        async def ask() -> list[list[ScoredPoint]]:
            known, hidden, sparse = await self._opened(follow)
            parts = [await self._part(each, hidden.ids(), run) for each in sparse]
            filters = {query.filter for query in queries}
            rows = [await run(partial(_matching, part, filters)) for part in parts]
            if sum(map(len, rows)) > MATCHES_MAX:
                raise _NeedsSegmentsError
            await asyncio.gather(*(each.load(some, vectors=True) for each, some in zip(sparse, rows, strict=True)))
            snapshot = Snapshot((*known.parts, *parts), known.lsns, self.spec)
            exact = [replace(query, exact=True) for query in queries]
            return await run(partial(execute, snapshot, exact, deadline=deadline))

        return await self._asked(ask)

    async def snapshot(
        self, ids: Sequence[str] | None, follow: Callable[[], Awaitable[None]], *, run: Runner, with_vector: bool = True
    ) -> Snapshot | None:
        """The points of these ids, or where None of all ids everything but vectors and payloads, with all that is in
        the log after `follow`; None and raises as `search`, and StorageFullError."""

        async def ask() -> Snapshot:
            known, hidden, sparse = await self._opened(follow)
            killed = hidden.ids() if ids is None else [id_ for id_ in ids if id_ in hidden]
            parts = [await self._part(each, killed, run) for each in sparse]
            wanted = [id_ for id_ in ids or () if id_ not in hidden]
            rows = [await run(partial(each.segment.find, wanted)) for each in sparse]
            live = [some[part.is_live(some)] for part, some in zip(parts, rows, strict=True)]
            loading = (each.load(some, vectors=with_vector) for each, some in zip(sparse, live, strict=True))
            await asyncio.gather(*loading)
            return Snapshot((*known.parts, *parts), known.lsns, self.spec)

        return await self._asked(ask)

    async def _asked(self, ask: Callable[[], Awaitable[T | None]]) -> T | None:
        for attempt in range(_TRIES):
            try:
                return await ask()
            except _NeedsSegmentsError:
                return None
            except GoneError:
                if attempt + 1 == _TRIES:
                    raise
                async with self._following:
                    await self._look_at_head()
        raise AssertionError("the loop returns or raises")

    async def _opened(self, follow: Callable[[], Awaitable[None]]) -> tuple[Snapshot, _HiddenAt, list[SparseSegment]]:
        """What is here, the ids that it hides in the segments that are not, and these."""
        state, began = self.state, time.monotonic()
        async with _beside(follow()) as following:
            opened = await asyncio.gather(*(self._segment(ref) for ref in state.head.segments))
            sparse = await asyncio.gather(*(self._sparse_of(each) for each in opened if each is not None))
            await following
        if self.state is not state:
            return await self._opened(self._unless_since(began, follow))
        known = self.state.snapshot()
        return known, self._hidden.at(known.lsn), sparse

    async def _part(self, sparse: SparseSegment, hidden: Sequence[str], run: Runner) -> Part:
        live = LiveSegment(sparse.ref, sparse.segment, None if sparse.live is None else sparse.live.copy())
        await run(partial(live.kill, hidden))
        return live.part()

    async def _sparse_of(self, segment: RemoteSegment) -> SparseSegment:
        return await _once(self._sparse, segment.ref, lambda: SparseSegment.open(self._store, segment))

    async def _search(
        self,
        queries: Sequence[SearchQuery],
        follow: Callable[[], Awaitable[None]],
        deadline: float,
        run: Runner,
    ) -> list[list[ScoredPoint]] | None:
        state, began = self.state, time.monotonic()
        async with _beside(follow()) as following:
            told: asyncio.Future[Snapshot] = asyncio.get_running_loop().create_future()

            async def hidden() -> _HiddenAt:
                await following
                known = self.state.snapshot()
                told.set_result(known)
                return self._hidden.at(known.lsn)

            async def in_tail() -> list[list[ScoredPoint]]:
                return await run(partial(execute, await told, queries, deadline=deadline))

            opened = await asyncio.gather(*(self._segment(ref) for ref in state.head.segments))
            segments = [segment for segment in opened if segment is not None]
            async with _beside(in_tail()) as tail:
                found = await search_remote(self._store, segments, queries, self.spec, hidden=hidden, run=run)
                nearest = [found, await tail]
        if self.state is not state:  # another node folded meanwhile: its segments have what was the tail
            return await self._search(queries, self._unless_since(began, follow), deadline, run)
        return merged(nearest, queries, self.spec.metric)

    def _unless_since(self, began: float, follow: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        """`follow`, unless the state holds all that the log held when `began`: it may be one that another read has just
        begun with."""
        return _nothing if self.caught_up >= began else follow

    async def _segment(self, ref: SegmentRef) -> RemoteSegment | None:
        """None for one that is here, and then among the state's."""
        return await _once(self._segments, ref, lambda: self._open_segment(ref))

    async def _open_segment(self, ref: SegmentRef) -> RemoteSegment | None:
        if not ref.coarse_bytes or await self._store.has_local(ref.key):
            state, whole = self.state, await self._open_whole(ref)
            async with self._changing:
                if state is self.state:  # else another state asks for it again
                    whole.kill(self._hidden.at(state.applied).ids())
                    state.add(whole)
            return None
        directory, live = await asyncio.gather(read_directory(self._store, ref), self._read_deletes(ref))
        if (directory.rows, directory.dim) != (ref.rows, self.spec.dim):
            raise CorruptionError(
                f"its list directory is of {directory.rows} rows of dimension {directory.dim}, HEAD "
                f"says {ref.rows} of {self.spec.dim}",
                key=ref.key,
            )
        return RemoteSegment(ref, directory, live)

    async def _read_deletes(self, ref: SegmentRef) -> Mask | None:
        if ref.deletes_key is None:
            return None
        reply = await self._store.get(ref.deletes_key)
        if not reply.ok:
            raise GoneError(f"object {ref.deletes_key}: HEAD names these deletes, the store does not have them")
        decode = partial(decode_deletes, reply.body, rows=ref.rows, name=ref.deletes_key, segment=ref.uuid)
        return await asyncio.to_thread(decode)

    async def follow(self) -> None:
        """Applies what was in the log at some moment during this call; calls that wait share one look.

        Raises _NeedsSegmentsError where the log patches payloads that only segments hold, or reverts to a snapshot.
        """
        arrived = time.monotonic()
        async with self._following:
            if self._beyond_us:
                raise _NeedsSegmentsError
            if self.caught_up >= arrived:
                return
            began = time.monotonic()
            if began - self._read_head > HEAD_SECS:
                await self._look_at_head()
            while not await self._reached_end():
                pass
            self.caught_up = began

    async def _reached_end(self) -> bool:
        """Applies what is in the log; False if slots of it may be gone, and the state is another HEAD's now."""
        if self.caught_up != -math.inf:
            look = await self._log.look(self.state.applied + 1)
            if look.slot is None and self._heads.vouches(look.lsn, look.date):
                return True
        async for looks in self._log.look_from(self.state.applied + 1):
            if not all(self._heads.vouches(look.lsn, look.date) for look in looks):
                before = self.state
                await self._look_at_head()
                if self.state is not before:
                    return False
            for look in looks:
                if look.slot is not None:
                    check_chain(look.slot, self.state.chain, self._log.key(look.lsn))
                    await self._apply(look.slot)
                    await asyncio.sleep(0)
        return True

    async def _apply(self, slot: Slot) -> None:
        operations = [operation for batch in slot.batches for operation in batch.operations]
        if any(isinstance(operation, Patch | Revert) for operation in operations):
            self._beyond_us = True
            raise _NeedsSegmentsError
        async with self._changing:
            self._hidden.add(slot)
            if slot.rows > INLINE_ROWS:
                self.state.snapshot()  # for readers meanwhile
            await aside(partial(self.state.apply, slot), rows=slot.rows)

    async def _look_at_head(self) -> None:
        head, _ = await self._heads.read()
        self._read_head = time.monotonic()
        if (head.folded, head.segments) != (self.head.folded, self.head.segments):
            self._take(head)

    async def close(self) -> None:
        tasks = [*self._segments.values(), *self._sparse.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _once(
    tasks: dict[SegmentRef, asyncio.Task[T]], ref: SegmentRef, begin: Callable[[], Coroutine[Any, Any, T]]
) -> T:
    """The result for `ref`, of a task that all who want it share; begun again where it failed."""
    task = tasks.get(ref)
    if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
        task = tasks[ref] = asyncio.create_task(begin())
    return await asyncio.shield(task)


@contextlib.asynccontextmanager
async def _beside(work: Awaitable[T]) -> AsyncIterator[asyncio.Future[T]]:
    """Does work while the context lasts."""
    working = asyncio.ensure_future(work)
    try:
        yield working
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


def _is_remote(task: asyncio.Task[RemoteSegment | None]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None and task.result() is not None


def _matching(part: Part, filters: Iterable[Filter | None]) -> Rows:
    """The live rows that match any of the filters."""
    return np.unique(np.concatenate([matching_rows(part, filter) for filter in filters]))


async def _nothing() -> None:
    """Nothing more is to be read."""
