"""What nodes ask of each other: only who knows the cluster's token is heard, and nothing is sent where it leads on."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from uuid import uuid4

import msgspec
import numpy as np
import pytest
from aiohttp import web

from akidb.api import peers
from akidb.api.peers import HEADER, PATH, HttpPeers, answer_signature, signature, signed_digest
from akidb.collection import Collection
from akidb.collection.forwarding import Forwarded
from akidb.config.settings import Auth, Cluster
from akidb.database import Database
from akidb.database.members import Members
from akidb.errors import AkiDBError, ConflictError
from akidb.storage.memory import MemoryStore
from akidb.types import CollectionSpec, Metric
from akidb.wal import CHAIN_START, Batch, Slot, Upsert, encode_slot
from tests.api.conftest import Client, settings, start
from tests.servers import free_port

TOKEN = "a-token-of-the-cluster"
CLUSTER = Cluster(node_address="http://127.0.0.1:1", token=TOKEN)
KEY = "k" * 20
NONCE = "0" * 32
PROBLEM = {"Content-Type": "application/problem+json"}


@pytest.fixture
async def node() -> AsyncIterator[Client]:
    """A node of a cluster that asks its clients for API keys."""
    async for running in start(settings(cluster=CLUSTER, auth=Auth(enabled=True, api_keys=(KEY,)))):
        created = await running.post("/collections", {"name": "c", "vector_dim": 2}, X_API_Key=KEY)
        assert created.status == 201
        yield running


@pytest.fixture
async def other() -> AsyncIterator[HttpPeers]:
    members = Members(MemoryStore(), "http://127.0.0.1:2")
    made = HttpPeers(members, TOKEN)
    yield made
    await made.close()


async def message(node: Client, *, if_absent: bool = False, of: Collection | None = None) -> bytes:
    database = node.service.database
    assert database is not None
    shard = (of or await database.collection("c")).shards[0]
    batch = Batch(uuid4(), [Upsert(["p"], np.ones((1, 2), np.float32), [b'{"n":1}'])])
    slot, _ = encode_slot(Slot(shard.applied, shard.uuid, uuid4(), CHAIN_START, [batch]))
    asked = {"ids": ["p"], "expected": bytes(8), "word": "if_absent", "positions": None, "present": False}
    text = msgspec.msgpack.encode(Forwarded("c", shard.uuid, shard.applied, 1000, slot))
    return msgspec.msgpack.encode(msgspec.msgpack.decode(text) | ({"asked": asked} if if_absent else {}))


def sign(body: bytes, *, token: str = TOKEN) -> str:
    return signature(token, hashlib.sha256(body).hexdigest(), NONCE)


@asynccontextmanager
async def answering(
    answer: Callable[[web.Request], Awaitable[web.Response]], *, ports: int = 1, token: str | None = TOKEN
) -> AsyncIterator[list[str]]:
    """What answers like that, at so many addresses, signed by `token`."""

    async def signed(request: web.Request, response: web.StreamResponse) -> None:
        if token is not None and isinstance(response, web.Response):
            body = response.body if isinstance(response.body, bytes) else b""
            response.headers[HEADER] = answer_signature(token, request.headers[HEADER], response.status, body)

    app = web.Application()
    app.on_response_prepare.append(signed)
    app.router.add_route("*", "/{any:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    for _ in range(ports):
        await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield [f"http://127.0.0.1:{address[1]}" for address in runner.addresses]
    finally:
        await runner.cleanup()


async def count(node: Client) -> int:
    return int((await node.post("/collections/c/count", X_API_Key=KEY)).body["count"])


async def test_a_batch_of_a_node_is_put_and_answered(node: Client, other: HttpPeers) -> None:
    answer = await other.send(node.base, await message(node), 1.0)
    assert msgspec.msgpack.decode(answer) == {"lsn": 1, "points": 1}
    with pytest.raises(ConflictError) as refused:
        await other.send(node.base, await message(node, if_absent=True), 1.0)
    assert (refused.value.code, refused.value.faults[0].loc) == ("point_exists", ("if_absent",))
    assert await count(node) == 1


async def test_who_does_not_know_the_token_is_refused_before_the_body_is_read(node: Client) -> None:
    body = await message(node)
    digest = hashlib.sha256(body).hexdigest()
    good = sign(body)
    another = hashlib.sha256(b"another body").hexdigest()
    headers: list[dict[str, str]] = [
        {},
        {HEADER: ""},
        {HEADER: TOKEN},
        {HEADER: digest},
        {HEADER: sign(body, token="another-token-entirely")},
        {HEADER: good[:-1]},
        {HEADER: good.upper()},
        {HEADER: f"{another}.{good.partition('.')[2]}"},
        {HEADER: good.replace(NONCE, "1" * 32)},
        {HEADER: sign(b"another body")},
        {"X-API-Key": KEY},
        {"Authorization": f"Bearer {TOKEN}"},
        {"X-Forwarded-For": "127.0.0.1", "X-AkiDB-Internal": "true"},
    ]
    for sent in headers:
        answer = await node.call("POST", PATH, raw=body, **{name.replace("-", "_"): v for name, v in sent.items()})
        assert (answer.status, answer.code) == (401, "unauthorized"), sent
        assert TOKEN not in str(answer.body)
        assert HEADER not in answer.headers  # nothing is signed for who does not know the token
    large = b"x" * (node.service.settings.api.body_limit_bytes + 1)
    assert (await node.call("POST", PATH, raw=large)).status == 401
    assert await count(node) == 0
    assert (await node.call("POST", PATH, raw=body, X_AkiDB_Cluster=good)).status == 200


async def test_the_clusters_token_is_no_api_key(node: Client) -> None:
    body = b"{}"
    signed = sign(body)
    for path in ("/collections", "/collections/c/count"):
        assert (await node.call("POST", path, raw=body, X_AkiDB_Cluster=signed)).status == 401


async def test_a_batch_sent_again_by_a_listener_changes_nothing(node: Client) -> None:
    body = await message(node)
    signed = sign(body)
    for _ in range(3):
        answer = await node.call("POST", PATH, raw=body, X_AkiDB_Cluster=signed)
        assert (answer.status, msgspec.msgpack.decode(answer.body)["lsn"]) == (200, 1)
        await node.post("/collections/c/vectors", {"vectors": [{"id": "p", "vector": [2, 2]}]}, X_API_Key=KEY)
    found = await node.get("/collections/c/vectors/p", X_API_Key=KEY)
    assert found.body["vector"] == [2, 2]


async def test_signed_noise_is_refused(node: Client) -> None:
    for body in (b"", b"noise", b"\x80", b"{}", (await message(node))[:-1]):
        signed = sign(body)
        assert (await node.call("POST", PATH, raw=body, X_AkiDB_Cluster=signed)).status in (422, 503), body
    assert await count(node) == 0


async def test_without_a_token_there_is_no_such_route(filled: Client) -> None:
    assert (await filled.call("POST", PATH, raw=b"{}")).code == "route_not_found"


def test_signatures() -> None:
    good = signature(TOKEN, "ab", NONCE)
    assert signed_digest(TOKEN, good) == "ab"
    for header in ("", ".", "ab", "ab.", "\udcff.ab", "é.ab", "ab..", good + " ", good.replace(".", "..", 1)):
        assert signed_digest(TOKEN, header) is None


@pytest.mark.parametrize(
    ("status", "headers", "body", "code"),
    [
        (307, {"Location": "/elsewhere"}, b"", "outcome_unknown"),
        (200, {}, b"any body", None),
        (500, PROBLEM, b'{"code": "internal_error"}', "outcome_unknown"),
        (502, {"Content-Type": "text/html"}, b"a page", "outcome_unknown"),
        (503, PROBLEM, b'{"code": "data_corruption"}', "outcome_unknown"),
        (503, PROBLEM, b'{"code": "of_a_newer_version"}', "outcome_unknown"),
        (503, PROBLEM, b'{"code": "closing"}', "closing"),
        (412, PROBLEM, b'{"code": "version_mismatch"}', "version_mismatch"),
    ],
)
async def test_what_an_answer_means(
    other: HttpPeers, status: int, headers: dict[str, str], body: bytes, code: str | None
) -> None:
    """Unsigned, it is as good as none, whatever it says; and nothing is sent where an answer leads."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(status=status, headers=headers, body=body)

    async with answering(answer) as (url,):
        if code is None:
            assert await other.send(url, b"x", 1.0) == body
        else:
            assert await refusal(other, url) == code
    for token in (None, "another-token-entirely"):
        async with answering(answer, token=token) as (url,):
            assert await refusal(other, url) == "outcome_unknown"
    assert asked == [PATH] * 3


async def refusal(other: HttpPeers, url: str) -> str:
    with pytest.raises(AkiDBError) as told:
        await other.send(url, b"x", 1.0)
    return told.value.code


@pytest.mark.parametrize("altered", ["nothing", "the request", "the status", "the body", "the header"])
async def test_an_answer_counts_for_the_request_that_it_was_made_for_alone(
    altered: str, other: HttpPeers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is between keeps a node's answer, and gives it, or part of it, when the same batch is sent again."""
    doubted: list[str] = []
    monkeypatch.setattr(other._members, "doubt", lambda node, why: doubted.append(node))
    status, body, header = 200, b"done", [""]

    async def answer(request: web.Request) -> web.Response:
        asked = request.headers[HEADER]
        if altered == "the request":
            header[0] = header[0] or answer_signature(TOKEN, asked, status, body)
        else:
            header[0] = answer_signature(TOKEN, asked, 412 if altered == "the status" else status, body)
        told = web.Response(status=status, body=b"gone" if altered == "the body" else body)
        told.headers[HEADER] = header[0][:-1] if altered == "the header" else header[0]
        return told

    async with answering(answer, token=None) as (url,):
        if altered in ("nothing", "the request"):
            assert await other.send(url, b"x", 1.0) == b"done"
        if altered == "nothing":
            assert await other.send(url, b"x", 1.0) == b"done"
        else:
            assert await refusal(other, url) == "outcome_unknown"
            assert doubted == [url]


@pytest.mark.parametrize("what", ["answer", "refusal"])
async def test_a_forged_answer_neither_acknowledges_nor_refuses(what: str, node: Client, other: HttpPeers) -> None:
    """The batch is put here instead, and what was claimed of the log's end is not believed."""

    async def forge(request: web.Request) -> web.Response:
        if what == "answer":
            return web.Response(body=msgspec.msgpack.encode({"lsn": 1 << 60, "points": 1}))
        return web.json_response({"code": "version_mismatch"}, status=412, content_type=PROBLEM["Content-Type"])

    database = node.service.database
    assert database is not None
    elsewhere = await Database.open(database._store, settings())
    elsewhere.peers = other
    async with answering(forge, token="another-token-entirely") as (url,):
        other.owner = lambda shard: url  # type: ignore[method-assign]
        collection = await elsewhere.collection("c")
        await collection.upsert(["p"], np.ones((1, 2), np.float32), if_absent=True)
        assert (await count(node), collection.writers[0].known) == (1, 1)
        await collection.close()


@pytest.mark.parametrize(("code", "is_doubted"), [("warming", False), ("not_taken", False), ("closing", True)])
async def test_who_is_left_alone_for_a_while(
    code: str, is_doubted: bool, other: HttpPeers, monkeypatch: pytest.MonkeyPatch
) -> None:
    doubted: list[str] = []
    monkeypatch.setattr(other._members, "doubt", lambda node, why: doubted.append(node))

    async def answer(request: web.Request) -> web.Response:
        return web.json_response({"code": code}, status=503, content_type="application/problem+json")

    async with answering(answer) as (url,):
        with pytest.raises(AkiDBError):
            await other.send(url, b"x", 1.0)
        assert doubted == [url] * is_doubted


async def test_a_node_that_stands_still_holds_up_nothing_that_is_sent_to_others(
    other: HttpPeers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "CONNECTIONS_MAX", 1)
    released, arrived = asyncio.Event(), asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        if f"http://{request.host}" == still:
            arrived.set()
            await released.wait()
        return web.Response(body=b"done")

    async with answering(answer, ports=2) as (still, well):
        waiting = asyncio.create_task(other.send(still, b"x", 60.0))
        await arrived.wait()
        assert await other.send(well, b"x", 60.0) == b"done"
        assert not waiting.done()
        released.set()
        assert await waiting == b"done"


async def test_a_collection_that_was_made_anew_elsewhere_is_found(node: Client) -> None:
    """What has the name here at hand is another collection than the one that the batch is for."""
    database = node.service.database
    assert database is not None
    elsewhere = await Database.open(database._store, settings())
    await elsewhere.drop_collection("c")
    made = await elsewhere.create_collection(CollectionSpec("c", 2, Metric.COSINE))
    body = await message(node, of=made)
    signed = sign(body)
    assert (await node.call("POST", PATH, raw=body, X_AkiDB_Cluster=signed)).status == 200
    assert await made.count() == 1
    for collection in elsewhere.at_hand:
        await collection.close()


async def test_nothing_at_the_address_means_that_nothing_happened(other: HttpPeers) -> None:
    with pytest.raises(AkiDBError) as told:
        await other.send(f"http://127.0.0.1:{free_port()}", b"x", 1.0)
    assert told.value.code == "not_taken"
