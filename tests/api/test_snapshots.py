"""Snapshots over HTTP."""

from __future__ import annotations

from tests.api.conftest import Client

PATH = "/collections/c/snapshots"


async def _filled(client: Client) -> None:
    await client.call("POST", "/collections", {"name": "c", "vector_dim": 2, "distance": "Euclidean"})
    await _upsert(client, a=[1, 0], b=[0, 1])


async def _upsert(client: Client, **points: list[float]) -> None:
    body = {"vectors": [{"id": id_, "vector": vector} for id_, vector in points.items()]}
    assert (await client.call("POST", "/collections/c/vectors", body)).status == 200


async def test_a_snapshot_is_made_listed_read_reverted_to_and_dropped(client: Client) -> None:
    await _filled(client)
    made = await client.call("POST", PATH, {"name": "first"})
    assert (made.status, made.body["name"], made.body["lsn"], made.body["vector_count"]) == (201, "first", 1, 2)
    assert made.body["created_at"].endswith("Z")
    await _upsert(client, a=[5, 5], c=[9, 9])
    listed = await client.get(PATH)
    assert (listed.status, listed.body) == (200, {"collection": "c", "snapshots": [made.body], "count": 1})

    as_of = {"as_of": "first"}
    found = await client.call("POST", "/collections/c/search", {"vector": [5, 5], "top_k": 9, **as_of})
    assert sorted(hit["id"] for hit in found.body["results"]) == ["a", "b"]
    batch = await client.call("POST", "/collections/c/batch-search", {"queries": [{"vector": [5, 5]}], **as_of})
    assert batch.body["results"][0]["count"] == 2
    assert (await client.call("POST", "/collections/c/count", as_of)).body["count"] == 2
    assert len((await client.call("POST", "/collections/c/scroll", as_of)).body["points"]) == 2
    got = await client.call("POST", "/collections/c/vectors/get", {"ids": ["a", "c"], **as_of})
    assert [point and point["vector"] for point in got.body["points"]] == [[1, 0], None]
    assert (await client.get("/collections/c/vectors/a?as_of=first")).body["vector"] == [1, 0]
    assert (await client.get("/collections/c/vectors/c?as_of=first")).status == 404

    done = await client.call("POST", f"{PATH}/first/revert")
    assert (done.status, done.body) == (200, {"collection": "c", "lsn": 3, "before": "before-revert-3"})
    assert "X-AkiDB-Token" in done.headers
    assert (await client.call("POST", "/collections/c/count", {})).body["count"] == 2
    assert (await client.call("POST", "/collections/c/count", {"as_of": done.body["before"]})).body["count"] == 3
    assert (await client.call("DELETE", f"{PATH}/first")).status == 204
    assert [kept["name"] for kept in (await client.get(PATH)).body["snapshots"]] == ["before-revert-3"]


async def test_problems_are_told(client: Client) -> None:
    await _filled(client)
    await client.call("POST", PATH, {"name": "first"})
    for method, path, body, status, code in (
        ("POST", PATH, {"name": "first"}, 409, "snapshot_exists"),
        ("POST", PATH, {"name": "a/b"}, 422, "invalid_snapshot"),
        ("POST", PATH, {}, 422, "missing_field"),
        ("POST", PATH, {"name": 3}, 422, "invalid_body"),
        ("POST", "/collections/none/snapshots", {"name": "x"}, 404, "collection_not_found"),
        ("DELETE", f"{PATH}/none", None, 404, "snapshot_not_found"),
        ("POST", f"{PATH}/none/revert", None, 404, "snapshot_not_found"),
        ("POST", f"{PATH}/%2e%2e%2f/revert", None, 404, "snapshot_not_found"),
        ("POST", "/collections/c/count", {"as_of": "none"}, 404, "snapshot_not_found"),
        ("POST", "/collections/c/count", {"as_of": 3}, 422, "invalid_body"),
        ("GET", "/collections/c/vectors/a?as_of=none", None, 404, "snapshot_not_found"),
    ):
        answer = await client.call(method, path, body)
        assert (answer.status, answer.code) == (status, code), (method, path, body)
    assert (await client.get(PATH)).body["count"] == 1
