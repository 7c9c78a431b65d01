"""A bucket that can't be used: the message names the setting to change, and nothing is written. On real servers."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

import akidb
from akidb.cli.akidb import main
from akidb.codec import encode
from akidb.codec.frame import KIND_FORMAT
from akidb.config import Settings
from akidb.database.format import StoreFormat
from akidb.errors import AkiDBError, ConfigurationError
from akidb.storage.keys import FORMAT_KEY
from akidb.storage.s3 import S3Store
from tests.servers import S3Server

pytestmark = pytest.mark.s3


@pytest.fixture(params=["minio", "versitygw"])
def server(request: pytest.FixtureRequest) -> S3Server:
    found: S3Server = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def bucket() -> str:
    return f"bad-world-{uuid.uuid4()}"


@asynccontextmanager
async def _opened(server: S3Server, bucket: str, prefix: str = "") -> AsyncIterator[S3Store]:
    store = S3Store(server.options(bucket, prefix))
    try:
        yield store
    finally:
        await store.close()


async def _keys(server: S3Server, bucket: str) -> list[tuple[str, int, str | None]]:
    async with _opened(server, bucket) as store:
        return [(info.key, info.size, info.etag) async for info in store.list_from("")]


async def _refusal(where: str, settings: Settings) -> AkiDBError:
    with pytest.raises(AkiDBError) as refused:
        await akidb.connect_async(where, settings=settings)
    assert (settings.storage.s3_secret_key or "no secret") not in str(refused.value)
    return refused.value


@pytest.mark.parametrize("key", ["s3_access_key", "s3_secret_key"])
async def test_wrong_keys(server: S3Server, bucket: str, tmp_path: Path, key: str) -> None:
    before = await _keys(server, bucket)
    settings = server.settings(tmp_path)
    wrong = replace(settings, storage=replace(settings.storage, **{key: "somebody-else"}))
    refused = await _refusal(f"s3://{bucket}", wrong)
    assert isinstance(refused, ConfigurationError)
    assert "AKIDB_S3_ACCESS_KEY and AKIDB_S3_SECRET_KEY" in str(refused)
    assert await _keys(server, bucket) == before == []


async def test_no_bucket_and_none_is_to_be_made(server: S3Server, bucket: str, tmp_path: Path) -> None:
    settings = server.settings(tmp_path)
    settings = replace(settings, storage=replace(settings.storage, create_bucket=False))
    refused = await _refusal(f"s3://{bucket}", settings)
    assert isinstance(refused, ConfigurationError)
    assert "AKIDB_S3_BUCKET" in str(refused)
    assert bucket in str(refused)
    again = await _refusal(f"s3://{bucket}", settings)
    assert "AKIDB_S3_BUCKET" in str(again), "the first try made it"


async def _told(server: S3Server, bucket: str, tmp_path: Path, *command: str, create: bool = True) -> tuple[int, str]:
    """The exit status and the output of a command over this bucket."""
    storage = server.settings(tmp_path).storage
    environ = {
        "AKIDB_S3_ENDPOINT": storage.s3_endpoint, "AKIDB_S3_ACCESS_KEY": storage.s3_access_key,
        "AKIDB_S3_SECRET_KEY": storage.s3_secret_key, "AKIDB_S3_BUCKET": bucket,
        "AKIDB_CACHE_HOT_PATH": str(tmp_path), "AKIDB_STORAGE_CREATE_BUCKET": str(create).lower(),
    }  # fmt: skip
    ran = await asyncio.to_thread(CliRunner().invoke, main, command, env=environ)
    return ran.exit_code, ran.output


async def test_who_only_looks_makes_no_bucket(server: S3Server, bucket: str, tmp_path: Path) -> None:
    settings = server.settings(tmp_path)
    with pytest.raises(ConfigurationError, match=bucket):
        await akidb.connect_async(f"s3://{bucket}", settings=settings, read_only=True)
    assert settings.storage.create_bucket
    for command in (["fsck"], ["store", "gc"]):
        exit_code, told = await _told(server, bucket, tmp_path, *command)
        assert exit_code == 2
        assert f"there is no bucket '{bucket}'" in told
    exit_code, told = await _told(server, bucket, tmp_path, "doctor")
    assert (exit_code, told.splitlines()[-1]) == (
        0, f"ok   store: there is no bucket '{bucket}' yet; the first start makes it, if its keys may"
    )  # fmt: skip
    exit_code, told = await _told(server, bucket, tmp_path, "doctor", create=False)
    assert exit_code == 1
    assert f"there is no bucket '{bucket}'; create it or correct AKIDB_S3_BUCKET" in told
    unmade = replace(settings, storage=replace(settings.storage, create_bucket=False))
    assert "there is no bucket" in str(await _refusal(f"s3://{bucket}", unmade))


async def test_foreign_objects_below_the_prefix(server: S3Server, bucket: str, tmp_path: Path) -> None:
    async with _opened(server, bucket) as store:
        await store.put("holiday/beach.jpg", b"sand")
    before = await _keys(server, bucket)
    for where in (f"s3://{bucket}", f"s3://{bucket}/holiday"):
        refused = await _refusal(where, server.settings(tmp_path))
        assert refused.code == "not_a_store"
        assert "beach.jpg" in str(refused)
        assert "AKIDB_S3_BUCKET" in str(refused)
        assert "AKIDB_S3_PREFIX" in str(refused)
    assert await _keys(server, bucket) == before
    beside = await akidb.connect_async(f"s3://{bucket}/vectors", settings=server.settings(tmp_path))
    await beside.close()


async def test_a_newer_format(server: S3Server, bucket: str, tmp_path: Path) -> None:
    newer = StoreFormat(uuid.uuid4(), min_reader=2, min_writer=2)
    async with _opened(server, bucket) as store:
        await store.put(FORMAT_KEY, encode(KIND_FORMAT, newer.store, {"format": msgspec.json.encode(newer)}))
    before = await _keys(server, bucket)
    refused = await _refusal(f"s3://{bucket}", server.settings(tmp_path))
    assert refused.code == "newer_format"
    assert "format 2" in str(refused)
    assert "upgrade AkiDB" in str(refused)
    assert await _keys(server, bucket) == before


@pytest.mark.parametrize("lacking", ["Get", "Put", "Delete", "List"])
async def test_keys_that_lack_a_right(minio: S3Server, bucket: str, tmp_path: Path, lacking: str) -> None:
    """Their policy is that of the store's own security token service."""
    async with _opened(minio, bucket) as store:
        await store.put("x", b"makes the bucket")
        await store.delete_many(["x"])
    actions = {"Get": "s3:GetObject", "Put": "s3:PutObject", "Delete": "s3:DeleteObject", "List": "s3:ListBucket"}
    del actions[lacking]
    statement = [{"Effect": "Allow", "Action": list(actions.values()), "Resource": ["arn:aws:s3:::*"]}]
    keys = await _temporary_keys(minio, json.dumps({"Version": "2012-10-17", "Statement": statement}))
    settings = minio.settings(tmp_path)
    refused = await _refusal(f"s3://{bucket}", replace(settings, storage=replace(settings.storage, **keys)))
    assert isinstance(refused, ConfigurationError)
    assert f"AKIDB_S3_ACCESS_KEY lacks the right {lacking}" in str(refused)
    assert "it needs Get, Put, Delete and List" in str(refused)
    left = [key.partition("/")[0] for key, *_ in await _keys(minio, bucket)]
    assert left == (["probe"] if lacking == "Delete" else [])


async def _temporary_keys(server: S3Server, policy: str) -> dict[str, str]:
    from aiobotocore.session import get_session

    session = get_session()
    async with session.create_client(
        "sts",
        endpoint_url=server.endpoint,
        region_name="us-east-1",
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
    ) as client:
        given = (await client.assume_role(RoleArn="arn:x:ignored:by:minio:", RoleSessionName="reader", Policy=policy))[
            "Credentials"
        ]
    return {
        "s3_access_key": given["AccessKeyId"],
        "s3_secret_key": given["SecretAccessKey"],
        "s3_session_token": given["SessionToken"],
    }
