"""HTTP by bytes: requests that are broken, compressed, slow, or given up."""

import asyncio
import gzip
import json

import aiohttp
import pytest
from yarl import URL

from akidb.api import body
from tests.api.test_vectors import VECTORS

HEAD = f"POST {VECTORS} HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n".encode()


async def connect(client):
    url = URL(client.base)
    return await asyncio.open_connection(url.host, url.port)


async def answer_to(client, sent: bytes, *, closed: bool = False) -> tuple[int, dict[str, str], dict[str, object]]:
    """Status, headers and problem of the answer to these bytes; with `closed` nothing but the end may follow it."""
    reader, writer = await connect(client)
    try:
        writer.write(sent)
        head = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        problem = json.loads(await reader.readexactly(int(headers["content-length"])))
        assert not closed or await reader.read() == b""
        return int(head[0].split()[1]), headers, problem
    finally:
        writer.close()


@pytest.mark.parametrize(
    "rest",
    [
        b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Content-Length: 4\r\nContent-Length: 5\r\n\r\n{}{}{",
        b"Transfer-Encoding: chunked\xff\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"X-Note: a\r\n b\r\n\r\n",
        b"X-Note: a\nContent-Length: 0\n\n",
        b"X-Note : a\r\n\r\n",
        b"X-Note: a\x00b\r\n\r\n",
        b"X-Note: %s\r\n\r\n" % (b"a" * 20_000),
        b"Content-Length: 99999999999999999999\r\n\r\n",
    ],
)
async def test_a_request_that_could_be_read_in_two_ways_is_refused_and_the_connection_closed(filled, rest, caplog):
    status, headers, problem = await answer_to(filled, HEAD + rest, closed=True)
    assert (status, problem["code"], problem["status"]) == (400, "http_error", 400)
    assert headers["content-type"] == "application/problem+json"
    assert headers["x-request-id"] == problem["request_id"]
    assert headers["server"] == "akidb"
    assert not caplog.records  # the bytes may hold a key


@pytest.mark.parametrize("head", [HEAD, b"GET /nothing HTTP/1.1\r\nHost: here\r\n"])
async def test_an_expectation_that_cannot_be_met_is_refused_as_all_else_is(filled, head):
    status, headers, problem = await answer_to(filled, head + b"Expect: 200-ok\r\n\r\n", closed=True)
    assert (status, problem["code"], headers["server"]) == (400, "http_error", "akidb")
    assert "Expect" in str(problem["detail"])


async def test_a_client_that_waits_for_100_continue_gets_it(filled):
    reader, writer = await connect(filled)
    writer.write(HEAD + b"Expect: 100-Continue\r\nContent-Length: 14\r\n\r\n")
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b'{"vectors":[]}')
    assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
    writer.close()


async def test_what_is_no_http_at_all_is_refused(filled):
    assert (await answer_to(filled, b"\x16\x03\x01\x02\x00\x01\x00"))[0] == 400


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "unheard-of"])
async def test_a_compressed_body_is_refused_before_it_is_decompressed(filled, coding):
    await filled.refused(
        "POST", VECTORS, raw=gzip.compress(b" " * (1 << 20)), Content_Encoding=coding,
        status=415, code="unsupported_media_type", says=f"Content-Encoding is {coding}",
    )  # fmt: skip


async def test_a_body_without_a_type_is_refused_as_any_web_page_could_send_it(filled):
    body = b'{"ids":["east"]}'
    head = f"POST {VECTORS}/delete HTTP/1.1\r\nHost: here\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    status, _, problem = await answer_to(filled, head + body)
    assert (status, problem["code"]) == (415, "unsupported_media_type")
    assert (await filled.post("/collections/compass/count")).body["count"] == 3  # no body, so no type is needed


@pytest.mark.parametrize(
    "rest",
    [
        b'Content-Length: 100\r\n\r\n{"vec',
        b"Transfer-Encoding: chunked\r\n\r\n",
    ],
)
async def test_a_body_that_does_not_come_is_not_waited_for_for_ever(filled, rest, monkeypatch):
    monkeypatch.setattr(body, "READ_SECS", 0.0)
    status, _, problem = await answer_to(filled, HEAD + rest)
    assert (status, problem["code"]) == (408, "request_timeout")


async def test_each_byte_that_comes_gives_the_body_more_time(filled, monkeypatch):
    monkeypatch.setattr(body, "READ_SECS", 0.0)
    monkeypatch.setattr(body, "READ_BYTES_PER_SEC", 1e-3)
    reader, writer = await connect(filled)
    writer.write(HEAD + b"Content-Length: 14\r\n\r\n" + b'{"vec')
    entered = asyncio.Event()
    real = asyncio.Timeout.reschedule

    def reschedule(self, when):
        real(self, when)
        entered.set()

    monkeypatch.setattr(asyncio.Timeout, "reschedule", reschedule)
    await entered.wait()
    writer.write(b'tors":[]}')
    assert (await reader.readline()).split()[1] == b"200"
    writer.close()


async def test_a_client_that_gives_up_is_no_failure(filled, caplog):
    _, writer = await connect(filled)
    writer.write(HEAD + b'Content-Length: 100\r\n\r\n{"vec')
    await writer.drain()
    writer.close()
    wanted = 'akidb_api_requests_total{endpoint="/collections/{name}/vectors",method="POST",status="499"} 1.0'
    while wanted not in (await filled.get("/metrics")).body.decode():
        pass
    assert not caplog.records


async def test_open_connections_are_counted(client):
    gauge = client.service.metrics.active_connections
    await client.get("/health/live")
    assert gauge._value.get() == 1
    async with aiohttp.ClientSession() as another, another.get(client.base + "/metrics") as answer:
        assert "akidb_active_connections 2.0" in await answer.text()
    while gauge._value.get() == 2:
        await client.get("/health/live")
    assert gauge._value.get() == 1
