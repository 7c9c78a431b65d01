"""From batches to the collection: several in flight, settled in file order."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from akidb.connection import AsyncCollection
from akidb.errors import DeadlineExceededError, InvalidInputError, UnavailableError
from akidb.ingest.batch import Batch, Columns
from akidb.ingest.checks import storable
from akidb.ingest.progress import Place, Progress
from akidb.ingest.rejects import RejectsFile
from akidb.ingest.sources import Source
from akidb.ingest.target import Target

ATTEMPTS_MAX = 8
BACKOFF_FIRST_SECS, BACKOFF_LONGEST_SECS = 0.5, 30.0


@dataclass(frozen=True, slots=True)
class _InFlight:
    task: asyncio.Task[Batch]
    ids: frozenset[str]
    file: int


class Loader:
    """One run. `on_rows` is told how many more rows of the files are done with, stored or rejected; `on_resumed` where
    an earlier run was stopped, if this one goes on there."""

    def __init__(
        self,
        target: Target,
        columns: Columns,
        progress: Progress,
        *,
        rejects: Callable[[int], RejectsFile],
        rows_per_batch: int,
        parallel: int,
        on_rows: Callable[[int], None],
        on_resumed: Callable[[Source, Place], None],
    ) -> None:
        self._target = target
        self._columns = columns
        self._progress = progress
        self._open_rejects = rejects
        self._rows_per_batch = rows_per_batch
        self._parallel = parallel
        self._on_rows = on_rows
        self._on_resumed = on_resumed
        self._collection: AsyncCollection | None = None
        self._in_flight: deque[_InFlight] = deque()

    async def run(self, sources: Sequence[Source]) -> Place:
        """Stores all rows; returns the last place, with the counts of the whole run, its earlier parts included.

        Raises:
            InvalidInputError: a file is not readable or lacks a column, or the collection refuses a batch as a whole.
            AkiDBError: what storing raises, when it goes on failing. The next run goes on from the marker.
        """
        self._sources = sources
        self._collection = await self._target.existing()
        self._place = await self._resumed()
        self._rejects = self._open_rejects(self._place.rejects_bytes)
        skip = self._place.row
        try:
            for file in range(self._place.file, len(sources)):
                await self._load(file, skip)
                skip = 0
            while self._in_flight:
                await self._settle()
        finally:
            for entry in self._in_flight:
                entry.task.cancel()
            await asyncio.gather(*(entry.task for entry in self._in_flight), return_exceptions=True)
        self._progress.forget()
        return self._place

    async def _resumed(self) -> Place:
        place = self._progress.load()
        if self._collection is None or not place.witnesses:
            return Place()
        found = await self._collection.get(place.witnesses, with_vector=False)
        if None in found:
            return Place()
        self._on_resumed(self._sources[place.file], place)
        self._on_rows(sum(source.rows() or 0 for source in self._sources[: place.file]) + place.row)
        return place

    async def _load(self, file: int, skip: int) -> None:
        batches = self._batches(self._sources[file], skip)
        while (batch := await asyncio.to_thread(next, batches, None)) is not None:
            ids = frozenset(batch.ids)
            # File order wins among equal ids, so a batch waits for those before it that share one.
            while self._in_flight and (
                len(self._in_flight) >= self._parallel
                or any(not ids.isdisjoint(entry.ids) for entry in self._in_flight)
            ):
                await self._settle()
            if self._collection is None and batch.ids:
                self._collection = await self._target.made(batch.vectors.shape[1])
            self._in_flight.append(_InFlight(asyncio.create_task(self._store(batch)), ids, file))

    def _batches(self, source: Source, skip: int) -> Iterator[Batch]:
        dim = None if self._collection is None else self._collection.dim
        for batch in source.read(self._columns, rows_per_batch=self._rows_per_batch, skip=skip, dim=dim):
            yield storable(batch, self._target.metric)

    async def _store(self, batch: Batch) -> Batch:
        """Upserts; rows that the collection refuses by position become rejects and the rest is sent again."""
        while batch.ids:
            try:
                await self._patiently(batch)
                break
            except InvalidInputError as error:
                reasons = {row: fault.msg for fault in error.faults if (row := _position(fault.loc)) is not None}
                if not reasons:
                    raise
                batch = batch.without(reasons)
        return batch

    async def _patiently(self, batch: Batch) -> None:
        assert self._collection is not None
        for attempt in range(ATTEMPTS_MAX):
            try:
                await self._collection.upsert(batch.ids, batch.vectors, batch.payloads)
                return
            except (UnavailableError, DeadlineExceededError) as failed:
                # An upsert whose outcome is unknown may be sent again: the ids and their points are the same.
                if attempt == ATTEMPTS_MAX - 1:
                    raise
                least = failed.retry_after_secs if isinstance(failed, UnavailableError) else 0.0
            longest = min(BACKOFF_FIRST_SECS * 2**attempt, BACKOFF_LONGEST_SECS)
            await asyncio.sleep(least + random.uniform(0, longest))  # noqa: S311  jitter, no secret

    async def _settle(self) -> None:
        """Waits for the oldest batch and moves the place behind it."""
        entry = self._in_flight[0]
        batch = await entry.task
        self._in_flight.popleft()
        source = self._sources[entry.file]
        self._rejects.write(source.path, batch.rejects)
        before = self._place
        self._on_rows(batch.end - (before.row if before.file == entry.file else 0))
        self._place = Place(
            file=entry.file,
            row=batch.end,
            stored=before.stored + len(batch.ids),
            rejected=before.rejected + len(batch.rejects),
            rejects_bytes=self._rejects.size,
            witnesses=[batch.ids[0], batch.ids[-1]] if batch.ids else before.witnesses,
        )
        self._progress.save(self._place)


def _position(loc: Sequence[str | int]) -> int | None:
    """The row that a refusal such as ("vectors", 3, "vector") is about."""
    return loc[1] if len(loc) > 1 and isinstance(loc[1], int) else None
