"""What only a remote store can do wrong: refuse, vanish, stall, cut short, answer strangely."""

from __future__ import annotations

import asyncio
import errno
import mmap
import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from akidb.errors import AkiDBError, ConfigurationError, StorageFullError, UnavailableError
from akidb.storage import s3_multipart
from akidb.storage.object_store import Status
from akidb.storage.retrying import Backoff, RetryingStore
from akidb.storage.s3 import S3Store
from akidb.storage.s3_client import S3Options
from tests.servers import EMPTY_LIST, Answer, Minio, free_port, running, s3_error, scripted_s3

_SECRET = "hush-hush-do-not-tell"
# For stores that say nothing. Any other answer is waited for: on a busy machine it may take longer than this.
_SHORT = {"connect_timeout_secs": 0.2, "read_timeout_secs": 0.2, "upload_bytes_per_sec_min": 1 << 30}


def _options(endpoint: str, **changed: object) -> S3Options:
    keys = {"access_key": "someone", "secret_key": _SECRET}
    return S3Options(**{"bucket": "akidb", "endpoint": endpoint, **keys, **changed})


@asynccontextmanager
async def _opened(options: S3Options) -> AsyncIterator[S3Store]:
    store = S3Store(options)
    try:
        yield store
    finally:
        await store.close()


async def _failure(options: S3Options) -> AkiDBError:
    """What put and get both raise; neither tells the secret."""
    async with _opened(options) as store:
        with pytest.raises(AkiDBError) as putting:
            await store.put_if_absent("a", b"x")
        with pytest.raises(type(putting.value)) as getting:
            await store.get("a")
    for raised in (putting.value, getting.value):
        assert _SECRET not in f"{raised!r} {raised.__cause__!r}"
        assert options.bucket in str(raised)
    return putting.value


def test_no_secret_in_the_representation() -> None:
    options = _options("http://127.0.0.1:1")
    for text in (repr(options), str(options), options.location, S3Store(options).location):
        assert _SECRET not in text
        assert "someone" not in text


@pytest.mark.s3
@pytest.mark.parametrize("changed", [{"secret_key": _SECRET}, {"access_key": "nobody", "secret_key": _SECRET}])
async def test_wrong_keys_name_the_settings(minio: Minio, changed: dict[str, str]) -> None:
    failed = await _failure(minio.options(f"test-{uuid.uuid4()}", **changed))
    assert isinstance(failed, ConfigurationError)
    assert "AKIDB_S3_ACCESS_KEY" in str(failed)
    assert "AKIDB_S3_SECRET_KEY" in str(failed)


@pytest.mark.s3
async def test_a_missing_bucket_names_the_setting_and_is_not_made_when_not_wanted(minio: Minio) -> None:
    bucket = f"test-{uuid.uuid4()}"
    for _ in range(2):
        failed = await _failure(minio.options(bucket, create_bucket=False))
        assert isinstance(failed, ConfigurationError)
        assert "AKIDB_S3_BUCKET" in str(failed)


@pytest.mark.s3
async def test_prefixes_keep_stores_apart(minio: Minio) -> None:
    bucket = f"test-{uuid.uuid4()}"
    stores = [S3Store(minio.options(bucket, prefix)) for prefix in ("", "one", "/one/two/")]
    for store in stores:
        assert (await store.put_if_absent("wal/1", store.location.encode())).ok
    for store in stores[1:]:
        assert (await store.get("wal/1")).body == store.location.encode()
    assert [info.key async for info in stores[0].list_from("")] == ["one/two/wal/1", "one/wal/1", "wal/1"]
    assert [info.key async for info in stores[2].list_from("")] == ["wal/1"]
    for store in stores:
        await store.close()


@pytest.mark.s3
async def test_encryption_is_asked_for_on_every_write(minio: Minio) -> None:
    """This MinIO has no key service, so it refuses; a write without the header would pass."""
    async with _opened(minio.options(f"test-{uuid.uuid4()}", encryption="sse-s3")) as store:
        for body in (b"small", bytes(17 << 20)):
            with pytest.raises(ConfigurationError, match="KMS"):
                await store.put("a", body)


async def test_kms_key_is_named() -> None:
    seen: dict[str, str] = {}

    def answer(method: str, target: str, headers: dict[str, str]) -> Answer:
        if method == "PUT":
            seen.update(headers)
        return EMPTY_LIST if method == "GET" else (200, {"ETag": '"e"'}, b"")

    async with scripted_s3(answer) as endpoint:
        options = _options(endpoint, encryption="sse-kms", kms_key_id="key-1")
        async with _opened(options) as store:
            assert (await store.put_if_absent("a", b"x")).etag == '"e"'
    assert seen["x-amz-server-side-encryption"] == "aws:kms"
    assert seen["x-amz-server-side-encryption-aws-kms-key-id"] == "key-1"
    assert seen["if-none-match"] == "*"
    assert "expect" not in seen  # the body goes at once, not a round trip later


@pytest.mark.s3
async def test_reads_outlive_a_restart_of_the_store(tmp_path: Path) -> None:
    with running(Minio(tmp_path)) as minio:
        store = RetryingStore(
            S3Store(minio.options("akidb")), Backoff(max_attempts=100, initial_backoff_ms=10, max_backoff_ms=500)
        )
        assert (await store.put_if_absent("a", b"kept")).ok
        minio.kill()
        with pytest.raises(UnavailableError, match="AKIDB_S3_ENDPOINT"):
            await store.put_if_absent("b", b"x")
        reading = asyncio.create_task(store.get("a"))
        await asyncio.to_thread(minio.start)
        assert (await reading).body == b"kept"
        await store.close()


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("XAdminUserNotFound", "AKIDB_S3_ACCESS_KEY and AKIDB_S3_SECRET_KEY"),
        ("NoSuchBucket", "AKIDB_S3_BUCKET"),
        ("NoSuchRoute", "AKIDB_S3_ENDPOINT should be"),
        ("InvalidBucketName", "correct AKIDB_S3_BUCKET"),
    ],
)
async def test_not_every_404_is_a_missing_object(code: str, says: str) -> None:
    """A strong read would take it for the end of the log."""
    missing = "NoSuchKey"

    def answer(method: str, target: str, headers: dict[str, str]) -> Answer:
        return EMPTY_LIST if "list-type" in target else s3_error(404, missing)

    async with scripted_s3(answer) as endpoint, _opened(_options(endpoint)) as store:
        assert (await store.get("a")).status is Status.NOT_FOUND
        missing = code
        for call in (store.get("a"), store.put_if_match("a", b"x", '"e"')):
            with pytest.raises(ConfigurationError, match=says):
                await call


async def test_a_store_that_is_away_names_the_endpoint() -> None:
    failed = await _failure(_options(f"http://127.0.0.1:{free_port()}"))
    assert isinstance(failed, UnavailableError)
    assert "AKIDB_S3_ENDPOINT" in str(failed)


@pytest.mark.parametrize(("silent", "size"), [("GET", 1), ("PUT", 1), ("PUT", 12 << 20)])
async def test_a_stalled_store_is_given_up(silent: str, size: int) -> None:
    """With the large body the kernel's buffers fill, so the request is never sent to its end."""
    stalled = scripted_s3(lambda method, *_: None if method == silent else EMPTY_LIST)
    async with asyncio.timeout(60), stalled as endpoint, _opened(_options(endpoint, **_SHORT)) as store:
        with pytest.raises(UnavailableError, match="did not answer"):
            await store.put_if_absent("a", bytes(size))


async def test_a_stalled_part_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_multipart, "_PART_BYTES", 64 << 20)  # more than the kernel's buffers take
    started = b"<InitiateMultipartUploadResult><UploadId>u1</UploadId></InitiateMultipartUploadResult>"

    def answer(method: str, target: str, headers: dict[str, str]) -> Answer | None:
        return {"PUT": None, "POST": (200, {}, started)}.get(method, EMPTY_LIST)

    async with asyncio.timeout(60), scripted_s3(answer) as endpoint, _opened(_options(endpoint, **_SHORT)) as store:
        with pytest.raises(UnavailableError, match="did not answer"):
            await store.put("seg/1", bytes(64 << 20))


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (409, "ConditionalRequestConflict", Status.CONFLICT),
        (409, "OperationAborted", Status.CONFLICT),
        (412, "PreconditionFailed", Status.CONDITION_FAILED),
        (404, "NoSuchKey", Status.NOT_FOUND),
        (500, "InternalError", UnavailableError),
        (503, "SlowDown", UnavailableError),
        (429, "TooManyRequests", UnavailableError),
        (400, "RequestTimeout", UnavailableError),
        (507, "XMinioStorageFull", StorageFullError),
        (403, "AccessDenied", ConfigurationError),
        (403, "RequestTimeTooSkewed", ConfigurationError),
        (400, "ExpiredToken", ConfigurationError),
        (403, "InvalidTokenId", ConfigurationError),
        (400, "AuthorizationHeaderMalformed", ConfigurationError),
        (501, "NotImplemented", ConfigurationError),
        (404, "NoSuchBucket", ConfigurationError),
    ],
)
async def test_answers_are_told_from_failures(status: int, code: str, expected: Status | type[AkiDBError]) -> None:
    puts = 0

    def answer(method: str, target: str, headers: dict[str, str]) -> Answer:
        nonlocal puts
        puts += method == "PUT"
        return s3_error(status, code) if method == "PUT" else EMPTY_LIST

    async with scripted_s3(answer) as endpoint, _opened(_options(endpoint)) as store:
        if isinstance(expected, Status):
            assert (await store.put_if_match("a", b"x", '"e"')).status is expected
        else:
            with pytest.raises(expected):
                await store.put_if_match("a", b"x", '"e"')
    assert puts == 1  # the library repeats nothing by itself


@pytest.mark.parametrize("date", ["yesterday", "Mon, 99 Foo 2026", ""])
async def test_a_garbled_date_is_no_date(date: str) -> None:
    dated = scripted_s3(lambda *_: (200, {"Date": date, "ETag": '"e"'}, EMPTY_LIST[2]))
    async with dated as endpoint, _opened(_options(endpoint)) as store:
        reply = await store.get("a")
        assert (reply.status, reply.date, reply.last_modified) == (Status.OK, None, None)


async def test_a_body_cut_short_is_a_failure_not_an_answer() -> None:
    def answer(method: str, target: str, headers: dict[str, str]) -> Answer:
        return EMPTY_LIST if "list-type" in target else (200, {"Content-Length": "100", "ETag": '"e"'}, b"only this")

    async with scripted_s3(answer) as endpoint, _opened(_options(endpoint)) as store:
        with pytest.raises(UnavailableError):
            await store.get("a")


async def test_a_failed_part_ends_the_upload() -> None:
    asked: list[str] = []

    def answer(method: str, target: str, headers: dict[str, str]) -> Answer:
        asked.append(f"{method} {target.partition('?')[2]}")
        if method == "POST":
            return 200, {}, b"<InitiateMultipartUploadResult><UploadId>u1</UploadId></InitiateMultipartUploadResult>"
        return s3_error(503, "SlowDown") if method == "PUT" else EMPTY_LIST

    async with scripted_s3(answer) as endpoint, _opened(_options(endpoint)) as store:
        with pytest.raises(UnavailableError):
            await store.put("seg/1", bytes(20 << 20))
    assert asked[-1] == "DELETE uploadId=u1"


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="this system has no files in memory")
async def test_with_every_disk_full_a_copy_is_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(Path, "write_bytes", full)
    found = scripted_s3(lambda _, target, __: EMPTY_LIST if "list-type" in target else (200, {"ETag": '"e"'}, b"body"))
    async with found as endpoint, _opened(_options(endpoint)) as store:
        path = await store.local_path("seg/1")
        assert path is not None
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            assert mapped[:] == b"body"
    assert not path.exists()


@pytest.mark.parametrize(
    ("code", "expected"), [("AccessDenied", ConfigurationError), ("InternalError", UnavailableError)]
)
async def test_a_key_that_was_not_deleted_is_a_failure(code: str, expected: type[AkiDBError]) -> None:
    error = f"<Error><Key>a</Key><Code>{code}</Code><Message>scripted</Message></Error>"
    told: Answer = (200, {}, f"<DeleteResult>{error}</DeleteResult>".encode())
    scripted = scripted_s3(lambda method, *_: told if method == "POST" else EMPTY_LIST)
    async with scripted as endpoint, _opened(_options(endpoint)) as store:
        with pytest.raises(expected, match=code):
            await store.delete_many(["a"])
