"""Search and batch search."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from akidb.api import body as bodies
from akidb.api import consistency, points, schemas
from akidb.api.errors import refuse
from akidb.api.middleware.observe import STARTED
from akidb.api.route import Route, json_response
from akidb.api.service import SERVICE, Service
from akidb.api.vectors import matrix, one
from akidb.collection import Collection, PreparedSearch
from akidb.collection.points import check_ids, check_values
from akidb.errors import DeadlineExceededError, InvalidInputError, NotFoundError, relocated
from akidb.query import SearchQuery, Snapshot
from akidb.telemetry.tracing import span
from akidb.types import Consistency, ScoredPoint, VectorArray

log = logging.getLogger("akidb.api.search")

T = TypeVar("T")

BATCH_MAX = 100

_SEARCH = msgspec.json.Decoder(schemas.Search)
_BATCH = msgspec.json.Decoder(schemas.BatchSearch)


async def search(request: web.Request) -> web.Response:
    service = request.app[SERVICE]
    body = await bodies.read(request)
    wanted = await service.parse(body, lambda: bodies.decode(_SEARCH, body))
    if (wanted.vector is None) == (wanted.id is None):
        raise refuse("invalid_body", (), "expected one of vector and id")
    collection = await _in_time(request, wanted.timeout_ms, service.collection(request))
    freshness = consistency.of(request, wanted.consistency, wanted.as_of)
    told = consistency.Told(collection, freshness)
    limit = service.settings.api.validation.top_k_max
    if not 1 <= wanted.top_k <= limit:
        raise refuse("invalid_top_k", ("top_k",), f"is {wanted.top_k}, expected 1 to {limit}")
    left_out = None if wanted.id is None else check_ids([wanted.id], loc=("id",))[0]
    if left_out is not None:
        vector = await _in_time(request, wanted.timeout_ms, _stored(collection, left_out, freshness))
        top_k = wanted.top_k + 1
    else:
        assert wanted.vector is not None
        vector, top_k = one(wanted.vector, collection.spec.dim), wanted.top_k
        check_query(vector, collection)
    query = _query(wanted, vector, service, collection, min(top_k, limit), ("filter",))

    def answer(found: list[list[ScoredPoint]]) -> web.Response:
        kept = [hit for hit in found[0] if hit.id != left_out][: wanted.top_k]
        results = _hits(kept, with_payload=wanted.with_payload)
        return json_response(schemas.SearchAnswer(collection.spec.name, results, len(results)), headers=told.headers())

    try:
        return await _run(request, collection, [query], wanted.timeout_ms, freshness, answer)
    except InvalidInputError as error:
        raise relocated(error, ("queries", 0), ()) from None


async def batch_search(request: web.Request) -> web.Response:
    service = request.app[SERVICE]
    body = await bodies.read(request)
    wanted = await service.parse(body, lambda: bodies.decode(_BATCH, body))
    if not 1 <= len(wanted.queries) <= BATCH_MAX:
        raise refuse("invalid_batch", ("queries",), f"has {len(wanted.queries)} queries, expected 1 to {BATCH_MAX}")
    collection = await _in_time(request, wanted.timeout_ms, service.collection(request))
    freshness = consistency.of(request, wanted.consistency, wanted.as_of)
    told = consistency.Told(collection, freshness)

    def prepare() -> list[SearchQuery]:
        vectors = matrix([query.vector for query in wanted.queries], collection.spec.dim, ("queries",))
        check_values(vectors, collection.spec.metric, ("queries",))
        return [
            _query(query, vectors[i], service, collection, query.top_k, ("queries", i, "filter"))
            for i, query in enumerate(wanted.queries)
        ]

    queries = await service.parse(body, prepare)
    labels = [msgspec.UNSET if query.id is None else str(query.id) for query in wanted.queries]

    def answer(found: list[list[ScoredPoint]]) -> web.Response:
        results = []
        for query, label, hits in zip(wanted.queries, labels, found, strict=True):
            listed = _hits(hits, with_payload=query.with_payload)
            results.append(schemas.QueryAnswer(listed, len(listed), label))
        return json_response(schemas.BatchAnswer(collection.spec.name, results), headers=told.headers())

    return await _run(request, collection, queries, wanted.timeout_ms, freshness, answer)


async def _in_time(request: web.Request, timeout_ms: int, work: Coroutine[Any, Any, T]) -> T:
    """Awaits `work` for as long as the request has. It goes on beyond that: a collection that takes longer to open than
    searches wait would otherwise never be open."""
    task = asyncio.create_task(work)
    task.add_done_callback(lambda task: task.cancelled() or task.exception())  # heard, though nobody may wait any more
    done, _ = await asyncio.wait({task}, timeout=(timeout_ms / 1000) - (time.monotonic() - request[STARTED]))
    if done:
        return task.result()
    raise _too_late(timeout_ms)


def _too_late(timeout_ms: int) -> DeadlineExceededError:
    return DeadlineExceededError(f"{timeout_ms} ms passed before the search began")


async def _stored(collection: Collection, id_: str, freshness: Consistency | None) -> VectorArray:
    (found,) = await collection.get([id_], consistency=freshness)
    if found is None or found.vector is None:
        raise NotFoundError(f"collection {collection.spec.name!r} has no point {id_!r}", code="point_not_found")
    return found.vector


def check_query(vector: VectorArray, collection: Collection) -> None:
    """Refuses a query's values, told at ("vector", …)."""
    try:
        check_values(vector[None], collection.spec.metric, ("queries",))
    except InvalidInputError as error:
        raise relocated(error, ("queries", 0), ()) from None


def _query(
    wanted: schemas.Search | schemas.BatchQuery,
    vector: VectorArray,
    service: Service,
    collection: Collection,
    top_k: int,
    filter_loc: tuple[str | int, ...],
) -> SearchQuery:
    return SearchQuery(
        vector=vector,
        top_k=top_k,
        filter=service.filter(wanted.filter, collection, filter_loc),
        ef_search=wanted.ef_search,
        target_recall=wanted.target_recall,
        exact=wanted.exact,
        with_vector=wanted.with_vector,
        with_payload=wanted.with_payload,
        score_threshold=wanted.score_threshold,
    )


async def _run(
    request: web.Request,
    collection: Collection,
    queries: Sequence[SearchQuery],
    timeout_ms: int,
    freshness: Consistency | None,
    answer: Callable[[list[list[ScoredPoint]]], T],
) -> T:
    """Searches and encodes the answer, both in one thread: a second hop would cost as much as a small search."""
    service = request.app[SERVICE]
    left_ms = timeout_ms - int((time.monotonic() - request[STARTED]) * 1000)
    if left_ms <= 0:
        raise _too_late(timeout_ms)
    with span(
        "search_vectors",
        collection__name=collection.spec.name,
        vector__dimension=collection.spec.dim,
        top_k=queries[0].top_k,
        filter__enabled=queries[0].filter is not None,
        index__type=collection.spec.index.type,
    ):
        prepared = collection.prepare(queries, timeout_ms=left_ms)
        found = await collection.search_remote(prepared, freshness)
        if found is not None:
            return await service.in_thread(lambda: answer(found))
        snapshot = await collection.snapshot(freshness, deadline=prepared.deadline)
        return await service.in_thread(lambda: answer(_searched(prepared, snapshot, service, collection)))


def _searched(
    prepared: PreparedSearch, snapshot: Snapshot, service: Service, collection: Collection
) -> list[list[ScoredPoint]]:
    began = time.perf_counter()
    found = prepared.run(snapshot)
    took = time.perf_counter() - began
    service.metrics.index_search_duration.observe(took)
    if took * 1000 > service.settings.query.slow_query_ms:
        service.metrics.slow_queries.inc()
        first = prepared.queries[0]
        plan = {
            "collection": collection.spec.name,
            "took_ms": round(took * 1000, 1),
            "queries": len(prepared.queries),
            "top_k": first.top_k,
            "ef_search": collection.spec.index.ef_search if first.ef_search is None else first.ef_search,
            "target_recall": first.target_recall,
            "exact": first.exact,
            "filter": str(first.filter) if first.filter is not None else None,
            "parts": len(snapshot.parts),
        }
        log.warning("slow query", extra=plan)
    return found


def _hits(found: Sequence[ScoredPoint], *, with_payload: bool) -> list[schemas.Hit]:
    with span("response_serialization"):
        vectors = points.vector_lists([hit.vector for hit in found])
        return [
            schemas.Hit(hit.id, float(hit.score), _payload(hit) if with_payload else msgspec.UNSET, vector)
            for hit, vector in zip(found, vectors, strict=True)
        ]


def _payload(hit: ScoredPoint) -> msgspec.Raw:
    return schemas.NULL if hit.payload_json is None else msgspec.Raw(hit.payload_json)


_ANSWERS = (404, 422, 504)

ROUTES = (
    Route(
        "POST", "/collections/{name}/search", search, "Find the points nearest to a vector", "search",
        body=schemas.Search, answer=schemas.SearchAnswer, problems=_ANSWERS,
    ),
    *(
        Route(
            "POST", f"/collections/{{name}}/{word}", batch_search, "Up to 100 searches at once", "search",
            body=schemas.BatchSearch, answer=schemas.BatchAnswer, problems=_ANSWERS,
        )
        for word in ("batch-search", "batch_search")
    ),
)  # fmt: skip
