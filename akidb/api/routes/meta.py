"""What the service says about itself: its root, metrics, the OpenAPI document and its readable form."""

from __future__ import annotations

import asyncio

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from akidb.api.route import Route, json_response
from akidb.api.schemas import Root
from akidb.api.service import SERVICE, Service
from akidb.telemetry import metrics as telemetry

OPENAPI = web.AppKey("akidb_openapi", bytes)
PAGE = web.AppKey("akidb_page", str)

_SECURITY = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
}


async def root(request: web.Request) -> web.Response:
    version = request.app[SERVICE].version
    return json_response(Root("AkiDB", version, "/docs", "/openapi.json", "/health"))


async def openapi(request: web.Request) -> web.Response:
    return web.Response(body=request.app[OPENAPI], content_type="application/json")


async def page(request: web.Request) -> web.Response:
    return web.Response(text=request.app[PAGE], content_type="text/html", headers=_SECURITY)


async def metrics(request: web.Request) -> web.Response:
    service = request.app[SERVICE]
    await _look_at_collections(service)
    text = await asyncio.to_thread(_exposition, service.metrics.registry)
    return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_LATEST})


def _exposition(registry: CollectorRegistry) -> bytes:
    """The registry's text, or that of all workers where they share a folder."""
    return generate_latest(telemetry.shared_registry() or registry)


async def _look_at_collections(service: Service) -> None:
    """Sets the gauges of the collections at hand, without asking the store: a scrape must not hang on it."""
    database, metrics = service.database, service.metrics
    if database is None:
        return
    gauges = (
        metrics.index_vectors, metrics.index_pending, metrics.segments, metrics.tail, metrics.compaction_pending,
        metrics.cache_pinned,
    )  # fmt: skip
    seen = set()
    for collection in database.at_hand:
        info = await collection.glance()
        if info is None:
            continue
        pinned = info.cache.cached_bytes if info.cache.pinned else 0
        values = (info.count, info.index.pending, info.segments, info.tail_points, info.compaction.points, pinned)
        for gauge, value in zip(gauges, values, strict=True):
            gauge.labels(info.spec.name).set(value)
        seen.add(info.spec.name)
    for name in service.counted - seen:
        for gauge in gauges:
            gauge.remove(name)
    service.counted = seen


ROUTES = (
    Route("GET", "/", root, "Name, version and links", "service", answer=Root, public=True),
    Route("GET", "/metrics", metrics, "Metrics for Prometheus", "service", answer="text/plain", public=True),
    Route("GET", "/openapi.json", openapi, "This interface as an OpenAPI 3.1 document", "service", answer=dict),
    Route("GET", "/docs", page, "This interface, readable", "service", answer="text/html"),
)
