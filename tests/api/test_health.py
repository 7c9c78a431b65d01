import pytest

from akidb.config.settings import Storage
from akidb.errors import UnavailableError
from tests.api.conftest import settings, start
from tests.unit.stores import refuse_writing


async def test_live_ready_and_healthy(client):
    assert (await client.get("/health/live")).status == 200
    assert (await client.get("/health/ready")).body == {"status": "ready"}
    body = (await client.get("/health")).body
    assert body["uptime_seconds"] >= 0
    assert body | {"uptime_seconds": 0} == {
        "status": "healthy",
        "version": "1.2.3",
        "uptime_seconds": 0,
        "components": {
            "storage": {"status": "healthy", "message": "Storage backend operational"},
            "wal": {"status": "healthy", "message": "WAL operational"},
            "index": {"status": "healthy", "message": "Index provider operational"},
        },
    }


async def test_while_the_store_is_away_the_process_lives_but_is_not_ready(storeless):
    storeless.service.trouble = "connection refused"
    assert (await storeless.get("/health/live")).status == 200
    ready = await storeless.get("/health/ready")
    assert (ready.status, ready.code) == (503, "not_ready")
    assert ready.body["detail"] == "Storage backend not ready: connection refused"
    assert ready.headers["Retry-After"] == "1"
    assert (await storeless.get("/health/ready?for=read")).status == 503
    health = await storeless.get("/health")
    assert (health.status, health.body["status"]) == (503, "unhealthy")
    assert health.body["components"]["wal"]["message"] == "WAL not ready: connection refused"


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/collections"), ("POST", "/collections/a/search"), ("GET", "/collections/a")]
)
async def test_while_the_store_is_away_requests_are_told_to_come_back(storeless, method, path):
    answer = await storeless.call(method, path, {"vector": [1]} if method == "POST" else None)
    assert (answer.status, answer.code) == (503, "storage_unavailable")
    assert "Storage backend not ready" in answer.body["detail"]
    assert answer.headers["Retry-After"] == "1"


async def test_draining_is_seen_at_once_and_connections_are_let_go(client):
    client.service.draining = True
    answer = await client.get("/health/ready")
    assert (answer.status, answer.code) == (503, "not_ready")
    assert "shutting down" in answer.body["detail"]
    live = await client.get("/health/live")
    assert (live.status, live.headers["Connection"]) == (200, "close")
    assert (await client.get("/collections")).status == 200  # what is sent meanwhile is still answered


async def test_a_store_that_fails_later_is_named(client, monkeypatch):
    class Away:
        async def ready(self, *, for_read=False):
            return for_read

        async def health(self):
            return {"storage": "no route to host", "wal": "no route to host", "index": None}

        async def close(self):
            pass

    database = client.service.database
    monkeypatch.setattr(client.service, "database", Away())
    ready = await client.get("/health/ready")
    assert (ready.status, ready.body["detail"].split(";")[0]) == (503, "Storage backend not ready: no route to host")
    assert (await client.get("/health/ready?for=read")).status == 200
    assert (await client.get("/health")).status == 503
    monkeypatch.setattr(client.service, "database", database)


async def test_a_folder_that_becomes_read_only_takes_the_node_out_of_writes_until_it_is_mended(tmp_path, monkeypatch):
    async for client in start(settings(storage=Storage(data_dir=str(tmp_path)))):
        await client.post("/collections", {"name": "c", "vector_dim": 2})
        points = {"vectors": [{"id": "a", "vector": [1, 2]}]}
        with monkeypatch.context() as mounted:
            refuse_writing(mounted)
            assert (await client.get("/health/ready")).status == 200  # nobody wrote yet
            assert (await client.post("/collections/c/vectors", points)).status == 503
            ready = await client.get("/health/ready")
            assert ready.status == 503
            assert "Read-only file system" in ready.body["detail"]
            assert "AKIDB_DATA_DIR" in ready.body["detail"]
            assert (await client.get("/health/ready?for=read")).status == 200
            assert (await client.post("/collections/c/count")).body["count"] == 0
        assert (await client.get("/health/ready")).status == 200
        assert (await client.post("/collections/c/vectors", points)).status == 200


async def test_a_broken_index_only_degrades(client, monkeypatch):
    async def health():
        return {"storage": None, "wal": None, "index": "disk full"}

    monkeypatch.setattr(client.service.database, "health", health)
    answer = await client.get("/health")
    assert (answer.status, answer.body["status"]) == (200, "degraded")
    assert answer.body["components"]["index"] == {
        "status": "unhealthy",
        "message": "Index provider not ready: disk full",
    }


async def test_ready_for_something_else_is_refused(client):
    await client.refused("GET", "/health/ready?for=write", status=422, code="invalid_parameter", says="expected read")


async def test_a_store_that_goes_away_gives_503_with_retry_after(filled, monkeypatch):
    async def away(*_, **__):
        raise UnavailableError("the store does not answer", retry_after_secs=2.5)

    collection = await filled.service.database.collection("compass")
    monkeypatch.setattr(collection, "upsert", away)
    answer = await filled.refused(
        "POST", "/collections/compass/vectors", {"vectors": []},
        status=503, code="storage_unavailable", says="does not answer",
    )  # fmt: skip
    assert answer.headers["Retry-After"] == "3"
