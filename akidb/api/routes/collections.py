"""/collections: create, list, get, delete; and the state of a collection's index."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import asdict

import msgspec
from aiohttp import web

from akidb.api import body as bodies
from akidb.api import consistency, schemas
from akidb.api.errors import refuse
from akidb.api.route import KEY_HEADER, Parameter, Route, json_response
from akidb.api.service import SERVICE
from akidb.collection import Collection
from akidb.database import Database
from akidb.errors import (
    AkiDBError,
    ConfigurationError,
    DeadlineExceededError,
    InvalidInputError,
    NotFoundError,
    UnavailableError,
)
from akidb.filter import PayloadSchema
from akidb.session import parse_token
from akidb.types import CollectionInfo, CollectionSpec, Consistency, IndexParams, Metric

log = logging.getLogger(__name__)

WAIT_MS_MAX = 60_000
LISTING_SECS = 3.0
"""For a collection to be described among others. One whose segments are still fetched can take minutes."""
CONSISTENCY = Parameter(
    "consistency", {"type": "string", "default": "strong"}, "strong, eventual, session:TOKEN or bounded_ms:N."
)
_WAIT = Parameter(
    "wait_ms",
    {"type": "integer", "minimum": 0, "maximum": WAIT_MS_MAX, "default": 0},
    "Build what is pending now, and answer when that is done or this time has passed.",
)

_CREATE = msgspec.json.Decoder(schemas.CreateCollection)
_CLONE = msgspec.json.Decoder(schemas.CloneCollection)
_ALTER = msgspec.json.Decoder(schemas.AlterCollection)


async def create(request: web.Request) -> web.Response:
    database = request.app[SERVICE].require()
    wanted = bodies.decode(_CREATE, await bodies.read(request))
    PayloadSchema.parse(wanted.payload_schema)
    key = request.headers.get(KEY_HEADER)
    made = await database.create_collection(_spec(wanted, database), idempotency_key=key)
    log.info(
        "collection %s is made, of %d dimensions and %d shards", wanted.name, wanted.vector_dim, wanted.shard_count
    )
    return await _created(made)


def _spec(wanted: schemas.CreateCollection, database: Database) -> CollectionSpec:
    if wanted.replication != 1:
        raise refuse(
            "invalid_collection", ("replication",), f"is {wanted.replication}, expected 1: the store replicates"
        )
    if wanted.distance not in [metric.value for metric in Metric]:
        raise refuse("invalid_body", ("distance",), f"is {wanted.distance!r}, expected Cosine, Euclidean or Dot")
    default = database.default_index
    index = wanted.index or schemas.IndexRequest()
    params = IndexParams(
        index.type,  # type: ignore[arg-type]  # judged with the rest of the spec
        default.m if index.m is None else index.m,
        default.ef_construction if index.ef_construction is None else index.ef_construction,
        default.ef_search if index.ef_search is None else index.ef_search,
        default.min_vectors_threshold,
        default.quantization if index.quantization is None else index.quantization,  # type: ignore[arg-type]
    )
    return CollectionSpec(
        wanted.name, wanted.vector_dim, Metric(wanted.distance), params, wanted.payload_schema, wanted.shard_count
    )


async def clone(request: web.Request) -> web.Response:
    database = request.app[SERVICE].require()
    wanted = bodies.decode(_CLONE, await bodies.read(request))
    source, key = request.match_info["name"], request.headers.get(KEY_HEADER)
    made = await database.clone_collection(source, wanted.name, as_of=wanted.as_of, idempotency_key=key)
    log.info("collection %s is made, a clone of %s as of %s", wanted.name, source, wanted.as_of or "now")
    return await _created(made)


async def _created(made: Collection) -> web.Response:
    location = {"Location": f"/collections/{made.spec.name}"}  # names need no escaping
    return json_response(describe(await made.info()), status=201, headers=location | consistency.token(made))


async def list_all(request: web.Request) -> web.Response:
    wanted = consistency.of_query(request)
    database = request.app[SERVICE].require()
    looked = await database.list_collections()
    opened = [each for each in looked.values() if isinstance(each, Collection)]
    failed = {name: each for name, each in looked.items() if isinstance(each, AkiDBError)}
    deadline = time.monotonic() + LISTING_SECS
    asked = (collection.info(consistency=_about(collection, wanted), deadline=deadline) for collection in opened)
    described: list[schemas.CollectionDescription] = []
    for collection, info in zip(opened, await asyncio.gather(*asked, return_exceptions=True), strict=True):
        if isinstance(info, CollectionInfo):
            described.append(describe(info))
        elif not isinstance(info, AkiDBError) or _is_of_the_request(info):
            raise info
        elif not isinstance(info, NotFoundError):  # else dropped since it was listed
            failed[collection.spec.name] = info
    away = [each for each in failed.values() if isinstance(each, UnavailableError | ConfigurationError)]
    if away and not described:
        raise away[0]
    unopened = [schemas.UnopenedCollection(name, error.code, str(error)) for name, error in sorted(failed.items())]
    return json_response(schemas.CollectionList(described, len(described), unopened))


def _is_of_the_request(error: AkiDBError) -> bool:
    return isinstance(error, InvalidInputError) or error.code == "session_not_reached"


def _about(collection: Collection, wanted: Consistency | None) -> Consistency | None:
    """A session token is of one collection; the others are read as if it had not come."""
    if wanted is not None and wanted.mode == "session" and parse_token(wanted.token)[0] != collection.uuid:
        return None
    return wanted


async def get(request: web.Request) -> web.Response:
    wanted = consistency.of_query(request)
    collection = await request.app[SERVICE].collection(request)
    told = consistency.Told(collection, wanted)
    info = await collection.info(consistency=wanted)
    return json_response(describe(info), headers=told.headers())


async def alter(request: web.Request) -> web.Response:
    database = request.app[SERVICE].require()
    wanted = bodies.decode(_ALTER, await bodies.read(request))
    changes = {
        name: value for name, value in msgspec.structs.asdict(wanted.index).items() if value is not msgspec.UNSET
    }
    altered = await database.alter_index(request.match_info["name"], changes)
    log.info("collection %s has its index parameters changed: %s", altered.spec.name, changes)
    info = await altered.info()
    return json_response(describe(info), headers=consistency.token(altered))


async def delete(request: web.Request) -> web.Response:
    name, key = request.match_info["name"], request.headers.get(KEY_HEADER)
    await request.app[SERVICE].require().drop_collection(name, idempotency_key=key)
    log.info("collection %s is dropped", name)
    return web.Response(status=204)


async def index(request: web.Request) -> web.Response:
    wait_ms = _wait_ms(request)
    wanted = consistency.of_query(request)
    collection = await request.app[SERVICE].collection(request)
    if wait_ms:
        with contextlib.suppress(DeadlineExceededError):  # the answer tells how far it got
            await collection.wait_indexed(wait_ms)
    info = await collection.info(consistency=wanted)
    answer = schemas.IndexAnswer(info.spec.name, _index(info))
    return json_response(answer, headers=consistency.token(collection))


def _wait_ms(request: web.Request) -> int:
    text = request.query.get("wait_ms", "0")
    if text.isascii() and text.isdigit() and len(text) < 9 and int(text) <= WAIT_MS_MAX:
        return int(text)
    raise refuse("invalid_parameter", ("wait_ms",), f"is {text!r}, expected an integer from 0 to {WAIT_MS_MAX}")


def describe(info: CollectionInfo) -> schemas.CollectionDescription:
    """A collection as GET shows it."""
    spec = info.spec
    return schemas.CollectionDescription(
        name=spec.name,
        vector_dim=spec.dim,
        distance=spec.metric.value,
        vector_count=info.count,
        shard_count=spec.shard_count,
        segments=info.segments,
        bytes=info.bytes,
        lsn=info.lsn,
        version=info.version,
        index=_index(info),
        compaction=schemas.CompactionDescription(**asdict(info.compaction)),
        cache=schemas.CacheDescription(**asdict(info.cache)),
        payload_schema=None if spec.payload_schema is None else dict(spec.payload_schema),
        status="degraded" if info.damaged else "ok",
        damaged=list(info.damaged),
        tail_points=info.tail_points,
    )


def _index(info: CollectionInfo) -> schemas.IndexDescription:
    params, state = info.spec.index, info.index
    return schemas.IndexDescription(
        params.type,
        params.m,
        params.ef_construction,
        params.ef_search,
        params.quantization,
        state.state,
        state.indexed,
        state.pending,
    )


ROUTES = (
    Route(
        "POST", "/collections", create, "Create a collection", "collections",
        body=schemas.CreateCollection, answer=schemas.CollectionDescription, status=201, problems=(404, 409, 422, 507),
        once=True,
    ),
    Route(
        "POST", "/collections/{name}/clone", clone, "Make a collection of the same points", "collections",
        body=schemas.CloneCollection, answer=schemas.CollectionDescription, status=201,
        problems=(404, 409, 422, 504, 507), once=True,
    ),
    Route(
        "GET", "/collections", list_all, "List the collections", "collections",
        answer=schemas.CollectionList, parameters=(CONSISTENCY,), problems=(422, 504),
    ),
    Route(
        "GET", "/collections/{name}", get, "Describe a collection", "collections",
        answer=schemas.CollectionDescription, parameters=(CONSISTENCY,), problems=(404, 422),
    ),
    Route(
        "PATCH", "/collections/{name}", alter, "Change a collection's index parameters", "collections",
        body=schemas.AlterCollection, answer=schemas.CollectionDescription, problems=(404, 422, 507),
    ),
    Route(
        "DELETE", "/collections/{name}", delete, "Delete a collection with all its points", "collections",
        status=204, problems=(404, 422), once=True,
    ),
    Route(
        "GET", "/collections/{name}/index", index, "How far the index is", "collections",
        answer=schemas.IndexAnswer, parameters=(_WAIT, CONSISTENCY), problems=(404, 422),
    ),
)  # fmt: skip
