"""Around every request: its id, its span, its metrics, and a problem document for whatever goes wrong."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from uuid import uuid4

from aiohttp import web

from akidb.api import errors
from akidb.api.route import Handler
from akidb.api.service import SERVICE
from akidb.telemetry.logging import request_id
from akidb.telemetry.tracing import span

log = logging.getLogger("akidb.api.requests")

HEADER = "X-Request-ID"
STARTED = web.RequestKey("akidb_started", float)

_ACCEPTED_ID = re.compile(r"[\x21-\x7e]{1,128}")
"""An id that is sent is echoed if no log line or header can be forged with it; otherwise it is replaced."""


@web.middleware
async def observe(request: web.Request, handler: Handler) -> web.StreamResponse:
    service = request.app[SERVICE]
    began = request[STARTED] = time.monotonic()
    resource = request.match_info.route.resource
    endpoint = "unmatched" if resource is None else resource.canonical
    method = request.method if resource is not None else "other"  # any token is a method: labels must stay few
    sent = request.headers.get(HEADER, "")
    current = sent if _ACCEPTED_ID.fullmatch(sent) else uuid4().hex
    mark = request_id.set(current)
    status = 499  # what nginx logs for a client that went away
    try:
        with span("http_request", carrier=request.headers, http__method=method, http__route=endpoint) as spanned:
            try:
                response = await handler(request)
            except asyncio.CancelledError:
                raise
            except Exception as error:
                if isinstance(error, ConnectionError) and request.transport is None:
                    raise  # the client went away before its body was here: nothing failed, and nobody reads an answer
                response = errors.response(error, instance=request.rel_url.raw_path, request_id=current)
            status = response.status
            spanned.set(http__status_code=status)
        response.headers[HEADER] = current
        response.headers["Server"] = errors.SERVER
        if service.draining:
            response.force_close()
        return response
    finally:
        took = time.monotonic() - began
        service.metrics.api_requests.labels(method, endpoint, str(status)).inc()
        service.metrics.api_request_duration.labels(method, endpoint).observe(took)
        if log.isEnabledFor(logging.DEBUG):
            took_ms = round(took * 1000, 1)
            log.debug("request", extra={"method": method, "endpoint": endpoint, "status": status, "took_ms": took_ms})
        request_id.reset(mark)
