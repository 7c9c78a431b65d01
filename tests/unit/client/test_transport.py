"""What is sent again, what is not, and which error is left in the end."""

import socket

import numpy as np
import pytest
from aiohttp import web

from akidb.client.transport import ATTEMPTS_MAX, Transport
from akidb.errors import (
    ConfigurationError,
    DeadlineExceededError,
    InvalidInputError,
    NotFoundError,
    PartialWriteError,
    UnavailableError,
)
from tests.unit.client.conftest import ScriptedServer, problem


async def test_a_busy_server_is_asked_again_also_for_writes(server: ScriptedServer) -> None:
    server.answers = [
        problem(503, "storage_unavailable", retry_after="0"),
        problem(429, "overloaded", retry_after="0"),
        {},
    ]
    transport = Transport(server.url)
    assert await transport.send("POST", "/x", {}, repeatable=False) == b"{}"
    assert len(server.asked) == 3
    await transport.close()


async def test_retries_end(server: ScriptedServer) -> None:
    server.answers = [problem(503, "storage_unavailable", retry_after="0") for _ in range(9)]
    transport = Transport(server.url)
    with pytest.raises(UnavailableError, match="refused with storage_unavailable"):
        await transport.send("GET", "/x", repeatable=True)
    assert len(server.asked) == ATTEMPTS_MAX
    await transport.close()


async def test_no_retry_starts_past_the_deadline(server: ScriptedServer) -> None:
    server.answers = [problem(503, "storage_unavailable", retry_after="30") for _ in range(2)]
    transport = Transport(server.url)
    with pytest.raises(UnavailableError):
        await transport.send("GET", "/x", repeatable=True, timeout_secs=5)
    assert len(server.asked) == 1
    await transport.close()


async def test_a_lost_answer_to_a_write_is_told_and_not_repeated(server: ScriptedServer) -> None:
    server.answers = [None, {}]
    transport = Transport(server.url)
    with pytest.raises(DeadlineExceededError) as caught:
        await transport.send("POST", "/x", {}, repeatable=False)
    assert caught.value.code == "outcome_unknown"
    assert len(server.asked) == 1
    await transport.close()


async def test_a_write_under_a_key_is_sent_again_under_it_until_its_outcome_is_known(server: ScriptedServer) -> None:
    server.answers = [None, problem(503, "storage_unavailable", retry_after="0"), problem(504, "outcome_unknown"), {}]
    transport = Transport(server.url)
    assert (await transport.exchange("POST", "/x", {}, repeatable=False, key="k")).body == b"{}"
    assert [headers["Idempotency-Key"] for headers in server.headers] == ["k"] * 4
    await transport.close()


async def test_what_is_left_of_an_unknown_outcome_is_that_it_is_unknown(server: ScriptedServer) -> None:
    server.answers = [None, *(problem(503, "storage_unavailable", retry_after="0") for _ in range(9))]
    transport = Transport(server.url)
    with pytest.raises(DeadlineExceededError) as caught:
        await transport.exchange("POST", "/x", {}, repeatable=False, key="k")
    assert caught.value.code == "outcome_unknown"
    assert len(server.asked) == ATTEMPTS_MAX
    server.answers = [problem(504, "deadline_exceeded")]
    with pytest.raises(DeadlineExceededError) as late:
        await transport.exchange("POST", "/x", {}, repeatable=False, key="k")
    assert late.value.code == "deadline_exceeded"
    await transport.close()


async def test_a_batch_of_which_a_part_was_written_is_sent_again_under_its_key(server: ScriptedServer) -> None:
    def partial(status: int, code: str) -> web.Response:
        parts = [{"shard": 0, "status": 200, "lsn": 3}, {"shard": 1, "status": status, "code": code, "detail": "no"}]
        return web.json_response({"code": "partially_written", "detail": "1 of 2", "shards": parts}, status=status)

    transport = Transport(server.url)
    server.answers = [partial(503, "storage_unavailable"), {}]
    assert (await transport.exchange("POST", "/x", {}, repeatable=False, key="k")).body == b"{}"
    server.answers = [partial(503, "overloaded"), *(problem(503, "overloaded", retry_after="0") for _ in range(9))]
    with pytest.raises(PartialWriteError, match="1 of 2"):  # though the last attempt did nothing
        await transport.exchange("POST", "/x", {}, repeatable=False, key="k")
    server.asked.clear()
    for key, status, code in ((None, 503, "overloaded"), ("k", 412, "version_mismatch")):
        server.answers = [partial(status, code), {}]
        with pytest.raises(PartialWriteError):
            await transport.exchange("POST", "/x", {}, repeatable=False, key=key)
    assert len(server.asked) == 2
    await transport.close()


@pytest.mark.parametrize("key", ["", "é", "a\nb", 7])
async def test_a_key_that_no_header_carries_is_refused(server: ScriptedServer, key: object) -> None:
    transport = Transport(server.url)
    with pytest.raises(InvalidInputError) as caught:
        await transport.exchange("POST", "/x", {}, repeatable=False, key=key)  # type: ignore[arg-type]
    assert caught.value.code == "invalid_idempotency_key"
    await transport.close()


async def test_a_lost_answer_to_a_read_is_asked_for_again(server: ScriptedServer) -> None:
    server.answers = [None, {"count": 3}]
    transport = Transport(server.url)
    assert await transport.send("POST", "/x", {}, repeatable=True) == b'{"count": 3}'
    await transport.close()


async def test_refusals_are_not_repeated(server: ScriptedServer) -> None:
    server.answers = [problem(404, "collection_not_found")]
    transport = Transport(server.url)
    with pytest.raises(NotFoundError) as caught:
        await transport.send("GET", "/x", repeatable=True)
    assert caught.value.code == "collection_not_found"
    await transport.close()


async def test_a_redirect_is_not_followed(server: ScriptedServer) -> None:
    server.answers = [web.Response(status=302, headers={"Location": "/elsewhere"})]
    transport = Transport(server.url)
    with pytest.raises(Exception, match="status 302"):
        await transport.send("GET", "/x", repeatable=True)
    assert len(server.asked) == 1
    await transport.close()


async def test_the_key_is_sent(server: ScriptedServer) -> None:
    server.answers = [{}]
    transport = Transport(server.url, api_key="s3cret")
    await transport.send("GET", "/x", repeatable=True)
    assert server.headers[0]["X-API-Key"] == "s3cret"
    await transport.close()


async def test_numpy_scalars_are_plain_numbers_and_the_rest_is_refused(server: ScriptedServer) -> None:
    server.answers = [{}]
    transport = Transport(server.url)
    await transport.send("POST", "/x", {"ids": [np.int64(7)], "top_k": np.uint8(3)}, repeatable=True)
    assert server.asked[0][2] == {"ids": [7], "top_k": 3}
    with pytest.raises(InvalidInputError, match="object has no JSON form"):
        await transport.send("POST", "/x", {"filter": object()}, repeatable=True)
    await transport.close()


async def test_nobody_there_is_named() -> None:
    with socket.socket() as taken:  # bound and not listening: nobody else gets the port, nobody answers
        taken.bind(("127.0.0.1", 0))
        transport = Transport(f"http://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(UnavailableError, match="does not answer") as caught:
            await transport.send("POST", "/x", {}, repeatable=False, timeout_secs=0.5)
        assert caught.value.code == "server_unavailable"
        await transport.close()


@pytest.mark.parametrize("url", ["ftp://host", "http://", "localhost:8080", "http://user:pw@host", "http://host/?a=b"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError):
        Transport(url)
