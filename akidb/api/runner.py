"""The HTTP server beneath the application: its limits, and a problem document also for what is no HTTP request."""

from __future__ import annotations

import asyncio
from uuid import uuid4

from aiohttp import web
from prometheus_client import Gauge

from akidb.api import errors
from akidb.api.middleware.observe import HEADER
from akidb.api.service import SERVICE
from akidb.errors import InvalidInputError

HEADER_BYTES_MAX = 16_384
IDLE_SECS = 75.0
"""A connection without a complete request head is closed after so long; proxies keep theirs for 60 s or less."""

ACCEPT_TURNS = 10
"""Turns of the event loop from a connection's coming to the first look at what it sent; asyncio needs half of them."""

HEAR_SECS, HEAR_AGAIN_SECS = 1.0, 0.01
"""How long the end waits for the first request of a connection that was accepted last."""


class Runner(web.AppRunner):
    """Runs the application as aiohttp's own runner does, within our limits."""

    def __init__(self, app: web.Application, *, shutdown_timeout: float) -> None:
        super().__init__(
            app,
            access_log=None,
            max_line_size=HEADER_BYTES_MAX,
            max_field_size=HEADER_BYTES_MAX,
            keepalive_timeout=IDLE_SECS,
            auto_decompress=False,  # compressed bodies are refused, so none is decompressed on the way
            shutdown_timeout=shutdown_timeout,
        )

    async def cleanup(self) -> None:
        """Closes the port, then answers what was asked before, then ends.

        aiohttp waits one turn of the loop between the two, in which a connection is not yet read that was accepted
        last: it would drop what that one asks and wait for its end until shutdown_timeout.
        """
        for site in list(self.sites):
            await site.stop()
        for _ in range(ACCEPT_TURNS):
            await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        until = loop.time() + HEAR_SECS
        while self.server is not None and loop.time() < until:
            if not any(isinstance(one, _Connection) and not one.heard for one in self.server.connections):
                break
            await asyncio.sleep(HEAR_AGAIN_SECS)
        await super().cleanup()

    async def _make_server(self) -> web.Server:
        # aiohttp offers no hook for requests that it cannot parse: they never reach a middleware.
        made = await super()._make_server()
        factory, handle = made.request_factory, made.request_handler

        async def handle_expected(request: web.BaseRequest) -> web.StreamResponse:
            # Of other expectations aiohttp says 417 before any middleware, in plain text and with its own name.
            expected = request.headers.get("Expect", "100-continue")
            if expected.lower() != "100-continue":
                return _refusal("Expect has another value than 100-continue")
            return await handle(request)

        server = _Server(handle_expected, request_factory=factory, loop=made._loop, **made._kwargs)
        server.connections_open = self.app[SERVICE].metrics.active_connections
        return server


class _Server(web.Server):
    connections_open: Gauge

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)


def _gauge(server: object) -> Gauge:
    assert isinstance(server, _Server)
    return server.connections_open


class _Connection(web.RequestHandler):
    __slots__ = ("heard",)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.heard = False
        super().connection_made(transport)
        _gauge(self._manager).inc()

    def data_received(self, data: bytes) -> None:
        self.heard = True
        super().data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._manager is not None:
            _gauge(self._manager).dec()
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what cannot be parsed. Not logged: anyone can send it, and it may hold a key."""
        if isinstance(exc, ConnectionError):  # the client went away: aiohttp ends the connection without a word
            raise exc
        if status != 400:
            return super().handle_error(request, status, exc, message)
        return _refusal((message or "").strip().partition("\n")[0].rstrip(":"))


def _refusal(cause: str) -> web.Response:
    """The answer to what no middleware sees."""
    current = uuid4().hex
    refused = InvalidInputError(f"this is no valid HTTP request: {cause}", code="http_error")
    answer = errors.response(refused, instance="", request_id=current)
    answer.headers[HEADER] = current
    answer.headers["Server"] = errors.SERVER
    answer.force_close()
    return answer
