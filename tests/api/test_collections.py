import pytest


async def test_create_describes_what_was_made_and_where(client):
    answer = await client.post(
        "/collections", {"name": "books", "vector_dim": 3, "distance": "Dot", "index": {"type": "hnsw", "m": 8}}
    )
    assert answer.status == 201
    assert answer.headers["Location"] == "/collections/books"
    assert answer.body["vector_dim"] == 3
    assert answer.body["distance"] == "Dot"
    assert answer.body["vector_count"] == 0
    assert answer.body["index"] == {
        "type": "hnsw", "m": 8, "ef_construction": 400, "ef_search": 200, "quantization": "auto",
        "state": "ready", "indexed": 0, "pending": 0,
    }  # fmt: skip
    assert answer.body["compaction"] == {"state": "idle", "segments": 0, "points": 0, "progress": 0.0}
    assert (await client.get("/collections/books")).body == answer.body


async def test_list_is_by_name(client):
    assert (await client.get("/collections")).body == {"collections": [], "count": 0, "unopened": []}
    for name in ("b", "a"):
        await client.post("/collections", {"name": name, "vector_dim": 2})
    body = (await client.get("/collections")).body
    assert ([entry["name"] for entry in body["collections"]], body["count"]) == (["a", "b"], 2)


async def test_get_counts_points_and_tells_how_far_the_log_is_known(filled):
    answer = await filled.get("/collections/compass")
    assert answer.body["vector_count"] == 3
    assert answer.body["lsn"] == 1
    assert answer.headers["X-AkiDB-Token"]
    session = f"session:{answer.headers['X-AkiDB-Token']}"
    for weaker in ("eventual", session, "bounded_ms:100000"):
        assert (await filled.get(f"/collections/compass?consistency={weaker}")).body == answer.body
    await filled.post("/collections", {"name": "other", "vector_dim": 2})
    assert (await filled.get(f"/collections?consistency={session}")).body["count"] == 2


async def test_delete_takes_the_collection_and_frees_its_name(filled):
    assert (await filled.call("DELETE", "/collections/compass")).status == 204
    await filled.refused(
        "GET", "/collections/compass", status=404, code="collection_not_found", says="no collection 'compass'"
    )
    await filled.refused(
        "DELETE", "/collections/compass", status=404, code="collection_not_found", says="no collection 'compass'"
    )
    again = await filled.post("/collections", {"name": "compass", "vector_dim": 5})
    assert (again.status, again.body["vector_count"]) == (201, 0)


async def test_payload_schema_comes_back(client):
    schema = {"title": {"type": "keyword", "index": False}}
    await client.post("/collections", {"name": "books", "vector_dim": 2, "payload_schema": schema})
    assert (await client.get("/collections/books")).body["payload_schema"] == schema


async def test_an_existing_name_is_a_conflict(filled):
    await filled.refused(
        "POST",
        "/collections",
        {"name": "compass", "vector_dim": 9},
        status=409,
        code="collection_exists",
        says="'compass' exists",
    )


@pytest.mark.parametrize("name", ["", "a b", "../x", ".hidden", "-x", "ä", "a/b", "x" * 256, "a\n", "a\u0000"])
async def test_bad_names(client, name):
    await client.refused(
        "POST", "/collections", {"name": name, "vector_dim": 2},
        status=422, code="invalid_collection", says="expected 1 to 255 characters", loc=["name"],
    )  # fmt: skip


async def test_names_at_the_edges_of_what_is_allowed(client):
    for name in ("x" * 255, "0", "A.b_c-1"):
        assert (await client.post("/collections", {"name": name, "vector_dim": 2})).status == 201
        assert (await client.get(f"/collections/{name}")).status == 200


@pytest.mark.parametrize(
    ("change", "loc", "says"),
    [
        ({"vector_dim": 0}, ["vector_dim"], "expected an integer from 1 to 4096"),
        ({"vector_dim": 4097}, ["vector_dim"], "expected an integer from 1 to 4096"),
        ({"replication": 2}, ["replication"], "is 2, expected 1"),
        ({"shard_count": 257}, ["shard_count"], "is 257, expected an integer from 1 to 256"),
        ({"index": {"m": 1}}, ["index", "m"], "is 1, expected"),
        ({"index": {"ef_construction": 0}}, ["index", "ef_construction"], "is 0, expected"),
        ({"index": {"ef_search": 10**9}}, ["index", "ef_search"], "expected"),
        ({"index": {"quantization": "pq"}}, ["index", "quantization"], "is 'pq', expected auto, none, sq4 or sq8"),
    ],
)
async def test_values_that_cannot_be(client, change, loc, says):
    await client.refused(
        "POST", "/collections", {"name": "a", "vector_dim": 2} | change,
        status=422, code="invalid_collection", says=says, loc=loc,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("body", "code", "loc", "says"),
    [
        ({"name": "a"}, "missing_field", ["vector_dim"], "missing required field `vector_dim`"),
        ({"name": "a", "vector_dim": 2, "dim": 2}, "unknown_field", ["dim"], "unknown field `dim`"),
        ({"name": "a", "vector_dim": 2, "index": {"M": 2}}, "unknown_field", ["index", "M"], "unknown field `M`"),
        ({"name": 1, "vector_dim": 2}, "invalid_body", ["name"], "expected `str`, got `int`"),
        ({"name": "a", "vector_dim": "2"}, "invalid_body", ["vector_dim"], "expected `int`, got `str`"),
        ({"name": "a", "vector_dim": True}, "invalid_body", ["vector_dim"], "expected `int`, got `bool`"),
        ({"name": "a", "vector_dim": 2.5}, "invalid_body", ["vector_dim"], "expected `int`, got `float`"),
        (
            {"name": "a", "vector_dim": 2, "distance": "cosine"},
            "invalid_body",
            ["distance"],
            "is 'cosine', expected Cosine, Euclidean or Dot",
        ),
        (
            {"name": "a", "vector_dim": 2, "index": {"type": "ivf"}},
            "invalid_collection",
            ["index", "type"],
            "is 'ivf', expected auto, hnsw or flat",
        ),
        ({"name": "a", "vector_dim": 2, "payload_schema": {"x": "number"}}, "invalid_payload_schema", None, "number"),
        ([], "invalid_body", [], "expected `object`, got `array`"),
    ],
)
async def test_bodies_of_the_wrong_shape(client, body, code, loc, says):
    await client.refused("POST", "/collections", body, status=422, code=code, says=says, loc=loc)


@pytest.mark.parametrize("query", ["consistency=none", "consistency=session:x", "consistency=bounded_ms:-1"])
async def test_an_unknown_consistency_is_refused(filled, query):
    code = "invalid_token" if "session" in query else "invalid_consistency"
    await filled.refused("GET", f"/collections/compass?{query}", status=422, code=code, says="consistency: is")


async def test_index_state(filled):
    answer = await filled.get("/collections/compass/index?wait_ms=1000")
    assert answer.body["collection"] == "compass"
    assert answer.body["index"]["state"] == "ready"
    assert answer.body["index"]["pending"] == 0
    await filled.refused(
        "GET",
        "/collections/compass/index?wait_ms=1e3",
        status=422,
        code="invalid_parameter",
        says="expected an integer",
    )
    await filled.refused(
        "GET", "/collections/none/index", status=404, code="collection_not_found", says="no collection 'none'"
    )


async def test_patch_changes_index_parameters_and_rebuilds(filled):
    answer = await filled.call("PATCH", "/collections/compass", {"index": {"ef_search": 64, "quantization": "sq8"}})
    assert answer.status == 200
    assert (answer.body["index"]["ef_search"], answer.body["index"]["quantization"]) == (64, "sq8")
    assert (answer.body["index"]["m"], answer.body["vector_count"]) == (16, 3)
    assert (await filled.get("/collections/compass")).body == answer.body


@pytest.mark.parametrize(
    ("body", "status", "loc"),
    [
        ({}, 422, ["index"]),
        ({"index": {}}, 422, ["index"]),
        ({"index": {"m": 1}}, 422, ["index", "m"]),
        ({"index": {"type": "ivf"}}, 422, ["index", "type"]),
        ({"index": {"quantization": "pq"}}, 422, ["index", "quantization"]),
        ({"index": {"metric": "Dot"}}, 422, ["index", "metric"]),
        ({"vector_dim": 4}, 422, ["vector_dim"]),
    ],
)
async def test_a_patch_that_cannot_be_is_refused_and_changes_nothing(filled, body, status, loc):
    before = (await filled.get("/collections/compass")).body
    answer = await filled.call("PATCH", "/collections/compass", body)
    assert (answer.status, answer.body["errors"][0]["loc"]) == (status, loc)
    assert (await filled.get("/collections/compass")).body == before
    assert (await filled.call("PATCH", "/collections/nothing", {"index": {"m": 8}})).status == 404


async def test_a_collection_of_several_shards_answers_as_one(client):
    made = await client.post("/collections", {"name": "spread", "vector_dim": 2, "shard_count": 3})
    assert (made.status, made.body["shard_count"]) == (201, 3)
    vectors = "/collections/spread/vectors"
    points = [{"id": n, "vector": [n + 1, 1], "payload": {"odd": n % 2}} for n in range(20)]
    written = await client.post(vectors, {"vectors": points})
    assert written.body == {"collection": "spread", "upserted": 20, "lsn": 1}
    nearest = (await client.post("/collections/spread/search", {"vector": [1, 0], "top_k": 3})).body["results"]
    assert [hit["id"] for hit in nearest] == ["19", "18", "17"]
    page = (await client.post("/collections/spread/scroll", {"limit": 4})).body
    assert [point["id"] for point in page["points"]] == ["0", "1", "10", "11"]
    assert (await client.get("/collections/spread")).body["vector_count"] == 20
    filtered = {"filter": {"field": "odd", "match": 1}}
    assert (await client.post("/collections/spread/count", filtered)).body["count"] == 10
    assert (await client.post(f"{vectors}/delete", filtered)).body["deleted"] == 10
    session = {"session": written.headers["X-AkiDB-Token"]}
    assert (await client.post("/collections/spread/count", {"consistency": session})).body["count"] == 10
    assert (await client.call("DELETE", "/collections/spread")).status == 204


async def test_a_batch_that_some_shards_refuse_names_them(client):
    await client.post("/collections", {"name": "spread", "vector_dim": 2, "shard_count": 3})
    vectors = "/collections/spread/vectors"
    await client.post(vectors, {"vectors": [{"id": "1", "vector": [1, 1]}]})
    points = [{"id": n, "vector": [1, 1], "if_version": 0} for n in range(12)]
    answer = await client.post(vectors, {"vectors": points})
    assert (answer.status, answer.code) == (409, "partially_written")
    assert answer.body["errors"] == [
        {"loc": ["vectors", 1, "if_version"], "msg": "point '1' has version 1, expected none"}
    ]
    assert [(part["status"], part.get("lsn"), part.get("code")) for part in answer.body["shards"]] == [
        (409, None, "point_exists"), (200, 1, None), (200, 1, None),
    ]  # fmt: skip
    assert answer.body["shards"][0]["detail"].startswith("vectors.1.if_version: point '1' has version 1")
    again = await client.post(vectors, {"vectors": points[1:2]})
    assert (again.status, again.code) == (409, "point_exists")


async def test_creating_and_deleting_under_a_key_is_done_once(client):
    body = {"name": "books", "vector_dim": 3}
    made = await client.call("POST", "/collections", body, Idempotency_Key="made")
    assert made.status == 201
    assert (await client.call("POST", "/collections", body, Idempotency_Key="made")).status == 201
    assert (await client.call("POST", "/collections", body, Idempotency_Key="other")).code == "collection_exists"
    for _ in range(2):
        assert (await client.call("DELETE", "/collections/books", Idempotency_Key="gone")).status == 204
    gone = await client.call("POST", "/collections", body, Idempotency_Key="made")
    assert (gone.status, gone.code) == (404, "collection_not_found")
    assert (await client.call("POST", "/collections", body)).status == 201
    assert (await client.call("DELETE", "/collections/books", Idempotency_Key="gone")).status == 204
    assert (await client.get("/collections/books")).status == 200
