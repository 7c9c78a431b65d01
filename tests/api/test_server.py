"""A serving process from start to end: a store that comes late, draining, a busy port."""

import asyncio
import socket
from dataclasses import replace

import aiohttp
import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from akidb.api import server
from akidb.api.app import create_app
from akidb.api.runner import Runner
from akidb.api.server import Stop, listen, serve
from akidb.api.service import Service
from akidb.config.settings import Api
from akidb.errors import ConfigurationError, UnavailableError
from akidb.storage.memory import MemoryStore
from akidb.telemetry.metrics import Metrics
from tests.api.conftest import settings


class Serving:
    """`serve` as a task, with a client."""

    def __init__(self, **api: object) -> None:
        chosen = settings(api=replace(Api(), drain_delay_secs=0.0, **api))
        self.service = Service(chosen, "1.2.3", metrics=Metrics(CollectorRegistry()))
        self.stop = Stop()
        self.listener = listen("127.0.0.1:0")
        host, port = self.listener.getsockname()
        self.base = f"http://{host}:{port}"

    async def __aenter__(self):
        self.task = asyncio.create_task(serve(self.service, self.listener, self.stop))
        self.session = aiohttp.ClientSession()
        return self

    async def __aexit__(self, *_):
        self.stop.ask(patient=False)
        await self.session.close()
        await asyncio.gather(self.task, return_exceptions=True)

    async def status(self, path: str) -> int:
        async with self.session.get(self.base + path) as answer:
            return answer.status

    async def until(self, path: str, status: int) -> None:
        while await self.status(path) != status:  # noqa: ASYNC110  a server is asked, no event of ours
            await asyncio.sleep(0.01)


async def test_it_serves_until_it_is_told_to_stop():
    async with Serving() as serving:
        await serving.until("/health/ready", 200)
        serving.stop.ask(patient=True)
        await serving.task
        with pytest.raises(aiohttp.ClientConnectorError):
            await serving.status("/health/live")


async def test_a_store_that_is_away_is_asked_again_until_it_answers(monkeypatch, caplog):
    opened = []
    second, go_on = asyncio.Event(), asyncio.Event()

    class Late(MemoryStore):
        """Refuses the first time, hangs and refuses the second, answers the third."""

        async def get(self, *args, **kwargs):
            if len(opened) == 2:
                second.set()
                await go_on.wait()
            if len(opened) < 3:
                raise UnavailableError("connection refused")
            return await super().get(*args, **kwargs)

    def open_store(_):
        opened.append(Late())
        return opened[-1]

    monkeypatch.setattr(server, "open_store", open_store)
    monkeypatch.setattr(server, "RETRY_FIRST_SECS", 0.0)
    async with Serving() as serving:
        await second.wait()
        assert await serving.status("/health/live") == 200
        assert await serving.status("/health/ready") == 503
        go_on.set()
        await serving.until("/health/ready", 200)
    failures = [record.getMessage() for record in caplog.records if "Failed to initialize" in record.getMessage()]
    assert failures == ["Failed to initialize storage: connection refused"] * 2


async def test_a_store_that_can_never_be_used_ends_the_process(monkeypatch):
    class Refusing(MemoryStore):
        async def get(self, *args, **kwargs):
            raise ConfigurationError("access denied")

        put_if_absent = get

    monkeypatch.setattr(server, "open_store", lambda _: Refusing())
    serving = Serving()
    with pytest.raises(ConfigurationError, match="access denied"):
        await asyncio.wait_for(serve(serving.service, serving.listener, serving.stop), 10)


async def test_what_is_under_way_is_finished(monkeypatch):
    async with Serving() as serving:
        await serving.until("/health/ready", 200)
        made = {"name": "a", "vector_dim": 2}
        async with serving.session.post(f"{serving.base}/collections", json=made) as answer:
            assert answer.status == 201
        collection = await serving.service.database.collection("a")
        entered, leave = asyncio.Event(), asyncio.Event()
        real = collection.info

        async def slow(**kwargs):
            entered.set()
            await leave.wait()
            return await real(**kwargs)

        monkeypatch.setattr(collection, "info", slow)
        request = asyncio.create_task(serving.status("/collections/a"))
        await entered.wait()
        serving.stop.ask(patient=True)
        while not serving.service.draining:  # noqa: ASYNC110  a plain attribute
            await asyncio.sleep(0)
        leave.set()
        assert await request == 200
        await serving.task


async def test_a_client_that_keeps_its_connection_for_ever_does_not_keep_the_database_from_closing(monkeypatch):
    async def endless(_):
        await asyncio.Event().wait()

    monkeypatch.setattr(Runner, "cleanup", endless)
    monkeypatch.setattr(server, "EXIT_SECS_MAX", server.CLOSE_SECS)
    async with Serving() as serving:
        await serving.until("/health/ready", 200)
        serving.stop.ask(patient=True)
        await asyncio.wait_for(serving.task, 60)
        with pytest.raises(UnavailableError, match="closed"):
            await serving.service.database.list_collections()
    serving.listener.close()  # which cleanup would have done; else it is found unclosed in whichever test comes then


@pytest.mark.parametrize("turns", range(2, 8))
@pytest.mark.parametrize(
    ("asked", "answered"), [(b"GET /health/live HTTP/1.1\r\nHost: test\r\n\r\n", b"HTTP/1.1 200 OK"), (b"", b"")]
)
async def test_a_connection_accepted_last_gets_its_answer_and_keeps_nobody(turns, asked, answered):
    """`turns` of the event loop lie between its coming and the end: it is somewhere between accepted and read."""
    service = Service(settings(), "1.2.3", metrics=Metrics(CollectorRegistry()))
    runner = Runner(create_app(service), shutdown_timeout=3600.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    with socket.create_connection(runner.addresses[0][:2]) as came:
        came.setblocking(False)
        came.sendall(asked)
        for _ in range(turns):
            await asyncio.sleep(0)
        await asyncio.wait_for(runner.cleanup(), 60)
        said = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(came, 100), 60)
        assert said[: len(b"HTTP/1.1 200 OK")] == answered


def test_a_busy_port_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigurationError, match=f"cannot listen on {address}: Address already in use; stop what"):
            listen(address)


@pytest.mark.parametrize("address", ["192.0.2.1:8080", "no-such-host.invalid:80"])
def test_an_address_that_is_not_here_is_named(address):
    with pytest.raises(ConfigurationError, match=f"cannot listen on {address}"):
        listen(address)
