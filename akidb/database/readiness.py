"""Whether this node can serve: what it last heard from the store, and a look at it where that is long ago."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection as Some
from collections.abc import Mapping
from uuid import UUID

from akidb.collection import Collection
from akidb.database.catalogue_log import CatalogueLog
from akidb.errors import AkiDBError, UnavailableError
from akidb.storage.breaking import writes_refused
from akidb.storage.keys import PROBE_FOLDER
from akidb.storage.object_store import ObjectStore

PROBE_EVERY_SECS = 10.0
PROBE_TIMEOUT_SECS = 2.0


class Readiness:
    """`opened` are the collections that this process has at hand, now and later."""

    def __init__(
        self, store: ObjectStore, log: CatalogueLog, opened: Mapping[UUID, Collection], *, read_only: bool
    ) -> None:
        self._store = store
        self._log = log
        self._opened = opened
        self._read_only = read_only

    @property
    def _collections(self) -> Some[Collection]:
        return self._opened.values()

    async def ready(self) -> bool:
        """Whether writes can be served; asks the store at most once per 10 s, and each time while something is wrong,
        so that a load balancer's looks are what brings a node back."""
        heard = max([self._log.last_answer, *(collection.last_answer for collection in self._collections)])
        refused = not self._read_only and writes_refused(self._store)
        if time.monotonic() - heard > PROBE_EVERY_SECS or self._log.last_failure is not None or refused:
            try:
                await self._log.catch_up(PROBE_TIMEOUT_SECS)
                if refused:
                    await self._log.watched(self._try_writing())
            except AkiDBError:
                return False
        return True

    async def _try_writing(self) -> None:
        """One small write, since gets say nothing of puts: what an open breaker lets through once its time has come.
        Without it nothing would, as nobody sends writes to a node that is not ready."""
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_SECS):
                await self._store.put(f"{PROBE_FOLDER}/write", b"akidb")
        except TimeoutError as late:
            message = f"{self._store.location} took no write within {PROBE_TIMEOUT_SECS:g} s"
            raise UnavailableError(message) from late

    async def health(self, unopened: Mapping[str, AkiDBError]) -> dict[str, str | None]:
        """What is wrong with `storage`, `wal` and `index`, None for each that is operational; `unopened` are
        collections that can't be opened, by name."""
        storage = None if await self.ready() else str(self._log.last_failure)
        failures = [(each.spec.name, each.background_error) for each in self._collections]
        found = [f"collection {name}: {failure}" for name, failure in failures if failure is not None]
        found += [f"collection {name} can't be opened: {failure}" for name, failure in unopened.items()]
        index = next(iter(found), None)
        return {"storage": storage, "wal": storage, "index": index}
