"""What every route has in common: ids, problems, methods, metrics, keys, the description of itself."""

import json

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from akidb.api.app import ROUTES, create_app
from akidb.errors import AkiDBError, CorruptionError, DeadlineExceededError, StorageFullError
from tests.api.conftest import POINTS

LATER = [
    ("GET", "/collections/compass/versions"),
    ("POST", "/collections/compass/cache/warm"),
    ("GET", "/tenants"),
]


async def test_the_root_names_version_and_links(client):
    body = (await client.get("/")).body
    assert body == {
        "name": "AkiDB", "version": "1.2.3", "documentation": "/docs", "openapi": "/openapi.json", "health": "/health",
    }  # fmt: skip


async def test_a_request_id_is_echoed_or_made(client):
    assert (await client.get("/health/live", X_Request_ID="abc-1")).headers["X-Request-ID"] == "abc-1"
    made = [(await client.get("/health/live")).headers["X-Request-ID"] for _ in range(2)]
    assert made[0] != made[1]
    assert (await client.get("/nowhere", X_Request_ID="abc-2")).body["request_id"] == "abc-2"


@pytest.mark.parametrize("sent", ["a b", "é", "x" * 129, "a\tb"])
async def test_a_request_id_that_could_forge_a_line_is_replaced(client, sent):
    assert (await client.get("/health/live", X_Request_ID=sent)).headers["X-Request-ID"] != sent


@pytest.mark.parametrize(("method", "path"), [*LATER, ("GET", "/nowhere"), ("GET", "/collections/"), ("POST", "//")])
async def test_unknown_routes(filled, method, path):
    await filled.refused(method, path, status=404, code="route_not_found", says="no such route")


async def test_a_method_that_is_not_allowed_names_those_that_are(filled):
    answer = await filled.refused(
        "PUT", "/collections/compass", status=405, code="method_not_allowed", says="expected DELETE, GET, HEAD, PATCH"
    )
    assert answer.headers["Allow"] == "DELETE,GET,HEAD,PATCH"


async def test_head_is_get_without_a_body(filled):
    async with filled.session.head(f"{filled.base}/collections/compass") as answer:
        assert (answer.status, await answer.read()) == (200, b"")


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (StorageFullError("no room"), 507, "storage_full"),
        (DeadlineExceededError("perhaps", code="outcome_unknown"), 504, "outcome_unknown"),
        (CorruptionError("object x"), 503, "data_corruption"),
        (AkiDBError("secret inside"), 500, "internal_error"),
        (RuntimeError("secret inside"), 500, "internal_error"),
    ],
)
async def test_failures_of_the_engine_have_their_status(filled, monkeypatch, error, status, code):
    async def fails(*_, **__):
        raise error

    collection = await filled.service.database.collection("compass")
    monkeypatch.setattr(collection, "upsert", fails)
    answer = await filled.refused(
        "POST", "/collections/compass/vectors", {"vectors": POINTS}, status=status, code=code, says=""
    )
    assert "secret" not in json.dumps(answer.body)


async def test_metrics_count_requests_by_route_template(filled):
    await filled.get("/collections/compass/vectors/east")
    await filled.get("/collections/compass/vectors/north")
    await filled.get("/wp-login.php")
    await filled.call("PROPFIND", "/pot")
    answer = await filled.get("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    text = answer.body.decode()
    labels = 'endpoint="/collections/{name}/vectors/{id}",method="GET",status="200"'
    assert f"akidb_api_requests_total{{{labels}}} 2.0" in text
    assert 'akidb_api_requests_total{endpoint="unmatched",method="other",status="404"} 2.0' in text
    assert 'akidb_index_vectors_total{collection="compass"} 3.0' in text
    assert "wp-login" not in text


async def test_a_dropped_collection_leaves_the_gauge(filled):
    await filled.get("/metrics")
    await filled.call("DELETE", "/collections/compass")
    assert "compass" not in (await filled.get("/metrics")).body.decode()


async def test_the_openapi_document_is_valid_and_covers_every_route(client):
    document = (await client.get("/openapi.json")).body
    OpenAPIV31SpecValidator(document).validate()
    described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert described == {(route.method, route.path) for route in ROUTES}
    served = create_app(client.service).router.routes()
    assert {(route.method, route.resource.canonical) for route in served if route.method != "HEAD"} == described


async def test_the_documentation_page_needs_nothing_from_elsewhere(client):
    answer = await client.get("/docs")
    text = answer.body.decode()
    assert answer.headers["Content-Type"].startswith("text/html")
    assert "http://" not in text.replace("http://localhost", "")
    assert "https://" not in text
    assert "<script" not in text
    for route in ROUTES:
        assert f"<code>{route.path}</code>" in text
    assert 'id="dimension_mismatch"' in text


async def test_without_a_key_nothing_but_health_and_metrics_answers(locked):
    for route in ROUTES:
        path = route.path.replace("{name}", "a").replace("{id}", "p")
        answer = await locked.call(route.method, path)
        if route.public:
            assert answer.status == 200
        else:
            assert (answer.status, answer.code) == (401, "unauthorized"), path
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert (await locked.get("/nowhere")).status == 401


async def test_the_key_is_asked_for_before_the_body_is_read(locked):
    answer = await locked.post("/collections", raw=b"x" * (locked.service.settings.api.body_limit_bytes + 1))
    assert answer.status == 401


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"X_API_Key": "k" * 20}, 200),
        ({"X_API_Key": "l" * 20}, 200),
        ({"Authorization": "Bearer " + "l" * 20}, 200),
        ({"Authorization": "bearer " + "k" * 20}, 200),
        ({"X_API_Key": "k" * 19}, 401),
        ({"X_API_Key": ""}, 401),
        ({"Authorization": "Basic " + "k" * 20}, 401),
        ({"X_API_Key": "wrong", "Authorization": "Bearer " + "k" * 20}, 401),
    ],
)
async def test_keys(locked, headers, status):
    assert (await locked.get("/collections", **headers)).status == status


async def test_no_response_tells_the_versions_beneath(client):
    assert (await client.get("/health/live")).headers["Server"] == "AkiDB"
