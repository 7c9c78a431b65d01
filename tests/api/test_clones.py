"""Clones over HTTP."""

from __future__ import annotations

from tests.api.conftest import Client

PATH = "/collections/c/clone"


async def _filled(client: Client, shards: int = 1) -> None:
    made = {"name": "c", "vector_dim": 2, "distance": "Euclidean", "shard_count": shards, "index": {"m": 8}}
    await client.post("/collections", made)
    body = {"vectors": [{"id": id_, "vector": [1, 0], "payload": {"of": id_}} for id_ in "abcd"]}
    assert (await client.post("/collections/c/vectors", body)).status == 200


async def test_a_clone_is_described_and_goes_its_own_way(client: Client) -> None:
    await _filled(client, shards=2)
    made = await client.post(PATH, {"name": "trial"})
    origin = await client.get("/collections/c")
    assert (made.status, made.headers["Location"]) == (201, "/collections/trial")
    assert made.headers["X-AkiDB-Token"]
    same = ("vector_dim", "distance", "vector_count", "shard_count", "lsn", "index")
    assert {name: made.body[name] for name in same} == {name: origin.body[name] for name in same}
    assert (await client.call("DELETE", "/collections/trial/vectors/a")).status == 204
    assert (await client.call("DELETE", "/collections/c")).status == 204
    got = await client.post("/collections/trial/vectors/get", {"ids": ["a", "b"]})
    assert [point and point["payload"] for point in got.body["points"]] == [None, {"of": "b"}]
    assert (await client.post("/collections/trial/search", {"vector": [1, 0]})).body["count"] == 3


async def test_a_clone_under_a_key_is_made_once(client: Client) -> None:
    await _filled(client)
    made = [await client.post(PATH, {"name": "trial"}, Idempotency_Key="k") for _ in range(2)]
    assert [answer.status for answer in made] == [201, 201]
    assert made[0].body == made[1].body
    other = await client.post(PATH, {"name": "other"}, Idempotency_Key="k")
    assert (other.status, other.code) == (422, "idempotency_key_reused")
    assert (await client.get("/collections")).body["count"] == 2


async def test_problems_are_told(client: Client) -> None:
    await _filled(client)
    for path, body, status, code in (
        (PATH, {"name": "c"}, 409, "collection_exists"),
        (PATH, {"name": "a/b"}, 422, "invalid_collection"),
        (PATH, {"name": "x", "as_of": "none"}, 404, "snapshot_not_found"),
        (PATH, {"name": "x", "as_of": 3}, 422, "invalid_body"),
        (PATH, {"name": "x", "vector_dim": 3}, 422, "unknown_field"),
        (PATH, {}, 422, "missing_field"),
        ("/collections/none/clone", {"name": "x"}, 404, "collection_not_found"),
    ):
        answer = await client.post(path, body)
        assert (answer.status, answer.code) == (status, code), (path, body)
    assert (await client.get("/collections")).body["count"] == 1
