import asyncio
import base64
import struct

import pytest

from akidb.collection import Collection

SEARCH = "/collections/compass/search"
BATCH = "/collections/compass/batch-search"


def ids(body):
    return [hit["id"] for hit in body["results"]]


async def test_search_answers_best_first_with_payloads(filled):
    answer = await filled.post(SEARCH, {"vector": [2, 1]})
    assert answer.status == 200
    assert ids(answer.body) == ["north-east", "east", "north"]
    assert (answer.body["collection"], answer.body["count"]) == ("compass", 3)
    assert answer.body["results"][1] == {
        "id": "east", "score": pytest.approx(2 / 5**0.5), "payload": {"kind": "axis", "n": 1},
    }  # fmt: skip
    assert answer.body["results"][0]["payload"] is None
    assert answer.headers["X-AkiDB-Token"]


async def test_options_shape_the_answer(filled):
    body = (await filled.post(SEARCH, {"vector": [2, 1], "top_k": 1, "with_vector": True, "with_payload": False})).body
    assert body["results"] == [{"id": "north-east", "score": pytest.approx(0.9486833), "vector": [3.5, 3.5]}]
    assert ids((await filled.post(SEARCH, {"vector": [2, 1], "score_threshold": 0.8})).body) == ["north-east", "east"]
    assert ids((await filled.post(SEARCH, {"vector": [2, 1], "exact": True, "ef_search": 300})).body)[0] == "north-east"


async def test_filters_choose_among_points(filled):
    wanted = {"must": [{"field": "kind", "match": "axis"}], "must_not": [{"field": "n", "range": {"gte": 2}}]}
    assert ids((await filled.post(SEARCH, {"vector": [2, 1], "filter": wanted})).body) == ["east"]
    assert ids((await filled.post(SEARCH, {"vector": [2, 1], "filter": {"exists": "n"}})).body) == ["east", "north"]


async def test_base64_vectors(filled):
    text = base64.b64encode(struct.pack("<2f", 0, 1)).decode()
    assert ids((await filled.post(SEARCH, {"vector": text})).body)[0] == "north"


async def test_search_by_a_stored_point_leaves_that_point_out(filled):
    assert ids((await filled.post(SEARCH, {"id": "east", "top_k": 1})).body) == ["north-east"]
    assert ids((await filled.post(SEARCH, {"id": "east"})).body) == ["north-east", "north"]


@pytest.mark.parametrize(
    ("distance", "order", "best"),
    [("Euclidean", ["east", "north", "north-east"], 0.5), ("Dot", ["north-east", "east", "north"], 3.5)],
)
async def test_score_is_the_metrics_own_value(client, distance, order, best):
    await client.post("/collections", {"name": "c", "vector_dim": 2, "distance": distance})
    points = {"east": [1, 0], "north": [0, 2], "north-east": [3.5, 3.5]}
    await client.post("/collections/c/vectors", {"vectors": [{"id": i, "vector": v} for i, v in points.items()]})
    vector = [0.5, 0] if distance == "Euclidean" else [1, 0]
    body = (await client.post("/collections/c/search", {"vector": vector, "exact": True})).body
    assert ids(body) == order
    assert body["results"][0]["score"] == pytest.approx(best)


async def test_an_empty_collection_has_no_results(client):
    await client.post("/collections", {"name": "c", "vector_dim": 2})
    body = (await client.post("/collections/c/search", {"vector": [1, 0]})).body
    assert body == {"collection": "c", "results": [], "count": 0}


@pytest.mark.parametrize("path", [BATCH, "/collections/compass/batch_search"])
async def test_batch_answers_in_order_and_gives_names_back(filled, path):
    queries = [
        {"id": "first", "vector": [0, 1], "top_k": 1},
        {"vector": [1, 0], "top_k": 2},
        {"id": 3, "vector": [1, 1], "top_k": 1},
    ]
    body = (await filled.post(path, {"queries": queries})).body
    assert body["collection"] == "compass"
    assert [entry.get("id") for entry in body["results"]] == ["first", None, "3"]
    assert [ids(entry) for entry in body["results"]] == [["north"], ["east", "north-east"], ["north-east"]]
    assert [entry["count"] for entry in body["results"]] == [1, 2, 1]


async def test_a_batch_of_100_and_a_filter_of_its_own_each(filled):
    queries = [{"vector": [1, i], "top_k": 1, "filter": {"field": "n", "match": 1 + i % 2}} for i in range(100)]
    body = (await filled.post(BATCH, {"queries": queries})).body
    assert [ids(entry) for entry in body["results"]] == [["east"], ["north"]] * 50


async def token_of(client, collection="compass"):
    return (await client.get(f"/collections/{collection}")).headers["X-AkiDB-Token"]


@pytest.mark.parametrize("given", ["strong", "eventual", {"session": "TOKEN"}, {"bounded_ms": 60000}])
async def test_every_consistency_is_understood(filled, given):
    if "session" in given:
        given = {"session": await token_of(filled)}
    assert (await filled.post(SEARCH, {"vector": [1, 0], "consistency": given})).body["count"] == 3


@pytest.mark.parametrize(
    ("given", "told"), [(None, False), ("strong", False), ("eventual", True), ({"bounded_ms": 600000}, True)]
)
async def test_a_read_of_an_older_state_says_how_old(filled, given, told):
    body = {} if given is None else {"consistency": given}
    of_get = given if isinstance(given, str | None) else "bounded_ms:600000"
    answers = [
        await filled.post(SEARCH, {"vector": [1, 0]} | body),
        await filled.post(BATCH, {"queries": [{"vector": [1, 0]}]} | body),
        await filled.post("/collections/compass/count", body),
        await filled.post("/collections/compass/scroll", body),
        await filled.post("/collections/compass/vectors/get", {"ids": ["north"]} | body),
        await filled.get("/collections/compass" + ("" if given is None else f"?consistency={of_get}")),
    ]
    assert [answer.status for answer in answers] == [200] * 6
    assert ["X-AkiDB-Staleness-Ms" in answer.headers for answer in answers] == [told] * 6
    if told:
        assert all(0 <= int(answer.headers["X-AkiDB-Staleness-Ms"]) < 600_000 for answer in answers)


async def test_the_token_of_a_write_is_taken_as_a_header(filled):
    assert (await filled.post(SEARCH, {"vector": [1, 0]}, X_AkiDB_Token=await token_of(filled))).status == 200
    await filled.post("/collections", {"name": "other", "vector_dim": 2})
    await filled.refused(
        "POST", SEARCH, {"vector": [1, 0]}, X_AkiDB_Token="one", status=422, code="invalid_token", says="no token"
    )
    body = {"vector": [1, 0], "consistency": {"session": await token_of(filled, "other")}}
    await filled.refused("POST", SEARCH, body, status=422, code="invalid_token", says="another collection")


REFUSED = [
    ({"vector": [1, 2, 3]}, "dimension_mismatch", ["vector"], "has 3 dimensions, the collection has 2"),
    ({"vector": [0, 0]}, "zero_vector", ["vector"], "zero vector"),
    ({"vector": [1, 1e39]}, "not_finite", ["vector", 1], "expected a finite float32"),
    ({"vector": [1, 0], "top_k": 0}, "invalid_top_k", ["top_k"], "is 0, expected 1 to 1000"),
    ({"vector": [1, 0], "top_k": 1001}, "invalid_top_k", ["top_k"], "is 1001, expected 1 to 1000"),
    ({"vector": [1, 0], "ef_search": 0}, "invalid_ef_search", ["ef_search"], "is 0"),
    ({"vector": [1, 0], "target_recall": 1}, "invalid_target_recall", ["target_recall"], "is 1.0"),
    ({"vector": [1, 0], "target_recall": 0.9, "ef_search": 9}, "invalid_target_recall", ["target_recall"], "ef_search"),
    ({"vector": [1, 0], "topk": 3}, "unknown_field", ["topk"], "`topk`"),
    ({"vector": [1, 0], "score_threshold": "x"}, "invalid_body", ["score_threshold"], "got `str`"),
    ({"vector": [1, 0], "filter": {"field": "a"}}, "invalid_filter", ["filter"], "neither match nor range"),
    ({"vector": [1, 0], "filter": [1]}, "invalid_filter", ["filter"], "is a list"),
    ({"vector": "!"}, "invalid_vector", ["vector"], "not base64"),
]


@pytest.mark.parametrize(("query", "code", "loc", "says"), REFUSED)
async def test_refused_searches(filled, query, code, loc, says):
    await filled.refused("POST", SEARCH, query, status=422, code=code, loc=loc, says=says)


@pytest.mark.parametrize(("query", "code", "loc", "says"), REFUSED)
async def test_refused_in_a_batch_the_position_is_named(filled, query, code, loc, says):
    body = {"queries": [{"vector": [1, 0]}, query]}
    await filled.refused("POST", BATCH, body, status=422, code=code, loc=["queries", 1, *loc], says=says)


@pytest.mark.parametrize(
    ("path", "body", "code", "says"),
    [
        (SEARCH, {}, "invalid_body", "expected one of vector and id"),
        (SEARCH, {"vector": [1, 0], "id": "east"}, "invalid_body", "expected one of vector and id"),
        (SEARCH, {"id": ""}, "invalid_id", "expected 1 to 512"),
        (SEARCH, {"vector": [1, 0], "timeout_ms": 0}, "invalid_body", ">= 1"),
        (BATCH, {"queries": []}, "invalid_batch", "has 0 queries, expected 1 to 100"),
        (BATCH, {"queries": [{"vector": [1, 0]}] * 101}, "invalid_batch", "has 101 queries"),
        (BATCH, {"queries": [{"vector": [1, 0], "timeout_ms": 5}]}, "unknown_field", "`timeout_ms`"),
        (BATCH, {}, "missing_field", "`queries`"),
    ],
)
async def test_refused_requests(filled, path, body, code, says):
    await filled.refused("POST", path, body, status=422, code=code, says=says)


@pytest.mark.parametrize("nesting", [33, 40])
async def test_filters_deeper_than_the_limit(filled, nesting):
    wanted = {"exists": "n"}
    for _ in range(nesting):
        wanted = {"must": [wanted]}
    await filled.refused(
        "POST", SEARCH, {"vector": [1, 0], "filter": wanted}, status=422, code="filter_too_deep", says="at most 32"
    )


async def test_filters_with_more_clauses_than_the_limit(filled):
    wanted = {"should": [{"exists": "n"}] * 101}
    await filled.refused(
        "POST", SEARCH, {"vector": [1, 0], "filter": wanted}, status=422, code="filter_too_large", says="at most 100"
    )


@pytest.mark.parametrize(
    ("path", "body"), [(SEARCH, {"vector": [1, 0]}), (BATCH, {"queries": [{"vector": [1, 0]}]}), (SEARCH, {"id": "x"})]
)
async def test_an_unknown_collection(filled, path, body):
    path = path.replace("compass", "none")
    await filled.refused("POST", path, body, status=404, code="collection_not_found", says="no collection 'none'")


async def test_an_unknown_point(filled):
    await filled.refused("POST", SEARCH, {"id": "none"}, status=404, code="point_not_found", says="no point 'none'")


async def test_past_its_time_a_search_answers_504(filled, monkeypatch):
    from akidb.api.routes import search

    class Late:
        """A clock on which the request came in two seconds ago."""

        @staticmethod
        def monotonic() -> float:
            import time

            return time.monotonic() + 2

        perf_counter = staticmethod(lambda: 0.0)

    monkeypatch.setattr(search, "time", Late)
    await filled.refused(
        "POST",
        SEARCH,
        {"vector": [1, 0], "timeout_ms": 1500},
        status=504,
        code="deadline_exceeded",
        says="1500 ms passed",
    )


async def test_a_slow_query_is_counted_and_logged_with_its_plan(filled, caplog):
    from dataclasses import replace

    service = filled.service
    service.settings = replace(service.settings, query=replace(service.settings.query, slow_query_ms=0))
    await filled.post(SEARCH, {"vector": [1, 0], "top_k": 2, "filter": {"exists": "n"}})
    (record,) = [record for record in caplog.records if record.message == "slow query"]
    assert (record.collection, record.top_k, record.parts) == ("compass", 2, 1)
    assert "n" in record.filter
    assert service.metrics.slow_queries._value.get() == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (SEARCH, {"vector": [1, 0]}),
        (SEARCH, {"id": "east"}),
        (BATCH, {"queries": [{"vector": [1, 0]}]}),
    ],
)
async def test_looking_for_the_collection_counts_and_goes_on_past_the_time(filled, path, body, monkeypatch):
    opening, opened = asyncio.Event(), asyncio.Event()
    real = filled.service.database.collection

    async def slow(name, **options):
        await opening.wait()
        found = await real(name, **options)
        opened.set()
        return found

    monkeypatch.setattr(filled.service.database, "collection", slow)
    await filled.refused("POST", path, body | {"timeout_ms": 1}, status=504, code="deadline_exceeded", says="1 ms")
    opening.set()
    await opened.wait()
    assert (await filled.post(path, body)).status == 200


async def test_reading_the_stored_point_counts(filled, monkeypatch):
    async def slow(*_, **__):
        await asyncio.Event().wait()

    monkeypatch.setattr(Collection, "get", slow)
    wanted = {"id": "east", "timeout_ms": 1}
    await filled.refused("POST", SEARCH, wanted, status=504, code="deadline_exceeded", says="1 ms")
