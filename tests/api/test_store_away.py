"""The service while its store is away: behind a proxy that fails, over a real server."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from akidb.api import server
from akidb.config import Settings
from akidb.config.settings import CircuitBreaker, Retry
from akidb.database import catalogue_log, readiness
from akidb.telemetry.metrics import METRICS
from tests.api.conftest import Client, start
from tests.proxy import FaultProxy, faulty
from tests.servers import S3Server

pytestmark = pytest.mark.s3

POINTS = [{"id": str(n), "vector": [1.0, float(n)]} for n in range(5)]
SEARCH = {"vector": [1.0, 0.0], "top_k": 10, "timeout_ms": 20_000}
EVENTUAL = SEARCH | {"consistency": "eventual"}


@pytest.fixture
async def proxy(minio: S3Server) -> AsyncIterator[FaultProxy]:
    async with faulty(minio.endpoint) as made:
        yield made


@pytest.fixture
def behind(proxy: FaultProxy, minio: S3Server, tmp_path: Path) -> Settings:
    """Settings through the proxy, with a breaker that is not patient and pauses that are short."""
    settings = minio.settings(tmp_path / "cache")
    storage = replace(
        settings.storage,
        s3_endpoint=proxy.endpoint,
        s3_bucket=f"test-{uuid.uuid4()}",
        circuit_breaker=CircuitBreaker(recovery_timeout_secs=4),
        retry=Retry(initial_backoff_ms=1, max_backoff_ms=20),
    )
    # Less than the breaker's time, as by default: nobody waits for an outcome that can't be had in time.
    return replace(settings, storage=storage, api=replace(settings.api, write_timeout_ms=3500))


@pytest.fixture
async def client(behind: Settings) -> AsyncIterator[Client]:
    async for running in start(behind):
        assert (await running.post("/collections", {"name": "c", "vector_dim": 2})).status == 201
        assert (await running.post("/collections/c/vectors", {"vectors": POINTS})).status == 200
        yield running


async def _until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while not await condition():  # noqa: ASYNC110  what it is about has no event for it
            await asyncio.sleep(0.02)


async def _until_ready(client: Client) -> None:
    """As a load balancer looks, and sends nothing else."""

    async def ready() -> bool:
        return (await client.get("/health/ready")).status == 200

    await _until(ready)


async def _until_refused(client: Client, method: str, path: str, body: Any = None) -> None:
    """Asks until the breaker has seen enough."""
    async with asyncio.timeout(30):
        while (answer := await client.call(method, path, body)).body.get("code") != "circuit_open":
            assert answer.status in (503, 504), answer.body
    assert answer.status == 503
    assert int(answer.headers["Retry-After"]) >= 1


def _breaker(backend: str) -> float | None:
    return METRICS.registry.get_sample_value("akidb_circuit_breaker_state", {"backend": backend})


async def test_reads_of_what_is_here_go_on_all_else_fails_fast_and_all_heals(
    client: Client, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "PROBE_EVERY_SECS", 0.0)
    proxy.refuse()
    late = {"vectors": [{"id": "late", "vector": [1, 1]}]}
    await _until_refused(client, "POST", "/collections/c/vectors", late)
    await _until_refused(client, "POST", "/collections/c/search", SEARCH)
    await _until_refused(client, "GET", "/collections")
    assert _breaker("s3-read") == 1
    for consistency in ("eventual", {"bounded_ms": 600_000}):
        answer = await client.post("/collections/c/search", SEARCH | {"consistency": consistency})
        assert (answer.status, answer.body["count"]) == (200, 5)
    ready = await client.get("/health/ready")
    assert (ready.status, ready.code) == (503, "not_ready")
    assert ready.body["detail"].startswith("Storage backend not ready: ")
    assert (await client.get("/health/ready?for=read")).status == 200
    assert (await client.get("/health")).status == 503
    assert (await client.get("/health/live")).status == 200
    proxy.heal()
    await _until_ready(client)
    assert (_breaker("s3-read"), _breaker("s3-write")) == (0, 0)
    assert (await client.post("/collections/c/vectors", {"vectors": [{"id": "5", "vector": [1, 5]}]})).status == 200
    found = {hit["id"] for hit in (await client.post("/collections/c/search", SEARCH)).body["results"]}
    assert found - {"late"} == {"0", "1", "2", "3", "4", "5"}
    assert (await client.post("/collections", {"name": "d", "vector_dim": 2})).status == 201


async def test_a_store_that_hangs_holds_up_no_request_about_collections(
    client: Client, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue_log, "FOLLOW_TIMEOUT_SECS", 0.2)
    proxy.hang()
    async with asyncio.timeout(9):  # less than one request to the store may take
        for method, body in (("GET", None), ("POST", {"name": "d", "vector_dim": 2}), ("GET", None)):
            answer = await client.call(method, "/collections", body)
            assert (answer.status, answer.code) == (503, "storage_unavailable")
            assert "which collections there are" in answer.body["detail"]
        assert (await client.post("/collections/c/search", EVENTUAL)).status == 200
        gone = await client.call("DELETE", "/collections/c")
        assert (gone.status, gone.code) == (503, "storage_unavailable")
    proxy.heal()
    await _until_ready(client)
    assert [one["name"] for one in (await client.get("/collections")).body["collections"]] == ["c"]


async def test_a_write_whose_answer_is_lost_is_there_once(client: Client, proxy: FaultProxy) -> None:
    def ambiguous() -> float:
        labels = {"operation": "append", "status": "ambiguous"}
        return METRICS.registry.get_sample_value("akidb_wal_operations_total", labels) or 0

    before = ambiguous()

    async def lost() -> bool:
        return ambiguous() > before

    proxy.cut_answers_after(9)
    writing = asyncio.create_task(client.post("/collections/c/vectors", {"vectors": [{"id": "x", "vector": [1, 9]}]}))
    await _until(lost)
    proxy.heal()
    assert (await writing).status == 200
    assert (await client.post("/collections/c/count", {})).body["count"] == 6


async def test_a_store_that_is_away_at_the_start_is_waited_for(
    behind: Settings, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server, "RETRY_FIRST_SECS", 0.05)
    monkeypatch.setattr(server, "RETRY_LONGEST_SECS", 0.05)
    proxy.refuse()
    async for client in start(behind, database=False):
        opening = asyncio.create_task(server._open(client.service))

        async def logged() -> bool:
            return "Failed to initialize S3" in caplog.text

        await _until(logged)
        assert (await client.get("/health/live")).status == 200
        ready = await client.get("/health/ready")
        assert (ready.status, ready.body["detail"][:27]) == (503, "Storage backend not ready: ")
        assert "AKIDB_S3_ENDPOINT" in ready.body["detail"] or "failed" in ready.body["detail"]
        assert (await client.get("/collections")).status == 503
        proxy.heal()
        async with asyncio.timeout(20):
            await opening
        assert (await client.get("/health/ready")).status == 200
        assert (await client.post("/collections", {"name": "c", "vector_dim": 2})).status == 201
