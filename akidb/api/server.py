"""One serving process: it listens at once, opens the store however long that takes, and drains when told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import time
from collections.abc import Iterable

from aiohttp import web

from akidb.api.app import create_app
from akidb.api.peers import join
from akidb.api.runner import Runner
from akidb.api.service import Service
from akidb.config import host_and_port
from akidb.database import Database
from akidb.errors import AkiDBError, ConfigurationError, CorruptionError
from akidb.storage import open_store

log = logging.getLogger("akidb.api")

EXIT_SECS_MAX = 27.0
"""After SIGTERM the process is gone by then: service managers and orchestrators kill at 30."""

CLOSE_SECS = 3.0
"""Of those, what is kept for deciding the writes under way."""

CUT_SECS = 1.0
"""And for cutting off requests that are not done by then: aiohttp would wait as long again for their clients."""

RETRY_FIRST_SECS, RETRY_LONGEST_SECS = 1.0, 15.0
BACKLOG = 1024


class Stop:
    """The wish to end. `patient` leaves load balancers the time to see that this process is not ready any more."""

    def __init__(self) -> None:
        self._asked = asyncio.Event()
        self.patient = True

    def ask(self, *, patient: bool) -> None:
        self.patient = patient
        self._asked.set()

    async def wait(self) -> None:
        await self._asked.wait()


def listen(address: str) -> socket.socket:
    """A bound, listening socket. Raises ConfigurationError naming the address if it cannot be had."""
    host, port = host_and_port(address)
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigurationError(f"cannot listen on {address}: {error.strerror or error}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        hint = (
            "; stop what listens there, or choose another port with --bind" if error.errno == errno.EADDRINUSE else ""
        )
        raise ConfigurationError(f"cannot listen on {address}: {os.strerror(error.errno or 0)}{hint}") from error
    listener.setblocking(False)
    return listener


async def serve(service: Service, listener: socket.socket, stop: Stop) -> None:
    """Serves until `stop` is asked for, then drains.

    Raises:
        ConfigurationError, CorruptionError: the store can never be used as it is.
    """
    patience = EXIT_SECS_MAX - CLOSE_SECS - CUT_SECS - service.settings.api.drain_delay_secs
    runner = Runner(create_app(service), shutdown_timeout=max(0.0, patience))
    await runner.setup()
    await web.SockSite(runner, listener, backlog=BACKLOG).start()
    opening = asyncio.create_task(_open(service))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({opening, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if opening.done():
            opening.result()
        await stopping
    finally:
        await _drain(service, runner, [opening, stopping], stop.patient)


async def _open(service: Service) -> None:
    """Opens the database, again and again while the store is away."""
    settings = service.settings
    what = "storage" if settings.storage.s3_endpoint is None or settings.storage.use_memory_backend else "S3"
    pause = RETRY_FIRST_SECS
    while True:
        store = open_store(settings)
        try:
            database = await Database.open(store, settings)
        except (AkiDBError, OSError) as error:
            await store.close()
            service.trouble = str(error)
            log.error("Failed to initialize %s: %s", what, error, extra={"store": store.location})
            if isinstance(error, ConfigurationError | CorruptionError):
                raise
        except BaseException:
            await store.close()
            raise
        else:
            service.peers = join(database, store, settings)
            service.database = database
            log.info("store opened", extra={"store": store.location})
            return
        await asyncio.sleep(pause)
        pause = min(pause * 2, RETRY_LONGEST_SECS)


async def _drain(service: Service, runner: web.AppRunner, tasks: Iterable[asyncio.Task[None]], patient: bool) -> None:
    """Not ready at once; then, after the delay, no new connections; then what is under way; then the writes."""
    began = time.monotonic()
    service.draining = True
    if service.peers is not None:
        await service.peers.leave()
    delay = service.settings.api.drain_delay_secs if patient and service.database is not None else 0.0
    if delay:
        log.info("draining", extra={"delay_secs": delay})
        await asyncio.sleep(delay)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(runner.cleanup(), max(0.0, EXIT_SECS_MAX - CLOSE_SECS - (time.monotonic() - began)))
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    if service.database is not None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(service.database.close(), CLOSE_SECS)
    if service.peers is not None:
        await service.peers.close()
    service.threads.shutdown(wait=False, cancel_futures=True)
    log.info("stopped", extra={"took_secs": round(time.monotonic() - began, 1)})
