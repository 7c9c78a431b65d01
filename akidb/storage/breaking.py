"""Circuit breakers: a store that keeps failing is left alone for a while, and who asks is told so at once.

Reads and writes have one each: a store may well answer the ones and not the others (a full disk, a lost quorum).
"""

from __future__ import annotations

import enum
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from akidb.errors import AkiDBError, UnavailableError
from akidb.storage.instrumented import InstrumentedStore
from akidb.storage.object_store import Body, ObjectInfo, ObjectStore, Reply
from akidb.storage.single_writer import SingleWriterStore
from akidb.storage.wrapper import StoreWrapper
from akidb.telemetry.metrics import METRICS, Metrics

CIRCUIT_OPEN = "circuit_open"
"""Code of the UnavailableError for a call that a breaker refused: nothing was sent to the store."""

_TRY_AGAIN_SECS = 1.0
_logger = logging.getLogger(__name__)


class State(enum.IntEnum):
    """As akidb_circuit_breaker_state tells it."""

    CLOSED = 0
    OPEN = 1
    HALF_OPEN = 2


class Breaker:
    """Lets calls through while closed. `failures_max` failures in a row open it, and calls are refused; after
    `recovery_secs` one is let through, and what becomes of it closes the breaker or opens it again.

    A failure is an UnavailableError; whatever else the store says is an answer. Belongs to one event loop.
    `on_recovery` is called when it closes again.
    """

    on_recovery: Callable[[], None] | None = None

    def __init__(
        self,
        backend: str,
        failures_max: int,
        recovery_secs: float,
        metrics: Metrics = METRICS,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.backend = backend
        self._failures_max = failures_max
        self._recovery_secs = recovery_secs
        self._gauge = metrics.circuit_breaker_state.labels(backend)
        self._clock = clock or time.monotonic
        self._failures = 0
        self._last = ""
        self._until = 0.0
        self.state = State.CLOSED
        self._become(State.CLOSED)

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Around one call. Raises UnavailableError CIRCUIT_OPEN instead of letting it begin; `retry_after_secs` says
        when another will be let through."""
        trying = self._enter()
        try:
            yield
        except UnavailableError as failed:
            self._failed(failed, trying)
            raise
        except AkiDBError:
            self._answered(trying)
            raise
        except BaseException:  # given up by its caller: proves nothing, and must not keep the next from trying
            if trying:
                self._become(State.OPEN)
            raise
        else:
            self._answered(trying)

    def try_soon(self) -> None:
        """Lets the next call try, however short a time ago the last one failed. Changes nothing while closed."""
        self._until = self._clock()

    def _enter(self) -> bool:
        """Whether this call is the one that tries an open breaker."""
        if self.state is State.CLOSED:
            return False
        left = self._until - self._clock()
        if self.state is State.HALF_OPEN or left > 0:
            raise UnavailableError(
                f"the store failed {self._failures} times in a row and is left alone for a while; the last time: "
                f"{self._last}",
                code=CIRCUIT_OPEN,
                retry_after_secs=max(left, _TRY_AGAIN_SECS),
            )
        self._become(State.HALF_OPEN)
        return True

    def _failed(self, failed: UnavailableError, trying: bool) -> None:
        if self.state is not State.CLOSED and not trying:
            return  # it began before the breaker opened
        self._failures += 1
        self._last = str(failed)
        if trying or self._failures >= self._failures_max:
            self._until = self._clock() + self._recovery_secs
            self._become(State.OPEN)

    def _answered(self, trying: bool) -> None:
        if self.state is State.CLOSED or trying:
            self._failures = 0
            self._become(State.CLOSED)
        if trying and self.on_recovery is not None:
            self.on_recovery()

    def _become(self, state: State) -> None:
        if state is State.OPEN and self.state is State.CLOSED:
            _logger.error("%s: circuit breaker open after %d failures: %s", self.backend, self._failures, self._last)
        elif state is State.CLOSED and self.state is not State.CLOSED:
            _logger.info("%s: circuit breaker closed, the store answers", self.backend)
        self.state = state
        self._gauge.set(int(state))


class BreakingStore(StoreWrapper):
    """The store below, behind a breaker for reads (gets, heads, lists) and one for writes (puts, deletes).

    Where the one finds the store back, the other tries at once: its own last try may have come a moment too early.
    """

    def __init__(self, inner: ObjectStore, failures_max: int, recovery_secs: float, metrics: Metrics = METRICS) -> None:
        super().__init__(inner)
        self.reads = Breaker("s3-read", failures_max, recovery_secs, metrics)
        self.writes = Breaker("s3-write", failures_max, recovery_secs, metrics)
        self.reads.on_recovery, self.writes.on_recovery = self.writes.try_soon, self.reads.try_soon

    async def get(
        self, key: str, *, byte_range: tuple[int, int] | None = None, if_none_match: str | None = None
    ) -> Reply:
        with self.reads.attempt():
            return await self.inner.get(key, byte_range=byte_range, if_none_match=if_none_match)

    async def head(self, key: str) -> Reply:
        with self.reads.attempt():
            return await self.inner.head(key)

    async def local_path(self, key: str) -> Path | None:
        with self.reads.attempt():
            return await self.inner.local_path(key)

    async def list_from(self, prefix: str, start_after: str | None = None) -> AsyncIterator[ObjectInfo]:
        with self.reads.attempt():
            async for info in self.inner.list_from(prefix, start_after):
                yield info

    async def put(self, key: str, body: Body) -> Reply:
        with self.writes.attempt():
            return await self.inner.put(key, body)

    async def put_if_absent(self, key: str, body: Body) -> Reply:
        with self.writes.attempt():
            return await self.inner.put_if_absent(key, body)

    async def put_if_match(self, key: str, body: Body, etag: str) -> Reply:
        with self.writes.attempt():
            return await self.inner.put_if_match(key, body, etag)

    async def delete_many(self, keys: Iterable[str]) -> None:
        with self.writes.attempt():
            await self.inner.delete_many(keys)


def writes_refused(store: ObjectStore) -> bool:
    """Whether a breaker in the store's stack keeps writes from it; one that is due lets the next one try. Or the store
    denied the last one, or another process took the lease of a store that has one."""
    while isinstance(store, StoreWrapper):
        if isinstance(store, SingleWriterStore) and store.refuses_writes:
            return True
        if isinstance(store, BreakingStore) and store.writes.state is not State.CLOSED:
            return True
        if isinstance(store, InstrumentedStore) and store.denied is not None:
            return True
        store = store.inner
    return False
