"""/collections/{name}/snapshots: points in time, made, listed, forgotten, and gone back to."""

from __future__ import annotations

import logging

import msgspec
from aiohttp import web

from akidb.api import body as bodies
from akidb.api import consistency, schemas
from akidb.api.route import KEY_HEADER, Route, json_response
from akidb.api.routes.collections import CONSISTENCY
from akidb.api.service import SERVICE
from akidb.types import SnapshotInfo

log = logging.getLogger(__name__)

_CREATE = msgspec.json.Decoder(schemas.CreateSnapshot)


async def create(request: web.Request) -> web.Response:
    wanted = bodies.decode(_CREATE, await bodies.read(request))
    collection = await request.app[SERVICE].collection(request)
    made = await collection.create_snapshot(wanted.name)
    log.info("snapshot %s of collection %s is made, at slot %d", made.name, collection.spec.name, made.lsn)
    return json_response(_describe(made), status=201, headers=consistency.token(collection))


async def list_all(request: web.Request) -> web.Response:
    wanted = consistency.of_query(request)
    collection = await request.app[SERVICE].collection(request)
    listed = [_describe(made) for made in await collection.list_snapshots(consistency=wanted)]
    answer = schemas.SnapshotList(collection.spec.name, listed, len(listed))
    return json_response(answer, headers=consistency.token(collection))


async def drop(request: web.Request) -> web.Response:
    collection = await request.app[SERVICE].collection(request)
    name = request.match_info["snapshot"]
    await collection.drop_snapshot(name)
    log.info("snapshot %s of collection %s is dropped", name, collection.spec.name)
    return web.Response(status=204, headers=consistency.token(collection))


async def revert(request: web.Request) -> web.Response:
    collection = await request.app[SERVICE].collection(request)
    name, key = request.match_info["snapshot"], request.headers.get(KEY_HEADER)
    done = await collection.revert(name, idempotency_key=key)
    log.info("collection %s is reverted to snapshot %s, before is %s", collection.spec.name, name, done.before)
    answer = schemas.Reverted(collection.spec.name, done.lsn, done.before)
    return json_response(answer, headers=consistency.token(collection))


def _describe(made: SnapshotInfo) -> schemas.SnapshotDescription:
    return schemas.SnapshotDescription(made.name, made.lsn, made.points, made.created, made.complete)


_PATH = "/collections/{name}/snapshots"

ROUTES = (
    Route(
        "POST", _PATH, create, "Keep the points as they are now", "snapshots",
        body=schemas.CreateSnapshot, answer=schemas.SnapshotDescription, status=201, problems=(404, 409, 422, 504, 507),
    ),
    Route(
        "GET", _PATH, list_all, "List the snapshots", "snapshots",
        answer=schemas.SnapshotList, parameters=(CONSISTENCY,), problems=(404, 422),
    ),
    Route(
        "DELETE", f"{_PATH}/{{snapshot}}", drop, "Forget a snapshot", "snapshots",
        status=204, problems=(404, 504, 507),
    ),
    Route(
        "POST", f"{_PATH}/{{snapshot}}/revert", revert, "Go back to a snapshot", "snapshots",
        answer=schemas.Reverted, problems=(404, 409, 422, 504, 507), once=True,
    ),
)  # fmt: skip
