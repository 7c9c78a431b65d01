"""The background work of one shard: when to fold, which graph to build, when to look at HEAD.

All of it may happen on any node, at any time, or not at all, without changing an answer.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable

from akidb.collection.fold import SEGMENT_BYTES_TARGET, add_graph, fold
from akidb.collection.shard import Shard
from akidb.collection.state import LiveSegment
from akidb.errors import AkiDBError, DeadlineExceededError
from akidb.index import build_graph
from akidb.types import IndexState
from akidb.wal import Slot

log = logging.getLogger(__name__)

TAIL_BYTES_MAX = 64 << 20
TAIL_ROWS_MAX = 100_000
TAIL_AGE_SECS_MAX = 60.0
IDLE_FOLD_SECS = 2.0
"""A tail that would deserve a graph is folded as soon as writing pauses this long."""

TICK_SECS = 0.5
REFRESH_SECS = 10.0
RETRY_SECS_MAX = 30.0


class Maintenance:
    """Keeps one shard's tail short and its segments in graphs, in a task of its own."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard
        self._folding = asyncio.Lock()
        self._building = asyncio.Lock()
        self._wake = asyncio.Event()
        self._stop_build = threading.Event()
        self._tail_since = 0.0
        self._own_crossing = False
        self._refreshed = time.monotonic()
        self._built_rows = 0
        self.last_error: AkiDBError | None = None
        shard.on_applied = self._applied
        self._tasks = [
            asyncio.create_task(self._run(self._fold_if_due)),
            asyncio.create_task(self._run(self._build_if_due)),
        ]

    def _applied(self, slot: Slot) -> None:
        self._tail_since = self._tail_since or time.monotonic()
        if slot.writer == self._shard.appender.writer and self.tail_size() >= 1.0:
            self._own_crossing = True
        self._wake.set()

    def tail_size(self) -> float:
        """The tail in memory as a share of its limit."""
        tables = (*self._shard.state.frozen, self._shard.state.active)
        rows, size = sum(table.rows for table in tables), sum(table.bytes for table in tables)
        return max(rows / TAIL_ROWS_MAX, size / TAIL_BYTES_MAX)

    async def _run(self, step: Callable[[], Awaitable[None]]) -> None:
        pause, failing = TICK_SECS, False
        while True:
            if not self._busy():
                self._wake.clear()
                await self._wake.wait()
            await asyncio.sleep(pause)
            try:
                await step()
                pause, failing, self.last_error = TICK_SECS, False, None
            except AkiDBError as error:
                if not failing:
                    log.warning("background work on collection %s failed, will retry: %s", self._shard.spec.name, error)
                pause, failing, self.last_error = min(max(1.0, pause * 2), RETRY_SECS_MAX), True, error

    def _busy(self) -> bool:
        state = self._shard.state
        return not state.sealed and (state.slots_in_tail > 0 or self._next_to_build() is not None)

    async def _fold_if_due(self) -> None:
        now = time.monotonic()
        if now - self._refreshed > REFRESH_SECS:
            self._refreshed = now
            await self._shard.refresh()
        if not self._shard.state.sealed and self._should_fold(now):
            await self.fold()

    async def _build_if_due(self) -> None:
        segment = self._next_to_build()
        writing = time.monotonic() - self._shard.last_write < IDLE_FOLD_SECS
        if segment is not None and (not writing or segment.ref.bytes >= SEGMENT_BYTES_TARGET // 2):
            await self.build(segment)

    def _should_fold(self, now: float) -> bool:
        state = self._shard.state
        if not state.slots_in_tail:
            return False
        size = self.tail_size()
        if size >= 2.0 or (size >= 1.0 and self._own_crossing):
            return True
        if state.tail_wants_graph and now - self._shard.last_write > IDLE_FOLD_SECS:
            return True
        return now - (self._tail_since or now) > TAIL_AGE_SECS_MAX

    async def fold(self) -> None:
        """One fold; waits for the work under way."""
        async with self._folding:
            self._own_crossing = False
            self._tail_since = time.monotonic()
            began, shard = time.perf_counter(), self._shard
            if await fold(shard):
                seconds = time.perf_counter() - began
                log.info("folded %s up to slot %d in %.2f s", shard.spec.name, shard.state.head.folded - 1, seconds)

    def _next_to_build(self) -> LiveSegment | None:
        """The largest segment that is to have a graph and has none."""
        state = self._shard.state
        wanting = [segment for segment in state.segments if state.wants_graph(segment)]
        return max(wanting, key=lambda segment: segment.reader.rows, default=None)

    async def build(self, segment: LiveSegment) -> None:
        """Builds one segment's graph on the background threads and commits it."""
        shard, index = self._shard, self._shard.spec.index
        async with self._building:
            if segment not in shard.state.segments:
                return

            def work() -> bytes:
                return build_graph(
                    segment.reader.vectors,
                    shard.spec.metric.native,
                    m=index.m,
                    ef_construction=index.ef_construction,
                    progress=self._progress,
                    stop=self._stop_build,
                )

            began = time.perf_counter()
            graph = await asyncio.get_running_loop().run_in_executor(shard.workers.background, work)
            self._built_rows = 0
            if await add_graph(shard, segment, graph):
                log.info("built the graph of %d points of collection %s in %.2f s",
                         segment.reader.rows, shard.spec.name, time.perf_counter() - began)  # fmt: skip

    def _progress(self, done: int, total: int) -> None:
        self._built_rows = done

    def index_state(self) -> IndexState:
        """Points in graphs, and points that are searched exactly until their graph is there."""
        return self._shard.state.index_state(self._built_rows)

    async def wait_indexed(self, deadline: float) -> None:
        """Folds and builds now, until nothing is pending."""
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                while self.index_state().pending and not self._shard.state.sealed:
                    if self._shard.state.tail_wants_graph:
                        await self.fold()
                    segment = self._next_to_build()
                    if segment is not None:
                        await self.build(segment)
        except TimeoutError:
            pending = self.index_state().pending
            raise DeadlineExceededError(f"{pending} points are still to be indexed when the time ran out") from None

    async def close(self) -> None:
        """Stops at the next safe point; what was not finished is done by whoever opens the shard next."""
        self._stop_build.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
