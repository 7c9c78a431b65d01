"""One ingest from its parameters to its end: which files, into which database, from which row on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from akidb.config import Settings
from akidb.ingest.batch import Columns
from akidb.ingest.load import Loader
from akidb.ingest.progress import Place, Progress, state_folder
from akidb.ingest.rejects import RejectsFile, check_writable
from akidb.ingest.sources import Format, Source, find_sources
from akidb.ingest.target import Target, open_database
from akidb.types import Metric


class Watcher(Protocol):
    """Is told how a job gets on."""

    def opened(self, location: str, sources: Sequence[Source], rows: int | None) -> None:
        """The store is open; `rows` is what the progress bar counts to."""

    def resumed(self, source: Source, place: Place) -> None:
        """An earlier run was stopped at `place`, in the middle of `source` or before it: this one goes on there."""

    def rows(self, count: int) -> None:
        """So many more rows are stored or rejected."""


@dataclass(frozen=True, slots=True)
class Job:
    """What akidb-ingest was asked for.

    `where` are files and folders, taken in turn; `to` None: the store that the settings name; `metric` None: the
    collection's.
    """

    collection: str
    where: tuple[str, ...]
    columns: Columns
    rejects: Path
    format: Format | None = None
    to: str | None = None
    api_key: str | None = None
    metric: Metric | None = None
    create: bool = False
    rows_per_batch: int = 1000
    parallel: int = 4
    restart: bool = False

    async def run(self, settings: Settings, watcher: Watcher) -> Place:
        """Stores every row that can be stored; the counts in what it returns include earlier, interrupted runs.

        Raises:
            InvalidInputError: there is nothing to read, or no place for the rejects; nothing was begun.
            AkiDBError: of whatever kind; running the same job again goes on from there.
        """
        check_writable(self.rejects)
        sources = await asyncio.to_thread(find_sources, self.where, self.format, rejects=self.rejects)
        database = await open_database(self.to, settings, api_key=self.api_key)
        try:
            watcher.opened(database.location, sources, await asyncio.to_thread(_count, sources))
            loader = Loader(
                Target(database, self.collection, metric=self.metric, create=self.create),
                self.columns,
                self._progress(database.location, sources),
                rejects=lambda keep_bytes: RejectsFile(self.rejects, keep_bytes=keep_bytes),
                rows_per_batch=self.rows_per_batch,
                parallel=self.parallel,
                on_rows=watcher.rows,
                on_resumed=watcher.resumed,
            )
            return await loader.run(sources)
        finally:
            await database.close()

    def _progress(self, location: str, sources: Sequence[Source]) -> Progress:
        can_resume = all(source.is_repeatable for source in sources)
        run = (location, self.collection, self.columns, str(self.rejects.absolute()))
        progress = Progress(state_folder() if can_resume else None, run, [source.identity for source in sources])
        if self.restart:
            progress.forget()
        return progress


def _count(sources: Sequence[Source]) -> int | None:
    counts = [source.rows() for source in sources]
    return None if None in counts else sum(count or 0 for count in counts)
