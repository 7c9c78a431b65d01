"""/collections/{name}/vectors: points written, read, patched, deleted, counted and listed."""

from __future__ import annotations

import msgspec
from aiohttp import web

from akidb.api import body as bodies
from akidb.api import consistency, points, schemas
from akidb.api.errors import refuse
from akidb.api.route import KEY_HEADER, Parameter, Route, json_response
from akidb.api.routes.collections import CONSISTENCY
from akidb.api.service import SERVICE
from akidb.errors import ConflictError, InvalidInputError, NotFoundError, PartialWriteError

_WITH_VECTOR = Parameter("with_vector", {"type": "boolean", "default": True}, "Whether the vector is in the answer.")

_AS_OF = Parameter("as_of", {"type": "string"}, schemas.AS_OF.format("read"))

_IF_VERSION = Parameter("if_version", {"type": "integer", "minimum": 0}, "Only if the point has this version.")

_GET = msgspec.json.Decoder(schemas.GetPoints)
_DELETE = msgspec.json.Decoder(schemas.DeletePoints)
_PATCH = msgspec.json.Decoder(schemas.PatchPoint)
_COUNT = msgspec.json.Decoder(schemas.Count)
_SCROLL = msgspec.json.Decoder(schemas.Scroll)


async def upsert(request: web.Request) -> web.Response:
    service = request.app[SERVICE]
    collection = await service.collection(request)
    body = await bodies.read(request)
    batch = await service.parse(body, lambda: points.parse_batch(body, collection.spec))
    try:
        lsn = await collection.upsert(
            batch.ids,
            batch.vectors,
            batch.payloads,
            if_absent=batch.if_absent,
            if_version=batch.if_version,
            idempotency_key=request.headers.get(KEY_HEADER),
        )
    except InvalidInputError as error:
        raise points.in_request(error) from None
    except (ConflictError, PartialWriteError) as error:
        raise points.differing(error) from None
    return json_response(
        schemas.Upserted(collection.spec.name, len(batch.ids), lsn), headers=consistency.token(collection)
    )


async def get_one(request: web.Request) -> web.Response:
    wanted = consistency.of_snapshot(request)
    with_vector = _flag(request, "with_vector", default=True)
    collection = await request.app[SERVICE].collection(request)
    told = consistency.Told(collection, wanted)
    (found,) = await collection.get([_id(request)], consistency=wanted, with_vector=with_vector)
    if found is None:
        raise _no_point(collection.spec.name, _id(request))
    (answer,) = points.answers([found], with_payload=True)
    return json_response(answer, headers=told.headers())


async def get_many(request: web.Request) -> web.Response:
    service = request.app[SERVICE]
    body = await bodies.read(request)
    wanted = await service.parse(body, lambda: bodies.decode(_GET, body))
    collection = await service.collection(request)
    freshness = consistency.of(request, wanted.consistency, wanted.as_of)
    told = consistency.Told(collection, freshness)
    found = await collection.get(wanted.ids, consistency=freshness, with_vector=wanted.with_vector)

    def encode() -> web.Response:
        there = [point for point in found if point is not None]
        described = iter(points.answers(there, with_payload=wanted.with_payload))
        listed = [None if point is None else next(described) for point in found]
        return json_response(schemas.Points(collection.spec.name, listed, len(there)), headers=told.headers())

    return await service.in_thread(encode)


async def delete_one(request: web.Request) -> web.Response:
    collection = await request.app[SERVICE].collection(request)
    key = request.headers.get(KEY_HEADER)
    await collection.delete([_id(request)], if_version=_version(request), idempotency_key=key)
    return web.Response(status=204, headers=consistency.token(collection))


async def delete_many(request: web.Request) -> web.Response:
    service = request.app[SERVICE]
    body = await bodies.read(request)
    wanted = await service.parse(body, lambda: bodies.decode(_DELETE, body))
    if (wanted.ids is None) == (wanted.filter is None):
        raise refuse("invalid_body", (), "expected one of ids and filter")
    if wanted.filter is not None and wanted.if_version is not None:
        raise refuse("invalid_condition", ("if_version",), "goes with ids, not with filter")
    collection = await service.collection(request)
    deleted, key = None, request.headers.get(KEY_HEADER)
    if wanted.ids is not None:
        lsn = await collection.delete(wanted.ids, if_version=wanted.if_version, idempotency_key=key)
    else:
        chosen = service.filter(wanted.filter, collection)
        assert chosen is not None
        deleted, lsn = await collection.delete_where(chosen, idempotency_key=key)
    return json_response(schemas.Deleted(collection.spec.name, deleted, lsn), headers=consistency.token(collection))


async def patch_one(request: web.Request) -> web.Response:
    collection = await request.app[SERVICE].collection(request)
    wanted = bodies.decode(_PATCH, await bodies.read(request))
    lsn = await collection.patch(
        _id(request),
        bytes(wanted.payload),
        if_version=wanted.if_version,
        idempotency_key=request.headers.get(KEY_HEADER),
    )
    return json_response(schemas.Written(collection.spec.name, lsn), headers=consistency.token(collection))


async def count(request: web.Request) -> web.Response:
    service = request.app[SERVICE]
    wanted = bodies.decode(_COUNT, await bodies.read(request) or b"{}")
    collection = await service.collection(request)
    freshness = consistency.of(request, wanted.consistency, wanted.as_of)
    told = consistency.Told(collection, freshness)
    found = await collection.count(service.filter(wanted.filter, collection), consistency=freshness)
    return json_response(schemas.Counted(collection.spec.name, found), headers=told.headers())


async def scroll(request: web.Request) -> web.Response:
    service = request.app[SERVICE]
    wanted = bodies.decode(_SCROLL, await bodies.read(request) or b"{}")
    after = None if wanted.after is None else str(wanted.after)
    collection = await service.collection(request)
    freshness = consistency.of(request, wanted.consistency, wanted.as_of)
    told = consistency.Told(collection, freshness)
    found = await collection.scroll(
        after=after,
        limit=wanted.limit,
        filter=service.filter(wanted.filter, collection),
        with_vector=wanted.with_vector,
        consistency=freshness,
    )

    def encode() -> web.Response:
        page = points.answers(found, with_payload=wanted.with_payload)
        following = page[-1].id if len(page) == wanted.limit else None
        return json_response(schemas.Page(collection.spec.name, page, following), headers=told.headers())

    return await service.in_thread(encode)


def _id(request: web.Request) -> str:
    """The id in the path. Raises InvalidInputError `invalid_id` if its percent-encoding is no UTF-8."""
    # yarl leaves what it cannot decode as it stands: %FF would be taken for the id "%FF", which is written %25FF.
    text: str = request.match_info["id"]
    if "%" in text and _undecoded(request.rel_url.raw_path.rsplit("/", 1)[-1]):
        raise refuse("invalid_id", ("id",), "is not percent-encoded UTF-8")
    return text


def _undecoded(segment: str) -> bool:
    from urllib.parse import unquote_to_bytes

    try:
        unquote_to_bytes(segment).decode()
    except UnicodeDecodeError:
        return True
    return False


def _flag(request: web.Request, name: str, *, default: bool) -> bool:
    text = request.query.get(name)
    if text is None:
        return default
    if text in ("true", "false"):
        return text == "true"
    raise refuse("invalid_parameter", (name,), f"is {text!r}, expected true or false")


def _version(request: web.Request) -> int | None:
    text = request.query.get("if_version")
    if text is None or (text.isascii() and text.isdigit() and len(text) < 19):
        return None if text is None else int(text)
    raise refuse("invalid_condition", ("if_version",), f"is {text!r:.60}, expected a version, an integer from 0")


def _no_point(collection: str, id_: str) -> NotFoundError:
    return NotFoundError(f"collection {collection!r} has no point {id_!r}", code="point_not_found")


_ONE = "/collections/{name}/vectors/{id}"

ROUTES = (
    Route(
        "POST", "/collections/{name}/vectors", upsert, "Store points, all or nothing; 200 when durable", "vectors",
        body=schemas.Upsert, answer=schemas.Upserted, problems=(404, 409, 412, 422, 507), once=True,
    ),
    Route(
        "POST", "/collections/{name}/vectors/get", get_many, "Read points by id", "vectors",
        body=schemas.GetPoints, answer=schemas.Points, problems=(404, 422),
    ),
    Route(
        "POST", "/collections/{name}/vectors/delete", delete_many, "Delete points by ids or by a filter", "vectors",
        body=schemas.DeletePoints, answer=schemas.Deleted, problems=(404, 412, 422, 507), once=True,
    ),
    Route(
        "GET", _ONE, get_one, "Read a point", "vectors",
        answer=schemas.PointAnswer, parameters=(_WITH_VECTOR, CONSISTENCY, _AS_OF), problems=(404, 422),
    ),
    Route(
        "DELETE", _ONE, delete_one, "Delete a point; one that is not there is no error", "vectors",
        status=204, parameters=(_IF_VERSION,), problems=(404, 412, 422, 507), once=True,
    ),
    Route(
        "PATCH", _ONE, patch_one, "Merge into a point's payload", "vectors",
        body=schemas.PatchPoint, answer=schemas.Written, problems=(404, 412, 422, 507), once=True,
    ),
    Route(
        "POST", "/collections/{name}/count", count, "Count points, all or those that match", "vectors",
        body=schemas.Count, body_required=False, answer=schemas.Counted, problems=(404, 422),
    ),
    Route(
        "POST", "/collections/{name}/scroll", scroll, "List points in id order, page by page", "vectors",
        body=schemas.Scroll, body_required=False, answer=schemas.Page, problems=(404, 422),
    ),
)  # fmt: skip
