"""Health: live while the process is, ready while it can serve, and what is wrong if something is."""

from __future__ import annotations

import time
from typing import Literal

from aiohttp import web

from akidb.api.errors import refuse
from akidb.api.route import Parameter, Route, json_response
from akidb.api.schemas import Component, Health, State
from akidb.api.service import NOT_READY, SERVICE, Service
from akidb.errors import UnavailableError

COMPONENTS = {"storage": "Storage backend", "wal": "WAL", "index": "Index provider"}

_FOR = Parameter("for", {"enum": ["read"]}, "`read`: ready while reads from what is cached can be answered.")


async def live(request: web.Request) -> web.Response:
    return json_response(State("alive"))


async def ready(request: web.Request) -> web.Response:
    purpose = request.query.get("for")
    if purpose not in (None, "read"):
        raise refuse("invalid_parameter", ("for",), f"is {purpose!r}, expected read")
    trouble = await _trouble(request.app[SERVICE], for_read=purpose == "read")
    if trouble is not None:
        raise UnavailableError(trouble, code="not_ready", retry_after_secs=1.0)
    return json_response(State("ready"))


async def _trouble(service: Service, *, for_read: bool) -> str | None:
    if service.draining:
        return "this process is shutting down"
    if service.database is None:
        return f"{NOT_READY}: {service.trouble}"
    if await service.database.ready(for_read=for_read):
        return None
    found = await service.database.health()
    return "; ".join(f"{COMPONENTS[name]} not ready: {cause}" for name, cause in found.items() if cause) or NOT_READY


async def health(request: web.Request) -> web.Response:
    service = request.app[SERVICE]
    if service.database is None:
        causes = dict.fromkeys(COMPONENTS, service.trouble)
    else:
        causes = {name: cause or "" for name, cause in (await service.database.health()).items()}
    components = {
        name: Component("unhealthy", f"{label} not ready: {causes[name]}")
        if causes[name]
        else Component("healthy", f"{label} operational")
        for name, label in COMPONENTS.items()
    }
    # Without its index a collection is searched exactly: slower, with the same answers.
    broken = {name for name, component in components.items() if component.status == "unhealthy"}
    status: Literal["healthy", "degraded", "unhealthy"] = "unhealthy"
    if broken <= {"index"}:
        status = "degraded" if broken else "healthy"
    body = Health(status, service.version, round(time.monotonic() - service.started, 3), components)
    return json_response(body, status=503 if status == "unhealthy" else 200)


ROUTES = (
    Route("GET", "/health", health, "State of every component; 503 if unhealthy", "health", answer=Health, public=True),
    Route("GET", "/health/live", live, "200 while the process is", "health", answer=State, public=True),
    Route(
        "GET", "/health/ready", ready, "200 while requests can be served, else 503", "health",
        answer=State, parameters=(_FOR,), problems=(422,), public=True,
    ),
)  # fmt: skip
