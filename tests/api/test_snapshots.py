"""Snapshots over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from akidb.collection.shard_snapshots import ShardSnapshots
from akidb.errors import UnavailableError
from akidb.manifest import Pin
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
    created = made.body["created_at"]
    assert (await client.get(f"/collections/c/vectors/a?as_of={created}")).body["vector"] == [1, 0]
    assert (await client.call("POST", "/collections/c/count", {"as_of": created})).body["count"] == 2

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


async def test_a_snapshot_of_several_shards_is_one(client: Client) -> None:
    made = {"name": "c", "vector_dim": 2, "distance": "Euclidean", "shard_count": 3}
    await client.call("POST", "/collections", made)
    await _upsert(client, **{f"p{n}": [n, 0] for n in range(12)})
    made = await client.call("POST", PATH, {"name": "first"})
    assert (made.status, made.body["vector_count"], made.body["complete"]) == (201, 12, True)
    await _upsert(client, **{f"p{n}": [9, 9] for n in range(6, 18)})
    assert (await client.get("/collections/c/vectors/p7?as_of=first")).body["vector"] == [7, 0]
    done = [await client.call("POST", f"{PATH}/first/revert", Idempotency_Key="k") for _ in range(2)]
    assert [answer.status for answer in done] == [200, 200]
    assert done[0].body == done[1].body
    assert (await client.call("POST", "/collections/c/count", {})).body["count"] == 12
    assert (await client.call("POST", "/collections/c/count", {"as_of": done[0].body["before"]})).body["count"] == 18
    clone = await client.call("POST", "/collections/c/clone", {"name": "d", "as_of": done[0].body["before"]})
    assert (clone.status, clone.body["vector_count"]) == (201, 18)
    listed = (await client.get(PATH)).body["snapshots"]
    assert [(kept["name"], kept["complete"]) for kept in listed] == [("first", True), (done[0].body["before"], True)]
    assert (await client.call("DELETE", f"{PATH}/first")).status == 204


async def test_a_snapshot_that_a_shard_has_no_part_of_is_a_problem(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {"name": "c", "vector_dim": 2, "distance": "Euclidean", "shard_count": 3}
    await client.call("POST", "/collections", made)
    create = ShardSnapshots.create

    async def fails(self: ShardSnapshots, *arguments: Any) -> Pin:
        if self._shard.prefix.endswith("/0001"):
            raise UnavailableError("away", retry_after_secs=3)
        return await create(self, *arguments)

    monkeypatch.setattr(ShardSnapshots, "create", fails)
    answer = await client.call("POST", PATH, {"name": "first"})
    assert (answer.status, answer.code, answer.headers["Retry-After"]) == (503, "partially_written", "3")
    assert [(part["shard"], part["status"]) for part in answer.body["shards"]] == [(0, 200), (1, 503), (2, 200)]
    monkeypatch.undo()
    (listed,) = (await client.get(PATH)).body["snapshots"]
    assert (listed["name"], listed["complete"]) == ("first", False)
    for method, path, body, status, code in (
        ("POST", PATH, {"name": "first"}, 409, "snapshot_exists"),
        ("POST", f"{PATH}/first/revert", None, 404, "snapshot_not_found"),
        ("POST", "/collections/c/count", {"as_of": "first"}, 404, "snapshot_not_found"),
    ):
        answer = await client.call(method, path, body)
        assert (answer.status, answer.code) == (status, code), (method, path, body)
    assert (await client.call("DELETE", f"{PATH}/first")).status == 204
    assert (await client.call("POST", PATH, {"name": "first"})).status == 201
