"""A collection that can't be opened, as an object that opening needs is damaged: told, and in nobody else's way."""

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from akidb.api.routes import collections
from akidb.client.database import RemoteDatabase
from akidb.collection import Collection, Shard
from akidb.config.settings import Storage
from akidb.connection.embedded import EmbeddedDatabase
from akidb.database import Database, unopened
from akidb.errors import (
    ConfigurationError,
    CorruptionError,
    DeadlineExceededError,
    InvalidInputError,
    NotFoundError,
    UnavailableError,
)
from akidb.storage import open_store
from akidb.storage.local import LocalStore
from akidb.storage.object_store import Reply
from akidb.types import CollectionInfo
from tests.api.conftest import Client, settings, start


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What can't be opened is tried again by every request."""
    monkeypatch.setattr(unopened, "RETRY_SECS_MIN", 0.0)


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    async for running in start(settings(storage=Storage(data_dir=str(tmp_path)))):
        yield running


async def _reopened(client: Client) -> Database:
    old, chosen = client.service.database, client.service.settings
    assert old is not None
    await old.close()
    client.service.database = await Database.open(open_store(chosen), chosen)
    return client.service.database


async def _damaged(client: Client, folder: Path) -> tuple[Path, bytes]:
    """A segment of collection `bad`, of two shards, which is cut short, and what it was; beside `good`."""
    for name in ("bad", "good"):
        await client.post("/collections", {"name": name, "vector_dim": 2, "shard_count": 2})
        points = [{"id": str(number), "vector": [1, number]} for number in range(8)]
        await client.post(f"/collections/{name}/vectors", {"vectors": points})
        if name == "bad":
            await client.post("/collections/bad/snapshots", {"name": "folds"})
    return _cut_short(folder)


def _cut_short(folder: Path) -> tuple[Path, bytes]:
    segment, _ = sorted(folder.rglob("seg/*"))
    whole = segment.read_bytes()
    segment.write_bytes(whole[:100])
    return segment, whole


async def test_it_is_listed_beside_the_others_and_degrades_health_until_it_is_whole(client, tmp_path):
    segment, whole = await _damaged(client, tmp_path)
    await _reopened(client)
    assert (await client.get("/health")).body["status"] == "healthy"  # nobody asked for it yet
    listed = await client.get("/collections")
    assert (listed.status, listed.body["count"]) == (200, 1)
    assert [each["name"] for each in listed.body["collections"]] == ["good"]
    (unopened,) = listed.body["unopened"]
    assert (unopened["name"], unopened["code"]) == ("bad", "data_corruption")
    assert segment.name in unopened["detail"]
    health = (await client.get("/health")).body
    assert health["status"] == "degraded"
    assert "collection bad can't be opened: object" in health["components"]["index"]["message"]
    assert (await client.post("/collections/bad/count")).code == "data_corruption"
    assert (await client.post("/collections/good/count")).body["count"] == 8

    segment.write_bytes(whole)
    assert (await client.post("/collections/bad/count")).body["count"] == 8
    assert (await client.get("/health")).body["status"] == "healthy"
    listed = await client.get("/collections")
    assert (listed.body["count"], listed.body["unopened"]) == (2, [])


async def test_one_that_does_not_answer_now_is_in_nobody_elses_way(client, monkeypatch):
    for name in ("cold", "good"):
        await client.post("/collections", {"name": name, "vector_dim": 2})
    info, failing, failure = Collection.info, {"cold"}, DeadlineExceededError("it is still fetched", code="warming")

    async def fail(self: Collection, **how: Any) -> CollectionInfo:
        assert how["deadline"] <= time.monotonic() + collections.LISTING_SECS
        if self.spec.name in failing:
            raise failure
        return await info(self, **how)

    monkeypatch.setattr(Collection, "info", fail)
    listed = (await client.get("/collections")).body
    assert [each["name"] for each in listed["collections"]] == ["good"]
    assert listed["unopened"] == [{"name": "cold", "code": "warming", "detail": "it is still fetched"}]
    failing.add("good")
    assert [each["name"] for each in (await client.get("/collections")).body["unopened"]] == ["cold", "good"]
    failure = UnavailableError("it is away")  # none is answered for, so it is the store
    assert (await client.get("/collections")).code == "storage_unavailable"
    failing, failure = {"cold"}, InvalidInputError("of another collection", code="invalid_token")
    assert (await client.get("/collections")).code == "invalid_token"


async def test_one_whose_objects_are_denied_is_in_nobody_elses_way(client, monkeypatch):
    for name in ("denied", "good"):
        await client.post("/collections", {"name": name, "vector_dim": 2})
    database = await _reopened(client)
    denied, get = database._catalogue.collections["denied"].uuid, LocalStore.get

    async def refuse(self: LocalStore, key: str, **how: Any) -> Reply:
        if str(denied) in key:
            raise ConfigurationError("permission denied")
        return await get(self, key, **how)

    monkeypatch.setattr(LocalStore, "get", refuse)
    listed = (await client.get("/collections")).body
    assert [each["name"] for each in listed["collections"]] == ["good"]
    assert [(each["name"], each["code"]) for each in listed["unopened"]] == [("denied", "configuration")]
    assert await EmbeddedDatabase(database, client.service.settings).list_collections() == ["denied", "good"]


async def test_whoever_polls_does_not_have_it_read_again_and_again(client, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(unopened, "RETRY_SECS_MIN", 60.0)
    segment, whole = await _damaged(client, tmp_path)
    await _reopened(client)
    for _ in range(5):
        assert (await client.post("/collections/bad/count")).code == "data_corruption"
        assert [each["name"] for each in (await client.get("/collections")).body["unopened"]] == ["bad"]
    told = [record.message for record in caplog.records if "collection bad can't be opened" in record.message]
    assert len(told) == 2  # the second try is at once
    assert segment.name in told[0]
    monkeypatch.setattr(unopened.time, "monotonic", lambda now=time.monotonic: now() + 61)
    segment.write_bytes(whole)
    assert (await client.post("/collections/bad/count")).body["count"] == 8


async def test_its_name_is_listed_to_python(client, tmp_path):
    await _damaged(client, tmp_path)
    database = await _reopened(client)
    embedded = EmbeddedDatabase(database, replace(client.service.settings))
    assert await embedded.list_collections() == ["bad", "good"]


async def test_its_other_shards_are_closed_again(client, tmp_path, monkeypatch):
    await _damaged(client, tmp_path)
    await _reopened(client)
    closed = []

    async def close(shard: Shard) -> None:
        closed.append(shard)
        await whole_close(shard)

    whole_close = Shard.close
    monkeypatch.setattr(Shard, "close", close)
    assert (await client.post("/collections/bad/count")).status == 503
    assert len(closed) % 2 == 0  # opening may be tried more than once for one request
    assert closed


@pytest.mark.parametrize("dropped_before", [False, True])
async def test_a_node_that_can_not_open_it_can_drop_it(client, tmp_path, dropped_before):
    await _damaged(client, tmp_path)
    chosen = client.service.settings
    holder = client.service.database
    held = await holder.collection("bad")
    client.service.database = await Database.open(open_store(chosen), chosen)
    assert (await client.post("/collections/bad/count")).code == "data_corruption"
    if dropped_before:  # by a node that died half-way
        await held.writers[0].seal(time.monotonic() + 30)
    assert (await client.call("DELETE", "/collections/bad")).status == 204
    assert (await client.call("DELETE", "/collections/bad")).code == "collection_not_found"
    assert (await client.get("/collections")).body["unopened"] == []
    assert [path for path in tmp_path.rglob("seg/*") if str(held.uuid) in str(path)] == []
    with pytest.raises(NotFoundError):
        await held.upsert(["9"], [[1, 9]])
    await holder.close()
    points = {"vectors": [{"id": "new", "vector": [1, 1]}]}
    assert (await client.post("/collections", {"name": "bad", "vector_dim": 2})).status == 201
    assert (await client.post("/collections/bad/vectors", points)).status == 200
    assert (await client.post("/collections/bad/count")).body["count"] == 1


async def test_what_hides_where_the_log_ends_is_to_be_put_back_before_a_drop(client, tmp_path):
    await _damaged(client, tmp_path)
    database = await _reopened(client)
    head, _ = sorted(
        path for path in tmp_path.rglob("head") if str(database._catalogue.collections["bad"].uuid) in str(path)
    )
    whole = head.read_bytes()
    head.write_bytes(whole[:-1])
    assert (await client.call("DELETE", "/collections/bad")).code == "data_corruption"
    head.write_bytes(whole)
    assert (await client.call("DELETE", "/collections/bad")).status == 204


async def test_what_is_damaged_is_looked_for_once_a_request(client, tmp_path, monkeypatch):
    await _damaged(client, tmp_path)
    database = await _reopened(client)
    tried = []

    async def opening(shard: Shard) -> None:
        tried.append(shard)
        await whole_open(shard)

    whole_open = Shard.open
    monkeypatch.setattr(Shard, "open", opening)
    with pytest.raises(CorruptionError):
        await database.collection("bad")
    assert len(tried) == 2


@pytest.mark.parametrize("open_before", [False, True])
async def test_one_that_lost_a_slot_of_its_log_hides_nothing_else_until_it_is_back(client, tmp_path, open_before):
    for name in ("holed", "good"):
        await client.post("/collections", {"name": name, "vector_dim": 2})
    node = await Database.open(open_store(client.service.settings), client.service.settings)
    if open_before:  # and behind what the other node writes
        await (await node.collection("holed")).count()
    for name in ("holed", "good"):
        for number in range(3):
            await client.post(f"/collections/{name}/vectors", {"vectors": [{"id": str(number), "vector": [1, number]}]})
    assert client.service.database is not None
    uuid = (await client.service.database.collection("holed")).uuid
    await client.service.database.close()
    client.service.database = node
    (slot,) = tmp_path.rglob(f"c/{uuid}/*/wal/*/*2")
    slot.rename(tmp_path / "aside")

    listed = await client.get("/collections")
    assert (listed.status, [each["name"] for each in listed.body["collections"]]) == (200, ["good"])
    (unopened,) = listed.body["unopened"]
    assert (unopened["name"], unopened["code"]) == ("holed", "missing_slot")
    assert slot.name in unopened["detail"]
    health = await client.get("/health")
    assert (health.status, health.body["status"]) == (200, "degraded")
    assert "collection holed: object" in health.body["components"]["index"]["message"]
    assert (await client.get("/collections/holed")).code == "missing_slot"
    assert await EmbeddedDatabase(node, client.service.settings).list_collections() == ["good", "holed"]
    async with await RemoteDatabase.connect(client.base) as remote:
        assert await remote.list_collections() == ["good", "holed"]

    (tmp_path / "aside").rename(slot)
    assert (await client.post("/collections/holed/count")).body["count"] == 3
    assert (await client.get("/health")).body["status"] == "healthy"
    assert (await client.get("/collections")).body["unopened"] == []


async def test_a_write_that_meets_a_lost_slot_degrades_health(client, tmp_path):
    await client.post("/collections", {"name": "holed", "vector_dim": 2})
    point = {"vectors": [{"id": "1", "vector": [1, 1]}]}
    for _ in range(3):
        await client.post("/collections/holed/vectors", point)
    (slot,) = tmp_path.rglob("c/*/*/wal/*/*2")
    await _reopened(client)
    slot.unlink()
    assert (await client.post("/collections/holed/vectors", point)).code == "missing_slot"
    assert "collection holed" in (await client.get("/health")).body["components"]["index"]["message"]
