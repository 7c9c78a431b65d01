"""Further ranges of an object go out with the signature of the first, and mean the same."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from akidb.errors import InvalidInputError, StorageFullError, UnavailableError
from akidb.storage import s3_ranges
from akidb.storage.object_store import Status
from akidb.storage.s3 import S3Store
from akidb.storage.s3_client import S3Options
from tests.servers import EMPTY_LIST, S3_SERVERS, Answer, S3Server, s3_error, scripted_s3

_DATED = {"ETag": '"e"', "Date": "Thu, 26 Nov 2026 12:00:00 GMT", "Last-Modified": "Thu, 26 Nov 2026 11:00:00 GMT"}


class _Object:
    """A store with one object of 100 bytes. It gives `answers` first, one to each get of it; None: it never answers."""

    def __init__(self, answers: Sequence[Answer | None] = ()) -> None:
        self.gets: list[dict[str, str]] = []
        self._answers = list(answers)

    def answer(self, method: str, target: str, headers: dict[str, str]) -> Answer | None:
        if "list-type" in target:
            return EMPTY_LIST
        self.gets.append(headers)
        if self._answers:
            return self._answers.pop(0)
        start, end = map(int, headers["range"].removeprefix("bytes=").split("-"))
        return 206, {**_DATED, "Content-Range": f"bytes {start}-{end}/100"}, bytes(range(start, end + 1))


@asynccontextmanager
async def _read_once(served: _Object, **changed: Any) -> AsyncIterator[S3Store]:
    """A store of whose object the first bytes were read."""
    async with scripted_s3(served.answer) as endpoint:
        options = {"access_key": "k", "secret_key": "s", "read_timeout_secs": 5.0, **changed}
        store = S3Store(S3Options("akidb", endpoint, **options))
        try:
            assert (await store.get("a", byte_range=(0, 2))).body == b"\0\1"
            yield store
        finally:
            await store.close()


async def test_a_further_range_is_sent_with_the_same_signature_and_answered_the_same() -> None:
    served = _Object()
    async with _read_once(served, session_token="tok") as store:
        whole = await store.get("a", byte_range=(0, 100))
        again = await store.get("a", byte_range=(7, 9))
        other = await store.get("b", byte_range=(7, 9))
    assert (again.body, again.size, again.etag) == (b"\7\x08", 100, '"e"')
    assert (again.date, again.last_modified) == (1795694400.0, 1795690800.0)
    assert whole.body == bytes(range(100))
    assert other == again
    first, *rest = served.gets
    assert [get["range"] for get in rest] == ["bytes=0-99", "bytes=7-8", "bytes=7-8"]
    assert {get["authorization"] for get in rest[:2]} == {first["authorization"]}
    assert rest[2]["authorization"] != first["authorization"]
    assert {get["x-amz-security-token"] for get in served.gets} == {"tok"}


async def test_a_condition_is_asked_by_the_library() -> None:
    served = _Object()
    async with _read_once(served) as store:
        await store.get("a", byte_range=(1, 3), if_none_match='"f"')
        assert (await store.get("a", byte_range=(1, 3))).body == b"\1\2"
    assert [get.get("if-none-match") for get in served.gets] == [None, '"f"', None]


async def test_an_old_signature_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_ranges, "SIGNED_SECS", 0.0)
    served = _Object()
    async with _read_once(served) as store:
        await asyncio.sleep(1.1)  # the signature's own clock counts whole seconds
        await store.get("a", byte_range=(1, 3))
    assert len({get["authorization"] for get in served.gets}) == 2


async def test_many_objects_are_remembered_but_not_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_ranges, "_SIGNED_MAX", 2)
    served = _Object()
    async with _read_once(served) as store:
        for key in "bcabc":
            assert (await store.get(key, byte_range=(5, 6))).body == b"\5"
        assert set(store._ranges._signed) == {"b", "c"}


@pytest.mark.parametrize("code", ["ExpiredToken", "AccessDenied", "RequestTimeTooSkewed"])
async def test_a_signature_that_is_refused_is_made_anew(code: str) -> None:
    served = _Object([(206, {**_DATED, "Content-Range": "bytes 0-1/100"}, b"\0\1"), s3_error(403, code)])
    async with _read_once(served) as store:
        assert (await store.get("a", byte_range=(1, 3))).body == b"\1\2"
    assert len(served.gets) == 3


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (500, "InternalError", UnavailableError),
        (503, "SlowDown", UnavailableError),
        (429, "TooManyRequests", UnavailableError),
        (507, "XMinioStorageFull", StorageFullError),
    ],
)
async def test_a_busy_or_failing_store_is_not_asked_twice(status: int, code: str, expected: type[Exception]) -> None:
    served = _Object([(206, {**_DATED, "Content-Range": "bytes 0-1/100"}, b"\0\1"), s3_error(status, code)])
    async with _read_once(served) as store:
        with pytest.raises(expected, match=code):
            await store.get("a", byte_range=(1, 3))
    assert len(served.gets) == 2


@pytest.mark.parametrize("broken", [(206, {"Content-Length": "100"}, b"only this"), None])
async def test_a_body_that_is_cut_short_or_never_comes_is_a_failure(broken: Answer | None) -> None:
    served = _Object([(206, {**_DATED, "Content-Range": "bytes 0-1/100"}, b"\0\1"), broken])
    async with _read_once(served, read_timeout_secs=2.0) as store:
        with pytest.raises(UnavailableError):
            await store.get("a", byte_range=(1, 3))


async def test_how_long_a_body_takes_is_not_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a slow line each range would end at the same time, and so would all that repeat it."""
    begun = asyncio.Event()

    @asynccontextmanager
    async def until_the_answer_begins(self: S3Store, upload_bytes: int) -> AsyncIterator[None]:
        begun.clear()
        yield
        begun.set()

    async with scripted_s3(_Object().answer, body_waits=begun) as endpoint:
        store = S3Store(S3Options("akidb", endpoint, access_key="k", secret_key="s"))
        begun.set()
        await store.get("b", byte_range=(0, 1))  # finds the bucket
        monkeypatch.setattr(S3Store, "_limit", until_the_answer_begins)
        assert (await store.get("a", byte_range=(0, 2))).body == b"\0\1"
        assert (await store.get("a", byte_range=(7, 9))).body == b"\7\x08"
        await store.close()


@pytest.mark.s3
@pytest.mark.parametrize("server", [kind.name for kind in S3_SERVERS])
async def test_real_stores_take_the_signature_again(request: pytest.FixtureRequest, server: str) -> None:
    of_kind: S3Server = request.getfixturevalue(server)
    store = S3Store(of_kind.options(f"test-{uuid.uuid4()}", "some/prefix"))
    await store.put("a/b.c", bytes(range(100)))
    for start in range(0, 100, 10):
        reply = await store.get("a/b.c", byte_range=(start, start + 10))
        assert (reply.body, reply.size) == (bytes(range(start, start + 10)), 100)
    with pytest.raises(InvalidInputError, match="past the object's end"):
        await store.get("a/b.c", byte_range=(100, 101))
    await store.delete_many(["a/b.c"])
    assert (await store.get("a/b.c", byte_range=(0, 1))).status is Status.NOT_FOUND
    await store.close()
