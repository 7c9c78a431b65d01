"""The application: every route, and what surrounds it."""

from __future__ import annotations

import msgspec
from aiohttp import web
from aiohttp.typedefs import Middleware

from akidb.api import health, page
from akidb.api.codes import CODES
from akidb.api.middleware.authenticate import authenticate
from akidb.api.middleware.follow_name import follow_name
from akidb.api.middleware.observe import observe
from akidb.api.openapi import document
from akidb.api.peers import PATH as CLUSTER_PATH
from akidb.api.route import Route
from akidb.api.routes import cache, cluster, collections, meta, search, snapshots, vectors
from akidb.api.service import SERVICE, Service

ROUTES: tuple[Route, ...] = (
    *collections.ROUTES, *vectors.ROUTES, *search.ROUTES, *snapshots.ROUTES, *cache.ROUTES, *health.ROUTES, *meta.ROUTES
)  # fmt: skip
"""Every operation there is."""


def create_app(service: Service) -> web.Application:
    """The application over a service, whose database may come later."""
    settings = service.settings
    middlewares: list[Middleware] = [observe]
    if settings.auth.enabled:
        public = frozenset({CLUSTER_PATH, *(route.path for route in ROUTES if route.public)})  # which asks for more
        middlewares.append(authenticate(settings.auth.api_keys, public))
    middlewares.append(follow_name)
    app = web.Application(middlewares=middlewares, client_max_size=settings.api.body_limit_bytes)
    app[SERVICE] = service
    described = document(ROUTES, version=service.version, codes=CODES, authenticated=settings.auth.enabled)
    app[meta.OPENAPI] = msgspec.json.encode(described)
    app[meta.PAGE] = page.render(described, CODES)
    for route in ROUTES:
        app.router.add_route(route.method, route.pattern, route.handler)
        if route.method == "GET":
            app.router.add_route("HEAD", route.pattern, route.handler)
    if settings.cluster.token is not None:
        cluster.add_to(app)
    return app
