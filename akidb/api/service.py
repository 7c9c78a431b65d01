"""What the handlers share: the settings, the database once the store answered, and how the process is doing."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import TypeVar

from aiohttp import web

from akidb.api.body import INLINE_BYTES_MAX
from akidb.api.peers import HttpPeers
from akidb.collection import Collection
from akidb.config import Settings
from akidb.database import Database
from akidb.errors import UnavailableError
from akidb.filter import Filter, PayloadSchema
from akidb.filter import parse as parse_filter
from akidb.telemetry.metrics import METRICS, Metrics

T = TypeVar("T")

COLLECTION = web.RequestKey("akidb_collection", Collection)

NOT_READY = "Storage backend not ready"


@dataclass
class Service:
    """One serving process. `database` is None until the store has answered; `trouble` then says why it has not."""

    settings: Settings
    version: str
    database: Database | None = None
    peers: HttpPeers | None = None
    trouble: str = "starting"
    draining: bool = False
    metrics: Metrics = METRICS
    started: float = field(default_factory=time.monotonic)
    counted: set[str] = field(default_factory=set)
    # Not asyncio's default pool: commits of the local store run there and must not wait behind slow searches.
    threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor((os.cpu_count() or 1) + 2, "akidb-request")
    )

    async def parse(self, body: bytes, work: Callable[[], T]) -> T:
        """Does `work`, which decodes `body`: in a thread if that may take more than a moment."""
        return work() if len(body) <= INLINE_BYTES_MAX else await self.in_thread(work)

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Runs `work` off the event loop, in the request's context (its id, its span)."""
        return await asyncio.get_running_loop().run_in_executor(self.threads, copy_context().run, work)

    def require(self) -> Database:
        """The database. Raises UnavailableError while the store is away."""
        if self.database is None:
            raise UnavailableError(f"{NOT_READY}: {self.trouble}", retry_after_secs=1.0)
        return self.database

    async def collection(self, request: web.Request) -> Collection:
        """The collection that the request's path names. Raises NotFoundError, UnavailableError."""
        found = request[COLLECTION] = await self.require().collection(request.match_info["name"], at_hand=True)
        return found

    def filter(self, given: object, collection: Collection, loc: tuple[str | int, ...] = ("filter",)) -> Filter | None:
        """A checked filter of a request, None where there is none. Raises InvalidInputError."""
        if given is None:
            return None
        limits = self.settings.query
        return parse_filter(
            given,
            max_depth=limits.max_filter_depth,
            max_clauses=limits.max_filter_clauses,
            loc=loc,
            schema=PayloadSchema.parse(collection.spec.payload_schema),
        )


SERVICE = web.AppKey("akidb_service", Service)
