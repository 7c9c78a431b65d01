import base64
import struct
from urllib.parse import quote

import pytest

from akidb.wal import record

VECTORS = "/collections/compass/vectors"


async def test_upsert_stores_and_replaces_whole_points(filled):
    answer = await filled.post(VECTORS, {"vectors": [{"id": "east", "vector": [5, 1]}, {"id": 7, "vector": [1, 1]}]})
    assert (answer.status, answer.body) == (200, {"collection": "compass", "upserted": 2, "lsn": 2})
    assert answer.headers["X-AkiDB-Token"]
    assert (await filled.get(f"{VECTORS}/east")).body == {"id": "east", "version": 2, "payload": None, "vector": [5, 1]}
    assert (await filled.get(f"{VECTORS}/7")).body["id"] == "7"
    assert (await filled.get("/collections/compass")).body["vector_count"] == 4


async def test_the_payload_comes_back_byte_for_byte(filled):
    raw = b'{"b" : 1.50, "a":[ null, "\\u00e9"],"c":{"x":1e2}}'
    body = b'{"vectors":[{"id":"p","vector":[1,2],"payload":%s}]}' % raw
    assert (await filled.post(VECTORS, raw=body)).status == 200
    async with filled.session.get(f"{filled.base}{VECTORS}/p") as answer:
        assert raw in await answer.read()


async def test_vectors_come_back_in_the_shortest_form_that_is_the_same_float32(filled):
    await filled.post(VECTORS, {"vectors": [{"id": "p", "vector": [0.1, -1.25e-7]}]})
    async with filled.session.get(f"{filled.base}{VECTORS}/p") as answer:
        assert b"[0.1,-1.25e-7]" in await answer.read()


async def test_base64_vectors_are_little_endian_float32(filled):
    text = base64.b64encode(struct.pack("<2f", 0.5, -2)).decode()
    await filled.post(VECTORS, {"vectors": [{"id": "p", "vector": text}, {"id": "q", "vector": [1, 1]}]})
    assert (await filled.get(f"{VECTORS}/p")).body["vector"] == [0.5, -2]


@pytest.mark.parametrize("id_", ["a/b", "..", "%2F", "a b", "?q#f", "{x}", "ü", "a%", "\n", ".", "+", "é" * 256])
async def test_any_id_reaches_its_point_percent_encoded(filled, id_):
    await filled.post(VECTORS, {"vectors": [{"id": id_, "vector": [1, 2]}]})
    path = f"{VECTORS}/{quote(id_, safe='').replace('.', '%2E')}"
    assert (await filled.get(path)).body["id"] == id_
    assert (await filled.call("PATCH", path, {"payload": {"x": 1}})).status == 200
    assert (await filled.call("DELETE", path)).status == 204
    assert (await filled.get(path)).status == 404


async def test_an_integer_is_the_same_point_as_its_text(filled):
    await filled.post(VECTORS, {"vectors": [{"id": 42, "vector": [1, 2]}]})
    await filled.post(VECTORS, {"vectors": [{"id": "42", "vector": [3, 4]}]})
    answer = await filled.post(f"{VECTORS}/get", {"ids": [42]})
    assert [point["vector"] for point in answer.body["points"]] == [[3, 4]]


async def test_get_many_keeps_the_order_and_marks_what_is_missing(filled):
    body = (await filled.post(f"{VECTORS}/get", {"ids": ["north", "none", "east"], "with_vector": False})).body
    assert body == {
        "collection": "compass",
        "points": [
            {"id": "north", "version": 1, "payload": {"kind": "axis", "n": 2}},
            None,
            {"id": "east", "version": 1, "payload": {"kind": "axis", "n": 1}},
        ],
        "count": 2,
    }  # fmt: skip


async def test_get_one_without_its_vector(filled):
    assert "vector" not in (await filled.get(f"{VECTORS}/east?with_vector=false")).body
    await filled.refused(
        "GET", f"{VECTORS}/east?with_vector=1", status=422, code="invalid_parameter", says="expected true or false"
    )


async def test_delete_by_id_by_ids_and_by_filter(filled):
    assert (await filled.call("DELETE", f"{VECTORS}/east")).status == 204
    assert (await filled.call("DELETE", f"{VECTORS}/east")).status == 204
    body = (await filled.post(f"{VECTORS}/delete", {"filter": {"field": "n", "match": 2}})).body
    assert body == {"collection": "compass", "deleted": 1, "lsn": 4}
    assert (await filled.post(f"{VECTORS}/delete", {"ids": ["north-east", "none"]})).body["deleted"] is None
    assert (await filled.get("/collections/compass")).body["vector_count"] == 0


async def test_patch_merges_and_null_removes(filled):
    answer = await filled.call("PATCH", f"{VECTORS}/east", {"payload": {"n": None, "deep": {"x": 1}}})
    assert answer.body == {"collection": "compass", "lsn": 2}
    assert (await filled.get(f"{VECTORS}/east")).body["payload"] == {"kind": "axis", "deep": {"x": 1}}


async def test_count_all_and_filtered(filled):
    assert (await filled.post("/collections/compass/count")).body == {"collection": "compass", "count": 3}
    wanted = {"filter": {"field": "kind", "match": "axis"}, "consistency": {"bounded_ms": 60000}}
    assert (await filled.post("/collections/compass/count", wanted)).body["count"] == 2


async def test_scroll_pages_in_id_order(filled):
    first = (await filled.post("/collections/compass/scroll", {"limit": 2})).body
    assert ([point["id"] for point in first["points"]], first["next"]) == (["east", "north"], "north")
    second = (
        await filled.post("/collections/compass/scroll", {"limit": 2, "after": first["next"], "with_vector": True})
    ).body
    assert second["points"] == [{"id": "north-east", "version": 1, "payload": None, "vector": [3.5, 3.5]}]
    assert second["next"] is None


POINT = {"id": "p", "vector": [1, 2]}
DEEP = b'{"x":' * 40 + b"1" + b"}" * 40


@pytest.mark.parametrize(
    ("points", "code", "loc", "says"),
    [
        ([POINT, {"id": "q", "vector": [1]}], "dimension_mismatch", ["vectors", 1, "vector"], "has 1 dimensions, the"),
        ([{"id": "p", "vector": []}], "dimension_mismatch", ["vectors", 0, "vector"], "has 0 dimensions"),
        ([POINT, {"id": "q", "vector": [1, 1e39]}], "not_finite", ["vectors", 1, "vector", 1], "expected a finite"),
        ([{"id": "p", "vector": [1e30, 1e30]}], "not_finite", ["vectors", 0, "vector"], "overflows"),
        ([POINT, {"id": "q", "vector": [0, 0]}], "zero_vector", ["vectors", 1, "vector"], "zero vector"),
        ([POINT, {"id": "p", "vector": [3, 4]}], "duplicate_id", ["vectors", 1, "id"], "positions 0 and 1"),
        ([{"id": 1, "vector": [1, 2]}, {"id": "1", "vector": [1, 2]}], "duplicate_id", ["vectors", 1, "id"], "'1'"),
        ([{"id": "", "vector": [1, 2]}], "invalid_id", ["vectors", 0, "id"], "expected 1 to 512"),
        ([{"id": "é" * 257, "vector": [1, 2]}], "invalid_id", ["vectors", 0, "id"], "514 UTF-8 bytes"),
        ([{"id": 1.5, "vector": [1, 2]}], "invalid_body", ["vectors", 0, "id"], "got `float`"),
        ([{"id": True, "vector": [1, 2]}], "invalid_body", ["vectors", 0, "id"], "got `bool`"),
        ([{"id": "p", "vector": [1, "2"]}], "invalid_body", ["vectors", 0, "vector", 1], "got `str`"),
        ([{"id": "p", "vector": [1, None]}], "invalid_body", ["vectors", 0, "vector", 1], "got `null`"),
        ([{"id": "p", "vector": [[1], [2]]}], "invalid_body", ["vectors", 0, "vector", 0], "got `array`"),
        ([{"id": "p", "vector": "!!"}], "invalid_vector", ["vectors", 0, "vector"], "not base64"),
        ([{"id": "p", "vector": "AAAA"}], "invalid_vector", ["vectors", 0, "vector"], "3 bytes"),
        ([{"id": "p", "vector": "AACAfwAAgH8="}], "not_finite", ["vectors", 0, "vector", 0], "is inf"),
        ([{"id": "p", "vector": "AADAfwAAwH8="}], "not_finite", ["vectors", 0, "vector", 0], "is nan"),
        ([{"id": "p"}], "missing_field", ["vectors", 0, "vector"], "`vector`"),
        ([POINT | {"vectr": 1}], "unknown_field", ["vectors", 0, "vectr"], "`vectr`"),
        ([POINT | {"payload": [1]}], "invalid_payload", ["vectors", 0, "payload"], "not a JSON object"),
        ([POINT | {"payload": {"n": 2**64}}], "invalid_payload", ["vectors", 0, "payload"], "beyond 64 bits"),
        ("x", "invalid_body", ["vectors"], "got `str`"),
    ],
)  # fmt: skip
async def test_refused_batches_change_nothing(filled, points, code, loc, says):
    await filled.refused("POST", VECTORS, {"vectors": points}, status=422, code=code, loc=loc, says=says)


@pytest.mark.parametrize(
    ("raw", "status", "code", "says"),
    [
        (b'{"vectors":[{"id":"p","vector":[1,NaN]}]}', 400, "malformed_json", "byte 34 (line 1, column 35)"),
        (b'{"vectors":[\n{"id":"p","vector":[1,]}]}', 400, "malformed_json", "(line 2, column 23)"),
        (b'{"vectors":[', 400, "malformed_json", "ends too early, at byte 12"),
        (b"", 400, "malformed_json", "at byte 0"),
        (b'{"vectors":[]}x', 400, "malformed_json", "byte 14"),
        (b'{"vectors":[{"id":"\xff","vector":[1,2]}]}', 400, "malformed_json", "not UTF-8"),
        (b'{"vectors":[{"id":"\\ud800","vector":[1,2]}]}', 400, "malformed_json", "hex escape"),
        (b'{"vectors":[{"id":"p","vector":[1,1e999]}]}', 422, "number_out_of_range", "out of range"),
        (b'{"vectors":[{"id":"p","vector":[1,-1e999]}]}', 422, "number_out_of_range", "vectors.0.vector.1"),
        (b'{"vectors":[{"id":"p","vector":[1,%s]}]}' % (b"9" * 400), 422, "number_out_of_range", "vectors.0.vector.1"),
        (b'{"vectors":[{"id":"p","vector":[1,2],"payload":{"x":1e999}}]}', 422, "invalid_payload", "out of range"),
        (b'{"vectors":[{"id":"p","vector":[1,2],"payload":{"x":"\xff"}}]}', 422, "invalid_payload", "utf-8"),
        (b'{"vectors":[{"id":"p","vector":[1,2],"payload":%s}]}' % DEEP, 422, "invalid_payload", "32 levels"),
        (b'{"vectors":%s1%s}' % (b"[" * 5000, b"]" * 5000), 422, "json_too_deep", "too deeply"),
    ],
)  # fmt: skip
async def test_texts_that_are_not_the_json_they_should_be(filled, raw, status, code, says):
    await filled.refused("POST", VECTORS, raw=raw, status=status, code=code, says=says)


async def test_a_body_over_the_limit_is_refused_before_it_is_parsed(filled):
    limit = filled.service.settings.api.body_limit_bytes
    body = b'{"vectors":[]}' + b" " * limit
    await filled.refused("POST", VECTORS, raw=body, status=413, code="body_too_large", says=f"{limit} bytes")


async def test_a_chunked_body_over_the_limit_is_refused_too(filled):
    limit = filled.service.settings.api.body_limit_bytes

    async def chunks():
        for _ in range(limit // 8192 + 2):
            yield b" " * 8192

    headers = {"Content-Type": "application/json"}
    async with filled.session.post(f"{filled.base}{VECTORS}", data=chunks(), headers=headers) as answer:
        assert (answer.status, (await answer.json(content_type=None))["code"]) == (413, "body_too_large")


async def test_other_content_types_are_refused(filled):
    await filled.refused(
        "POST", VECTORS, raw=b'{"vectors":[]}', Content_Type="text/plain",
        status=415, code="unsupported_media_type", says="expected application/json",
    )  # fmt: skip


async def test_a_large_batch_is_parsed_in_slices_and_errors_keep_their_position(filled):
    points = [{"id": i, "vector": [i, 1]} for i in range(3000)]
    assert (await filled.post(VECTORS, {"vectors": points})).body["upserted"] == 3000
    points[2999]["vector"] = [1, 2, 3]
    await filled.refused(
        "POST", VECTORS, {"vectors": points},
        status=422, code="dimension_mismatch", loc=["vectors", 2999, "vector"], says="has 3 dimensions",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/vectors", {"vectors": [POINT]}),
        ("GET", "/vectors/p", None),
        ("DELETE", "/vectors/p", None),
        ("PATCH", "/vectors/p", {"payload": {}}),
        ("POST", "/vectors/get", {"ids": ["p"]}),
        ("POST", "/vectors/delete", {"ids": ["p"]}),
        ("POST", "/count", {}),
        ("POST", "/scroll", {}),
    ],
)
async def test_an_unknown_collection(filled, method, path, body):
    await filled.refused(
        method, f"/collections/none{path}", body, status=404, code="collection_not_found", says="no collection 'none'"
    )


@pytest.mark.parametrize(("method", "body"), [("GET", None), ("PATCH", {"payload": {"x": 1}})])
async def test_an_unknown_point(filled, method, body):
    await filled.refused(method, f"{VECTORS}/none", body, status=404, code="point_not_found", says="no point 'none'")


@pytest.mark.parametrize(
    ("method", "path", "body", "code", "says"),
    [
        ("GET", f"{VECTORS}/%FF", None, "invalid_id", "percent-encoded UTF-8"),
        ("GET", f"{VECTORS}/{'x' * 513}", None, "invalid_id", "expected 1 to 512"),
        ("PATCH", f"{VECTORS}/east", {"payload": None}, "invalid_patch", "is null, expected a JSON object"),
        ("PATCH", f"{VECTORS}/east", {"payload": [1]}, "invalid_patch", "is [1], expected a JSON object"),
        ("PATCH", f"{VECTORS}/east", {}, "missing_field", "`payload`"),
        ("POST", f"{VECTORS}/get", {"ids": [""]}, "invalid_id", "expected 1 to 512"),
        ("POST", f"{VECTORS}/delete", {}, "invalid_body", "one of ids and filter"),
        ("POST", f"{VECTORS}/delete", {"ids": ["east"], "filter": {}}, "invalid_body", "one of ids and filter"),
        ("POST", f"{VECTORS}/delete", {"filter": {"field": "n"}}, "invalid_filter", "neither match nor range"),
        ("POST", f"{VECTORS}/delete", {"filter": {}}, "invalid_filter", "no condition and would delete every point"),
        ("POST", f"{VECTORS}/delete", {"filter": {"must": [{"must": []}]}}, "invalid_filter", "no condition"),
        ("POST", "/collections/compass/scroll", {"limit": 0}, "invalid_body", ">= 1"),
        ("POST", "/collections/compass/scroll", {"limit": 1001}, "invalid_body", "<= 1000"),
        ("POST", "/collections/compass/count", {"consistency": {}}, "invalid_consistency", "one of session"),
        ("POST", "/collections/compass/count", {"consistency": {"session": "x"}}, "invalid_token", "no token"),
        (
            "POST",
            "/collections/compass/count",
            {"consistency": "weak"},
            "invalid_consistency",
            "expected strong, eventual",
        ),
    ],
)
async def test_refused_calls_change_nothing(filled, method, path, body, code, says):
    await filled.refused(method, path, body, status=422, code=code, says=says)


async def test_a_payload_must_keep_what_its_schema_promises(client):
    await client.post("/collections", {"name": "books", "vector_dim": 2, "payload_schema": {"year": "integer"}})
    await client.refused(
        "POST", "/collections/books/vectors", {"vectors": [POINT | {"payload": {"year": "old"}}]},
        status=422, code="payload_schema_mismatch", says="payload_schema says integer", loc=["vectors", 0, "payload"],
    )  # fmt: skip


async def test_a_batch_larger_than_a_slot_takes_is_refused(filled, monkeypatch):
    monkeypatch.setattr(record, "BATCH_BYTES_MAX", 1000)
    points = {"vectors": [{"id": i, "vector": [1, 2]} for i in range(100)]}
    await filled.refused("POST", VECTORS, points, status=422, code="batch_too_large", says="send it in parts")


@pytest.mark.parametrize("path", ["search", "count", "scroll", "vectors/delete"])
async def test_a_filter_on_a_field_without_index_is_refused(client, path):
    schema = {"raw": {"index": False}}
    made = await client.post("/collections", {"name": "c", "vector_dim": 2, "payload_schema": schema})
    assert made.status == 201
    body = {"filter": {"must": [{"field": "raw.x", "match": 1}]}} | ({"vector": [1, 2]} if path == "search" else {})
    where = ["filter", "must", 0, "field"]
    says = "payload_schema says that 'raw' is not indexed"
    await client.refused(
        "POST", f"/collections/c/{path}", body, status=422, code="field_not_indexed", loc=where, says=says
    )
