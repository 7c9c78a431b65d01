"""Counting and timing what goes to the store, and remembering whether it denies writes."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Literal

from akidb.errors import AkiDBError, ConfigurationError
from akidb.storage.object_store import Body, ObjectInfo, ObjectStore, Reply
from akidb.storage.wrapper import StoreWrapper
from akidb.telemetry.metrics import METRICS, Metrics

Operation = Literal["get", "put", "delete", "list", "head"]


class InstrumentedStore(StoreWrapper):
    """Adds to akidb_storage_operations_total{operation,status} and akidb_storage_latency_seconds{operation}.

    `status` is a Status's value, or the code of the error. It stands below RetryingStore, so every attempt counts by
    itself and an outage shows at once, not after the last attempt.

    Attributes:
        denied: why the last put was refused, if it was for something that only its operator can change: a lost right,
            a folder that became read-only. No breaker opens for that, as the store is there.
    """

    def __init__(self, inner: ObjectStore, metrics: Metrics = METRICS) -> None:
        super().__init__(inner)
        self._metrics = metrics
        self.denied: ConfigurationError | None = None

    async def get(
        self, key: str, *, byte_range: tuple[int, int] | None = None, if_none_match: str | None = None
    ) -> Reply:
        return await self._replied("get", self.inner.get(key, byte_range=byte_range, if_none_match=if_none_match))

    def get_now(
        self, key: str, *, byte_range: tuple[int, int] | None = None, if_none_match: str | None = None
    ) -> Reply | None:
        started = time.perf_counter()
        reply = self.inner.get_now(key, byte_range=byte_range, if_none_match=if_none_match)
        if reply is not None:
            self._count("get", reply.status.value, started)
        return reply

    async def head(self, key: str) -> Reply:
        return await self._replied("head", self.inner.head(key))

    async def put(self, key: str, body: Body) -> Reply:
        return await self._replied("put", self.inner.put(key, body))

    async def put_if_absent(self, key: str, body: Body) -> Reply:
        return await self._replied("put", self.inner.put_if_absent(key, body))

    async def put_if_match(self, key: str, body: Body, etag: str) -> Reply:
        return await self._replied("put", self.inner.put_if_match(key, body, etag))

    async def list_from(self, prefix: str, start_after: str | None = None) -> AsyncIterator[ObjectInfo]:
        with self._measured("list"):
            async for info in self.inner.list_from(prefix, start_after):
                yield info

    async def delete_many(self, keys: Iterable[str]) -> None:
        with self._measured("delete"):
            await self.inner.delete_many(keys)

    @asynccontextmanager
    async def lock(self, prefix: str, *, exclusive: bool) -> AsyncIterator[None]:
        """A folder's lock is a file that is opened to be written: what is mounted read-only refuses that first."""
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(self.inner.lock(prefix, exclusive=exclusive))
            except ConfigurationError as failed:
                self.denied = failed
                raise
            yield

    async def _replied(self, operation: Operation, call: Awaitable[Reply]) -> Reply:
        with self._measured(operation) as told:
            reply = await call
            told.append(reply.status.value)
            if operation == "put" and reply.ok:  # one whose condition does not hold wrote nothing
                self.denied = None
        return reply

    @contextmanager
    def _measured(self, operation: Operation) -> Iterator[list[str]]:
        """Counts what the block appends, "ok" if nothing; an abandoned operation counts as "cancelled"."""
        started = time.perf_counter()
        told: list[str] = []
        status = "cancelled"
        try:
            yield told
            status = told[0] if told else "ok"
        except AkiDBError as failed:
            status = failed.code
            if operation == "put" and isinstance(failed, ConfigurationError):
                self.denied = failed
            raise
        finally:
            self._count(operation, status, started)

    def _count(self, operation: Operation, status: str, started: float) -> None:
        self._metrics.storage_operations.labels(operation, status).inc()
        self._metrics.storage_latency.labels(operation).observe(time.perf_counter() - started)
