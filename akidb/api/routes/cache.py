"""/collections/{name}/cache/pin: keeps a collection's segments on the answering node's machine."""

from __future__ import annotations

from dataclasses import asdict

from aiohttp import web

from akidb.api import schemas
from akidb.api.route import Route, json_response
from akidb.api.service import SERVICE
from akidb.types import CacheState


async def pin(request: web.Request) -> web.Response:
    collection = await request.app[SERVICE].collection(request)
    return _answer(collection.spec.name, await collection.pin())


async def unpin(request: web.Request) -> web.Response:
    collection = await request.app[SERVICE].collection(request)
    return _answer(collection.spec.name, await collection.unpin())


def _answer(name: str, state: CacheState) -> web.Response:
    return json_response(schemas.CacheAnswer(name, schemas.CacheDescription(**asdict(state))))


_PATH = "/collections/{name}/cache/pin"

ROUTES = (
    Route(
        "POST", _PATH, pin, "Keep a collection's segments in this node's file cache", "collections",
        answer=schemas.CacheAnswer, problems=(404, 422, 507),
    ),
    Route(
        "DELETE", _PATH, unpin, "Let the file cache remove a collection's segments again", "collections",
        answer=schemas.CacheAnswer, problems=(404, 507),
    ),
)  # fmt: skip
