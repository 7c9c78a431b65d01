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

    async def _make_server(self) -> web.Server:
        # aiohttp offers no hook for requests that it cannot parse: they never reach a middleware.
        made = await super()._make_server()
        factory = made.request_factory
        server = _Server(made.request_handler, request_factory=factory, loop=made._loop, **made._kwargs)
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
    __slots__ = ()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        _gauge(self._manager).inc()

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
        current = uuid4().hex
        cause = (message or "").strip().partition("\n")[0].rstrip(":")
        refusal = InvalidInputError(f"this is no valid HTTP request: {cause}", code="http_error")
        answer = errors.response(refusal, instance="", request_id=current)
        answer.headers[HEADER] = current
        answer.headers["Server"] = errors.SERVER
        answer.force_close()
        return answer
