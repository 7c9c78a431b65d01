"""The background work of one shard: when to fold, which graph to build, what to merge, when to look at HEAD.

All of it may happen on any node, at any time, or not at all, without changing an answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from contextvars import Context
from functools import partial
from typing import Any

import numpy as np

from akidb.collection import compaction
from akidb.collection.fold import add_graph, collect_garbage, fold
from akidb.collection.lease import Lease
from akidb.collection.shard import Shard
from akidb.collection.state import LiveSegment
from akidb.collection.workers import give_way
from akidb.errors import AkiDBError, CorruptionError, DeadlineExceededError, UnavailableError
from akidb.index import GraphPart, build_graph
from akidb.telemetry.metrics import METRICS
from akidb.types import CompactionState, IndexState, VectorArray
from akidb.wal import Slot

log = logging.getLogger(__name__)

TAIL_BYTES_MAX = 64 << 20
TAIL_ROWS_MAX = 100_000
TAIL_AGE_SECS_MAX = 60.0
TAIL_SIZE_MAX = 4.0
"""Writers wait for the fold once the tail is this many times its limit."""

IDLE_FOLD_SECS = 2.0
"""A tail that would deserve a graph, or is long, is folded as soon as writing pauses this long."""

TAIL_BYTES_LONG = 4 << 20
"""A node that begins with nothing reads and applies so much in about a round of requests; what is longer makes its
first answer late, which only a fold spares it."""

MERGE_THREADS = max(1, (os.cpu_count() or 1) // 2)
"""Nobody waits for a merge, so it leaves half of the processors to those who ask."""

BUILD_NICENESS = 10

OTHERS_SECS = 5.0
"""How long what another node is at is left alone before the next look."""

TICK_SECS = 0.5
REFRESH_SECS = 10.0
RETRY_SECS_MIN, RETRY_SECS_MAX = 1.0, 30.0
CLOSE_TIMEOUT_SECS = 10.0
SETTLE_TIMEOUT_SECS = 20.0


class _Stop(threading.Event):
    """Also set once the main thread has ended: the interpreter waits for the threads, a graph may take minutes."""

    def is_set(self) -> bool:
        return super().is_set() or not threading.main_thread().is_alive()


class Maintenance:
    """Keeps one shard's tail short, its segments few and in graphs. While there is nothing to do its tasks sleep.

    A fold and the commit of a graph or a merge take turns, since each is made from the HEAD that it replaces. None is
    cut in two when who asked for it is cancelled: a put that outlives the shard's lock could name what was collected.
    """

    def __init__(self, shard: Shard) -> None:
        self._shard = shard
        self._committing = asyncio.Lock()
        self._building = asyncio.Lock()
        self._making_room = asyncio.Lock()
        self._folding, self._indexing = (
            Lease(shard.store, shard.prefix, kind, shard.uuid, shard.appender.writer) for kind in ("fold", "index")
        )
        self._wake = {self._fold_if_due: asyncio.Event(), self._index_if_due: asyncio.Event()}
        self._stop_build = _Stop()
        self._tail_since = 0.0
        self._own_crossing = self._wrote = False
        self._refreshed = time.monotonic()
        self._built_rows = 0
        self._merging: list[LiveSegment] = []
        self._merged_share = 0.0
        self._errors: dict[str, AkiDBError] = {}
        self._under_way: dict[asyncio.Task[None], None] = {}  # in order, so that a simulation repeats itself
        self._closed = False
        shard.on_applied, shard.on_adopted = self._applied, self._looked_again
        if shard.is_warm:
            self._looked_again()
        loops = (
            self._run("fold", lambda: shard.state.slots_in_tail > 0, self._fold_if_due),
            self._run(
                "index", lambda: bool(self._next_to_merge()) or self._next_to_build() is not None, self._index_if_due
            ),
        )
        # Each in a context of its own: the request that happened to open the shard has no part in what they log.
        self._loops = [asyncio.create_task(loop, context=Context()) for loop in loops]

    @property
    def last_error(self) -> AkiDBError | None:
        """Why folding or graph building does not get on, if it does not."""
        return next(iter(self._errors.values()), None)

    def _applied(self, slot: Slot) -> None:
        self._tail_since = self._tail_since or time.monotonic()
        if slot.writer == self._shard.appender.writer:
            self._wrote = True
            self._own_crossing = self._own_crossing or self.tail_size() >= 1.0
        self._wake[self._fold_if_due].set()

    def _looked_again(self) -> None:
        """The tail or the segments are others than before."""
        self._own_crossing = False
        self._tail_since = time.monotonic() if self._shard.state.slots_in_tail else 0.0
        for event in self._wake.values():
            event.set()

    def tail_size(self) -> float:
        """The tail in memory as a share of its limit."""
        tables = (*self._shard.state.frozen, self._shard.state.active)
        rows, size = sum(table.rows for table in tables), sum(table.bytes for table in tables)
        return max(rows / TAIL_ROWS_MAX, size / TAIL_BYTES_MAX)

    async def _run(self, name: str, due: Callable[[], bool], step: Callable[[], Coroutine[Any, Any, None]]) -> None:
        pause, wake = TICK_SECS, self._wake[step]
        while True:
            while not self._shard.is_warm or self._shard.state.sealed or not due():
                wake.clear()
                await wake.wait()
            await asyncio.sleep(pause)
            try:
                await step()
                pause = TICK_SECS
                self._errors.pop(name, None)
            except Exception as failed:  # whatever it was: nobody else would try again
                if self._stop_build.is_set():
                    return
                if isinstance(failed, CorruptionError):
                    self._shard.on_damage(failed)
                if name not in self._errors:
                    report(f"{name} of {_what(self._shard)}", failed)
                self._errors[name] = as_error(failed)
                pause = min(max(RETRY_SECS_MIN, pause * 2), RETRY_SECS_MAX)

    async def _fold_if_due(self) -> None:
        now = time.monotonic()
        if now - self._refreshed > REFRESH_SECS:
            self._refreshed = now
            await self._shard.refresh()
        if self._shard.state.sealed or not self._should_fold(now):
            return
        if self.tail_size() >= 2.0:  # then it is more than work that another node may do later
            await self.fold()
            return
        async with self._folding.held() as ours:
            await self._shard.refresh()  # whoever had the lease may have done it
            if ours and self._should_fold(time.monotonic()):
                await self.fold()
        if not ours:
            await asyncio.sleep(OTHERS_SECS)

    async def _index_if_due(self) -> None:
        if not self._is_index_due():
            return
        async with self._indexing.held() as ours:
            await self._shard.refresh()
            if ours:
                await self._index()
        if not ours:
            await asyncio.sleep(OTHERS_SECS)

    def _is_index_due(self) -> bool:
        segment = self._next_to_build()
        writing = time.monotonic() - self._shard.last_write < IDLE_FOLD_SECS
        large = segment is not None and segment.ref.bytes >= self._target_bytes // 2
        return bool(self._next_to_merge()) or (segment is not None and (large or not writing))

    async def _index(self) -> None:
        segment = self._next_to_build()
        writing = time.monotonic() - self._shard.last_write < IDLE_FOLD_SECS
        large = segment is not None and segment.ref.bytes >= self._target_bytes // 2
        merging = self._next_to_merge()
        if merging and not large:  # of small ones, some may be without a graph: merging gives them one
            await self.merge(merging)
        elif segment is not None and (large or not writing):
            await self.build(segment)

    def _should_fold(self, now: float) -> bool:
        state = self._shard.state
        if not state.slots_in_tail:
            return False
        if state.reverted_at:  # until HEAD names the snapshot's segments none of them can be merged or get a graph
            return True
        size = self.tail_size()
        if size >= 2.0 or (size >= 1.0 and self._own_crossing):
            return True
        if self._deserves_fold and now - self._shard.last_write > IDLE_FOLD_SECS:
            return True
        return now - self._tail_since > TAIL_AGE_SECS_MAX

    @property
    def _deserves_fold(self) -> bool:
        return self._shard.state.tail_wants_graph or self._shard.state.tail_bytes > TAIL_BYTES_LONG

    async def settle(self) -> None:
        """Folds a long tail with writes of this process, which is about to end, where the next to read it may be a node
        without segments, which folds nothing. What fails, or takes too long, is left to others."""
        shard = self._shard
        if self._closed or not self._wrote or shard.state.sealed or shard.state.tail_bytes <= TAIL_BYTES_LONG:
            return
        if shard.store.can_delete:  # a folder: who opens it has all of it
            return
        try:
            async with asyncio.timeout(SETTLE_TIMEOUT_SECS):
                await self.fold()
        except (AkiDBError, OSError) as failed:
            why = str(failed) or f"it took longer than {SETTLE_TIMEOUT_SECS:g} s"
            log.warning("%s was not folded before it was closed: %s", _what(shard), why)

    async def make_room(self, deadline: float) -> None:
        """Waits, for a writer, until the tail is short enough to be added to.

        Raises:
            DeadlineExceededError: past `deadline` (time.monotonic() seconds); nothing was written.
            AkiDBError: why it can't be folded.
        """
        if self.tail_size() <= TAIL_SIZE_MAX:
            return
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())), self._making_room:
                if self.tail_size() > TAIL_SIZE_MAX:
                    await self._unbroken(self._fold(collects=False))
        except TimeoutError:
            raise DeadlineExceededError(
                "the log's tail was not folded in time to take more; nothing was written"
            ) from None

    async def fold(self) -> None:
        """One fold of all that is applied now, after the commit under way."""
        await self._unbroken(self._fold())

    async def _fold(self, *, collects: bool = True) -> None:
        """Garbage waits for whoever puts an object, which may take minutes: not for writers to wait for as well."""
        began, shard = time.perf_counter(), self._shard
        async with self._committing:
            folded = await fold(shard, {segment.ref.uuid for segment in self._merging})
            self._looked_again()
        if folded:
            seconds = time.perf_counter() - began
            log.info("folded %s up to slot %d in %.2f s", _what(shard), shard.state.head.folded - 1, seconds)
            if not shard.state.slots_in_tail:
                self._wrote = False
            if collects and not self._building.locked():  # what is being built collects when it is done
                await collect_garbage(shard)

    def _next_to_build(self) -> LiveSegment | None:
        """The largest segment that is to have a graph, or another one."""
        state = self._shard.state
        if state.reverted_at:
            return None
        wanting = [segment for segment in state.segments if state.wants_graph(segment)]
        return max(wanting, key=lambda segment: segment.reader.rows, default=None)

    async def build(self, segment: LiveSegment) -> None:
        """Builds one segment's graph on threads of its own and commits it."""
        await self._unbroken(self._build(segment))

    async def _build(self, segment: LiveSegment) -> None:
        shard = self._shard
        async with self._building, shard.workers.builds:
            await shard.follow_spec()
            if self._closed or segment not in shard.state.segments or not shard.state.wants_graph(segment):
                return
            began, reader = time.perf_counter(), segment.reader
            parts = []
            if segment.built_with(shard.spec.index):  # other codes beside the same links
                parts.append(GraphPart(reader.regions["graph"], np.ones(reader.rows, np.bool_)))
            await shard.workers.run(shard.workers.background, reader.verify)  # minutes before its copy is written
            graph = await self._graph(reader.vectors, parts, self._count_built)
            added = await add_graph(shard, segment, graph, self._committing)
        if added:
            log.info("built the graph of %d points of %s in %.2f s",
                     segment.reader.rows, _what(shard), time.perf_counter() - began)  # fmt: skip
            await collect_garbage(shard)

    def _count_built(self, done: int, total: int) -> None:
        self._built_rows = done

    def _next_to_merge(self) -> list[LiveSegment]:
        """The segments that compaction would merge now."""
        segments = self._shard.state.segments
        if self._shard.state.reverted_at:
            return []
        sound = [segment.ref for segment in segments if segment.reader.damage is None]
        chosen = compaction.choose(sound, self._target_bytes)
        return [segment for segment in segments if segment.ref in chosen]

    @property
    def _target_bytes(self) -> int:
        return self._shard.settings.compaction.target_bytes

    async def merge(self, segments: Sequence[LiveSegment]) -> None:
        """Merges segments into one and commits it. Searches and writes go on, with processors left to them."""
        await self._unbroken(self._merge(segments))

    async def _merge(self, segments: Sequence[LiveSegment]) -> None:
        shard, outcome = self._shard, "failed"
        async with self._building, shard.workers.builds:
            await shard.follow_spec()
            if self._closed or any(segment not in shard.state.segments for segment in segments):
                return
            began = time.perf_counter()
            self._merging, self._merged_share = list(segments), 0.0
            try:
                build = partial(self._graph, progress=self._count_merged, threads=MERGE_THREADS)
                merged = await compaction.compact(shard, segments, build, self._committing)
                outcome = "merged" if merged else "dropped"
            finally:
                self._merging = []
                METRICS.compactions.labels(outcome).inc()
        if merged:
            seconds = time.perf_counter() - began
            METRICS.compaction_seconds.inc(seconds)
            log.info("merged %d segments of %s in %.2f s", len(segments), _what(shard), seconds)
            await collect_garbage(shard)

    def _count_merged(self, done: int, total: int) -> None:
        self._merged_share = done / total

    async def _graph(
        self,
        vectors: VectorArray,
        parts: Sequence[GraphPart],
        progress: Callable[[int, int], None],
        threads: int = 0,
    ) -> memoryview:
        index = self._shard.spec.index
        build = partial(
            build_graph,
            vectors,
            self._shard.spec.metric.native,
            m=index.m,
            ef_construction=index.ef_construction,
            parts=parts,
            code_bits=index.code_bits,
            threads=threads,
            progress=progress,
            stop=self._stop_build,
        )
        try:
            return await _in_thread_of_its_own(build)
        except AkiDBError as stopped:
            if self._closed:  # the build was stopped by `close`, which is no mistake of the builder's
                raise self._closing() from stopped
            raise
        finally:
            self._built_rows = 0

    def index_state(self) -> IndexState:
        """Points in graphs, and points that are searched exactly until their graph is there."""
        return self._shard.state.index_state(self._built_rows)

    def compaction_state(self) -> CompactionState:
        segments = self._merging or self._next_to_merge()
        if not segments:
            return CompactionState()
        points = sum(segment.ref.live for segment in segments)
        if not self._merging:
            return CompactionState("pending", len(segments), points)
        return CompactionState("merging", len(segments), points, round(self._merged_share, 3))

    async def wait_indexed(self, deadline: float) -> None:
        """Folds and builds now, until nothing is pending."""
        await self._shard.warm(deadline=deadline)
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                while self.index_state().state == "building" and not self._shard.state.sealed:
                    if self._shard.state.tail_wants_graph or self._shard.state.reverted_at:
                        await self.fold()
                    segment = self._next_to_build()
                    if segment is not None:
                        await self.build(segment)
        except TimeoutError:
            pending = self.index_state().pending
            raise DeadlineExceededError(f"{pending} points are still to be indexed when the time ran out") from None

    def _closing(self) -> UnavailableError:
        return UnavailableError(f"collection {self._shard.spec.name!r} is being closed", code="closing")

    async def _unbroken(self, work: Coroutine[Any, Any, None]) -> None:
        """Awaits work that goes on when the waiting is cancelled."""
        if self._closed:
            work.close()
            raise self._closing()
        task = asyncio.create_task(work)
        self._under_way[task] = None
        task.add_done_callback(self._ended)
        await asyncio.wait({task})
        if task.cancelled():  # by `close`; who waits was not cancelled
            raise self._closing()
        task.result()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._under_way.pop(task, None)
        if not task.cancelled():
            task.exception()  # heard, though who asked may be gone

    async def close(self) -> None:
        """Stops at the next safe point; what was not finished is done by whoever opens the shard next."""
        self._closed = True
        self._stop_build.set()
        for task in self._loops:
            task.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=CLOSE_TIMEOUT_SECS)  # longer only while the store is away
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)


def _what(shard: Shard) -> str:
    """The collection as a line of the log names it, and of several shards which."""
    spec = shard.spec
    number = f", shard {int(shard.prefix.rpartition('/')[2], 16)}" if spec.shard_count > 1 else ""
    return f"collection {spec.name}{number}"


def report(what: str, failed: Exception) -> None:
    """Says once that background work fails; a bug of ours with its place."""
    bug = failed if not isinstance(failed, AkiDBError) else None
    log.warning("%s failed, will retry: %s", what, failed, exc_info=bug)


def as_error(failed: Exception) -> AkiDBError:
    return failed if isinstance(failed, AkiDBError) else AkiDBError(f"{type(failed).__name__}: {failed}")


async def _in_thread_of_its_own(call: Callable[[], memoryview]) -> memoryview:
    """A plain thread: the interpreter waits for a pool's threads before it tells anybody that the main thread ended.

    It gives way to those that answer, where the system has priorities of threads.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[memoryview] = loop.create_future()

    def settle(result: memoryview | None, error: BaseException | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        elif result is not None:
            done.set_result(result)

    def run() -> None:
        result, error = None, None
        give_way(BUILD_NICENESS)
        try:
            result = call()
        except BaseException as failed:
            error = failed
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name="akidb-build", daemon=False).start()
    return await done
