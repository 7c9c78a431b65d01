"""A node of a simulation: a database over the bucket, which may stand still, die, and begin anew with nothing."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import Coroutine
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

from akidb.collection import Peers
from akidb.config.settings import Cache, CircuitBreaker, Hnsw, Index, ManifestRetry, Retry, Settings, Storage
from akidb.database import Database
from akidb.errors import AkiDBError
from akidb.storage.factory import over_network
from akidb.storage.object_store import ObjectStore
from akidb.storage.retrying import Backoff, RetryingStore
from tests.simulation.bucket import Bucket, NodeStore, Weather
from tests.simulation.loop import Host, SimLoop

T = TypeVar("T")

SETTINGS = Settings(
    storage=Storage(
        circuit_breaker=CircuitBreaker(failure_threshold=4, recovery_timeout_secs=3),
        retry=Retry(max_attempts=4, initial_backoff_ms=50, max_backoff_ms=1000),
        manifest_retry=ManifestRetry(max_attempts=8, initial_backoff_ms=50, max_backoff_ms=500),
        gc_interval_secs=3,
    ),
    index=Index(hnsw=Hnsw(m=4, ef_construction=16, ef_search=16, min_vectors_threshold=8)),
)


class CrashedError(Exception):
    """The node died before it answered."""


class Node:
    """One place where a process runs. `database` is None while there is none.

    `guarded` nodes stand on all that a bucket has above it; others, which give up less soon and so do more, on repeats.
    """

    def __init__(
        self,
        loop: SimLoop,
        bucket: Bucket,
        weather: Weather,
        rng: random.Random,
        name: str,
        folder: Path,
        *,
        guarded: bool,
    ) -> None:
        self.name = name
        self._guarded = guarded
        self.database: Database | None = None
        self.opening: asyncio.Task[Database] | None = None
        self._loop, self._bucket, self._weather, self._rng, self._folder = loop, bucket, weather, rng, folder
        self.peers: Peers | None = None
        self._lives = 0
        self._cache: Path | None = None
        self._past: list[tuple[Host, NodeStore]] = []
        self._begin()

    def _begin(self) -> None:
        """A new process: nothing of the one before is known to it, and its clock has another beginning."""
        self._lives += 1
        offset, rate = self._rng.uniform(0, 1e6), self._rng.uniform(0.95, 1.05)
        self.host = Host(self._loop, f"{self.name}.{self._lives}", offset=offset, rate=rate)
        folder = self._folder / self.host.name
        folder.mkdir()
        cache, self._cache = self._cache, folder / "cache"
        _inherit(cache, self._cache, self._rng)
        self._store = NodeStore(self._bucket, self._weather, self.host, folder, self.crash)
        self._past.append((self.host, self._store))
        self.crashed: asyncio.Future[None] = self._loop.create_future()

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Work of this node's process."""
        return self._loop.create_task(work, context=self.host.context)  # type: ignore[return-value]

    async def run(self, work: Coroutine[Any, Any, T], secs: float) -> T:
        """The result of work on this node, for a caller elsewhere. Raises CrashedError, TimeoutError."""
        crashed, task = self.crashed, self.start(work)
        await asyncio.wait({task, crashed}, timeout=secs, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise CrashedError if crashed.done() else TimeoutError

    async def open(self) -> None:
        """Opens the database, as often as that takes."""
        while self.database is None and not self.crashed.done():
            try:
                database = await self.run(Database.open(self._stack(), SETTINGS), 120.0)
                database.peers, self.database = self.peers, database
            except (AkiDBError, CrashedError, TimeoutError):
                await asyncio.sleep(0.5)

    def _stack(self) -> ObjectStore:
        if self._guarded:
            return over_network(self._store, replace(SETTINGS, cache=Cache(hot_path=str(self._cache))))
        return RetryingStore(self._store, Backoff(**asdict(SETTINGS.storage.retry)))

    def crash(self) -> None:
        """The process is gone, wherever it was. What it sent is on its way."""
        if not self.crashed.done():
            self.crashed.set_result(None)
            self.database = None
            self.host.halted = True
            self._bucket.note("crash", self.host.name)

    async def restart(self) -> None:
        self._begin()
        await self.open()

    def bury(self) -> None:
        """Lets the tasks of crashed processes end, once nothing of what they do counts any more."""
        for host, store in self._past:
            store.ended = True
            host.resume()


def _inherit(old: Path | None, new: Path, rng: random.Random) -> None:
    """The file cache that a new process finds: none, that of the one before, or that with damage.

    Copied, since what a dead process had begun to fetch is claimed until it is gone, and here it never is.
    """
    if old is None or not old.exists():
        return
    chosen = rng.choice(("cold", "warm", "damaged"))
    if chosen == "cold":
        return
    shutil.copytree(old, new, ignore=shutil.ignore_patterns("*.part"))
    for path in sorted(new.rglob("*")) if chosen == "damaged" else ():
        if path.is_file() and path.stat().st_size and rng.random() < 0.5:
            body = bytearray(path.read_bytes())
            body[rng.randrange(len(body))] ^= 1 << rng.randrange(8)
            path.write_bytes(body)
