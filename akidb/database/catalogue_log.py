"""The catalogue's log on this node: followed, added to, and heard from, which tells whether the store answers."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from uuid import UUID

from akidb.codec.frame import KIND_CATALOGUE_HEAD, KIND_CATALOGUE_SLOT
from akidb.collection.requests import DoneError, Request
from akidb.config import Settings
from akidb.database.catalogue import Asked, Catalogue, catalogue_prefix
from akidb.errors import AkiDBError, ConflictError, DeadlineExceededError, NotFoundError, UnavailableError
from akidb.manifest import HeadStore
from akidb.storage.object_store import ObjectStore
from akidb.wal import Appender, Entry, Log, Operation

OPEN_TIMEOUT_SECS = 30.0
FOLLOW_TIMEOUT_SECS = 5.0
"""How long a request waits to hear which collections there are: a handful of small reads."""


class CatalogueLog:
    """`catalogue` is its state, as far as it was followed."""

    def __init__(self, store: ObjectStore, tenant: UUID, settings: Settings) -> None:
        prefix = self._prefix = catalogue_prefix(tenant)
        self.catalogue = Catalogue()
        self._store = store
        self._heads = HeadStore(store, prefix, tenant, kind=KIND_CATALOGUE_HEAD, retry=settings.storage.manifest_retry)
        log = Log(store, prefix, tenant, kind=KIND_CATALOGUE_SLOT)
        self._appender = Appender(log, self.catalogue, self._heads, settings)
        self._write_timeout_secs = settings.api.write_timeout_ms / 1000
        self.last_answer = 0.0
        """When the store last answered (time.monotonic seconds)."""
        self.last_failure: AkiDBError | None = None
        """Why it did not, if that was later."""

    async def lay_down(self) -> None:
        """Puts HEAD where there is none.

        Raises:
            ConfigurationError: the store is a folder that takes no writes.
        """
        await self._heads.create()
        # Where HEAD is there nothing was written yet; every record takes this lock, which a folder mounted read-only
        # refuses.
        async with self._store.lock(self._prefix, exclusive=False):
            pass

    async def read(self) -> None:
        """Reads all that there is. Raises CorruptionError, UnavailableError."""
        await self._appender.catch_up(deadline=time.monotonic() + OPEN_TIMEOUT_SECS)

    async def read_beside_head(self) -> None:
        """The same where the store is far away: HEAD is read beside its log's slots, which it vouches for; a store that
        is new has none."""
        _, end = await asyncio.gather(self._heads.read(), self.read(), return_exceptions=True)
        if isinstance(end, BaseException):
            raise end

    async def follow(self) -> None:
        """Applies what there is in the log by now. Raises UnavailableError."""
        try:
            await self.catch_up(FOLLOW_TIMEOUT_SECS)
        except DeadlineExceededError as late:
            message = f"{self._store.location} did not say within {FOLLOW_TIMEOUT_SECS:g} s which collections there are"
            raise UnavailableError(message) from late

    async def catch_up(self, timeout_secs: float) -> None:
        """The same within `timeout_secs`. Raises DeadlineExceededError, UnavailableError."""
        await self.watched(self._appender.catch_up(deadline=time.monotonic() + timeout_secs))

    async def append(
        self, entry: Entry, check: Callable[[], None] | None, request: Request | None = None
    ) -> Asked | None:
        """Puts a record into the log; of a request, unless the log has it already. Returns the request's answer.

        `check` raises what refuses the record on the very state that it is applied to.
        """
        deadline = time.monotonic() + self._write_timeout_secs
        operations: list[Operation] = [entry] if request is None else [request.once, entry]

        def judge() -> None:
            if request is not None and request.uuid in self.catalogue.requests:
                raise DoneError(self.catalogue.requests[request.uuid].done)
            if check is not None:
                check()

        uuid = None if request is None else request.uuid
        putting = self._appender.append(operations, deadline=deadline, check=judge, exact=True, uuid=uuid)
        with contextlib.suppress(DoneError):
            await self.watched(putting)
        return self.known(request)

    def known(self, request: Request | None) -> Asked | None:
        """The answer of a request that was made before, as far as this node knows.

        Raises:
            InvalidInputError: `idempotency_key_reused`.
        """
        asked = None if request is None else self.catalogue.requests.get(request.uuid)
        if asked is not None and request is not None:
            request.refuse_another(asked.done)
        return asked

    async def watched(self, answer: Awaitable[object]) -> None:
        """Remembers whether the store answers, for readiness."""
        try:
            await answer
        except (ConflictError, NotFoundError, DoneError):
            raise
        except AkiDBError as error:
            self.last_failure = error
            raise
        self.last_failure, self.last_answer = None, time.monotonic()

    async def close(self) -> None:
        """Decides the records under way."""
        await self._appender.close()
