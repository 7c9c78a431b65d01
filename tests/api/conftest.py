"""A real application on a free loopback port over the memory store, and a client that speaks plain HTTP to it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry
from yarl import URL

from akidb.api.app import create_app
from akidb.api.runner import Runner
from akidb.api.service import Service
from akidb.config import Settings
from akidb.config.settings import Api, Auth, Storage
from akidb.database import Database
from akidb.storage import open_store
from akidb.telemetry.metrics import Metrics

BODY_LIMIT = 256 * 1024


@dataclass(frozen=True)
class Answer:
    status: int
    body: Any
    headers: Any

    @property
    def code(self) -> str:
        return self.body["code"]


@dataclass
class Client:
    base: str
    session: aiohttp.ClientSession
    service: Service

    async def call(
        self, method: str, path: str, body: Any = None, *, raw: bytes | None = None, **headers: str
    ) -> Answer:
        """One request; `body` goes as JSON, `raw` as it stands. Underscores in header names become dashes."""
        data = raw if raw is not None else None if body is None else json.dumps(body).encode()
        sent = ({"Content-Type": "application/json"} if data is not None else {}) | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        url = URL(self.base + path, encoded=True)
        async with self.session.request(method, url, data=data, headers=sent) as answer:
            text = await answer.read()
            return Answer(answer.status, json.loads(text) if "json" in answer.content_type else text, answer.headers)

    async def get(self, path: str, **headers: str) -> Answer:
        return await self.call("GET", path, **headers)

    async def post(self, path: str, body: Any = None, **rest: Any) -> Answer:
        return await self.call("POST", path, body, **rest)

    async def state(self) -> Any:
        """Everything that a refused request must leave as it was."""
        return (await self.get("/collections")).body

    async def refused(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        status: int,
        code: str,
        says: str,
        loc: list[str | int] | None = None,
        **rest: Any,
    ) -> Answer:
        """Asserts a refusal as the product has it, and that nothing changed."""
        before = await self.state()
        answer = await self.call(method, path, body, **rest)
        assert (answer.status, answer.body.get("code")) == (status, code), answer.body
        assert answer.headers["Content-Type"].startswith("application/problem+json")
        assert says in answer.body["detail"], answer.body["detail"]
        assert answer.body["status"] == status
        assert answer.body["type"] == f"/docs#{code}"
        assert answer.body["title"]
        assert answer.body["instance"] == URL(self.base + path, encoded=True).raw_path
        assert answer.body["request_id"] == answer.headers["X-Request-ID"]
        if loc is not None:
            assert [error["loc"] for error in answer.body["errors"]] == [loc]
        assert await self.state() == before
        return answer


def settings(**changes: Any) -> Settings:
    """Settings for tests: the memory store and a body limit that is soon reached."""
    base = Settings(storage=Storage(use_memory_backend=True), api=Api(body_limit_bytes=BODY_LIMIT))
    return replace(base, **changes)


async def start(chosen: Settings, *, database: bool = True) -> AsyncIterator[Client]:
    """Serves until the generator is closed; without a database as if the store were away."""
    service = Service(chosen, "1.2.3", metrics=Metrics(CollectorRegistry()))
    if database:
        service.database = await Database.open(open_store(chosen), chosen)
    runner = Runner(create_app(service), shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    session = aiohttp.ClientSession()
    try:
        yield Client(f"http://{host}:{port}", session, service)
    finally:
        await session.close()
        await runner.cleanup()
        if service.database is not None:
            await service.database.close()
        service.threads.shutdown()


@pytest.fixture
async def client():
    async for running in start(settings()):
        yield running


@pytest.fixture
async def storeless():
    """A server whose store has not answered yet."""
    async for running in start(settings(), database=False):
        yield running


@pytest.fixture
async def locked():
    """A server that asks for API keys."""
    async for running in start(settings(auth=Auth(enabled=True, api_keys=("k" * 20, "l" * 20)))):
        yield running


POINTS = [
    {"id": "east", "vector": [1, 0], "payload": {"kind": "axis", "n": 1}},
    {"id": "north", "vector": [0, 2], "payload": {"kind": "axis", "n": 2}},
    {"id": "north-east", "vector": [3.5, 3.5]},
]


@pytest.fixture
async def filled(client: Client) -> Client:
    """A server with the collection `compass`: three points in the plane under Cosine."""
    assert (await client.post("/collections", {"name": "compass", "vector_dim": 2})).status == 201
    assert (await client.post("/collections/compass/vectors", {"vectors": POINTS})).status == 200
    return client
