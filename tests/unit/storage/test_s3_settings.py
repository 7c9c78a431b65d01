"""What the settings of an S3 store do, on the wire and to real servers."""

from __future__ import annotations

import asyncio
import base64
import datetime
import hashlib
import json
import os
import socket
import ssl
import subprocess
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from akidb.errors import ConfigurationError
from akidb.storage.s3 import S3Store
from akidb.storage.s3_client import Retention, S3Options
from tests.servers import EMPTY_LIST, Answer, S3Server, Versitygw, running, scripted_s3

_LOCKED = b"<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>"
_UPLOAD = b"<InitiateMultipartUploadResult><UploadId>u1</UploadId></InitiateMultipartUploadResult>"


@dataclass
class _Wire:
    """Requests as they arrived: "METHOD target" and headers."""

    seen: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def answer(self, method: str, target: str, headers: dict[str, str]) -> Answer:
        self.seen.append((f"{method} {target}", headers))
        if method == "GET":
            return (200, {}, _LOCKED) if "object-lock" in target else EMPTY_LIST
        if method == "POST" and target.endswith("uploads"):
            return 200, {}, _UPLOAD
        return 200, {"ETag": '"e"'}, b"<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>"

    def headers(self, start: str) -> list[dict[str, str]]:
        return [headers for request, headers in self.seen if request.startswith(start)]


@asynccontextmanager
async def _opened(options: S3Options) -> AsyncIterator[S3Store]:
    store = S3Store(options)
    try:
        yield store
    finally:
        await store.close()


def _options(endpoint: str, **changed: Any) -> S3Options:
    return S3Options(**{"bucket": "akidb", "endpoint": endpoint, "access_key": "k", "secret_key": "s", **changed})


async def _write_everything(store: S3Store) -> None:
    await store.put("seg/small", b"x")
    await store.put("t/seg/large", bytes(17 << 20))
    await store.put_if_absent("t/wal/1", b"x")
    await store.put_if_match("t/head", b"x", '"e"')


@pytest.mark.parametrize(
    ("addressing", "host", "target"),
    [
        ("auto", "s3.test", "/akidb/a"),
        ("path", "s3.test", "/akidb/a"),
        ("virtual", "akidb.s3.test", "/a"),
    ],
)
async def test_the_bucket_goes_into_the_path_or_the_host(
    monkeypatch: pytest.MonkeyPatch, addressing: str, host: str, target: str
) -> None:
    asked: list[str] = []
    resolve = socket.getaddrinfo

    def at_home(name: Any, *rest: Any, **options: Any) -> Any:
        asked.append(name)
        return resolve("127.0.0.1" if str(name).endswith("s3.test") else name, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", at_home)
    wire = _Wire()
    async with scripted_s3(wire.answer) as endpoint:
        at = endpoint.replace("127.0.0.1", "s3.test")
        async with _opened(_options(at, addressing=addressing)) as store:
            await store.put("a", b"x")
    (headers,) = wire.headers(f"PUT {target}")
    assert headers["host"].partition(":")[0] == host
    assert host in asked


def _authority(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """A certificate for 127.0.0.1 that nobody but itself signed, and a server's context with it."""
    certificate, key = folder / "ca.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", "/CN=akidb test"]
    subprocess.run([*command, "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return certificate, context


async def test_an_authority_of_ones_own_signs_the_endpoint(tmp_path: Path) -> None:
    certificate, context = _authority(tmp_path)
    quiet: Callable[..., None] = lambda *_: None  # noqa: E731  the refused handshake is the client's wish
    asyncio.get_running_loop().set_exception_handler(quiet)
    async with scripted_s3(_Wire().answer, tls=context) as endpoint:
        async with _opened(_options(endpoint, ca_file=str(certificate))) as store:
            assert (await store.put("a", b"x")).ok
        async with _opened(_options(endpoint)) as store:
            with pytest.raises(ConfigurationError, match="AKIDB_S3_CA_FILE"):
                await store.put("a", b"x")


@pytest.mark.parametrize("content", [None, "no certificate"])
async def test_a_ca_file_that_is_none_is_named(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    async with _opened(_options("https://127.0.0.1:1", ca_file=str(path))) as store:
        with pytest.raises(ConfigurationError, match=f"AKIDB_S3_CA_FILE '{path}'"):
            await store.get("a")


async def test_a_session_token_is_sent(tmp_path: Path) -> None:
    wire = _Wire()
    async with scripted_s3(wire.answer) as endpoint, _opened(_options(endpoint, session_token="tok")) as store:
        await store.put("a", b"x")
    assert {headers.get("x-amz-security-token") for _, headers in wire.seen} == {"tok"}


_ROLE = """<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>
<AccessKeyId>FROMWEB</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>web-token</SessionToken>
<Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleWithWebIdentityResult>
</AssumeRoleWithWebIdentityResponse>"""
_INSTANCE = {
    "Code": "Success", "AccessKeyId": "FROMINSTANCE", "SecretAccessKey": "s", "Token": "instance-token",
    "Expiration": "2099-01-01T00:00:00Z",
}  # fmt: skip


def _chain(method: str, target: str) -> Answer | None:
    """What a token service and an instance's metadata say."""
    if method == "POST" and target == "/":
        return 200, {"Content-Type": "text/xml"}, _ROLE.encode()
    if "/meta-data/iam/security-credentials/" in target:
        named = target.endswith("/security-credentials/")
        return 200, {}, b"role" if named else json.dumps(_INSTANCE).encode()
    return (200, {}, b"imds-token") if target == "/latest/api/token" else None


@pytest.mark.parametrize(
    ("source", "key", "token"),
    [
        ("environment", "FROMENV", "env-token"),
        ("shared file", "FROMFILE", None),
        ("web identity", "FROMWEB", "web-token"),
        ("instance", "FROMINSTANCE", "instance-token"),
    ],
)
async def test_without_keys_the_standard_chain_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, key: str, token: str | None
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    (tmp_path / "shared").write_text("[default]\naws_access_key_id = FROMFILE\naws_secret_access_key = s\n")
    (tmp_path / "identity").write_text("a token")
    wire = _Wire()
    async with scripted_s3(lambda *asked: _chain(*asked[:2]) or wire.answer(*asked)) as endpoint:
        variables = {
            "environment": {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": "s", "AWS_SESSION_TOKEN": str(token)},
            "shared file": {"AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "shared")},
            "web identity": {
                "AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "identity"),
                "AWS_ROLE_ARN": "arn:aws:iam::000000000000:role/akidb",
                "AWS_ENDPOINT_URL_STS": endpoint,
            },
            "instance": {"AWS_EC2_METADATA_SERVICE_ENDPOINT": endpoint},
        }[source]
        elsewhere = {"AWS_SHARED_CREDENTIALS_FILE": "/nowhere", "AWS_CONFIG_FILE": "/nowhere"}
        for name, value in (elsewhere | variables).items():
            monkeypatch.setenv(name, value)
        async with _opened(_options(endpoint, access_key=None, secret_key=None)) as store:
            assert (await store.put("a", b"x")).ok
    (headers,) = wire.headers("PUT")
    assert f"Credential={key}/" in headers["authorization"]
    assert headers.get("x-amz-security-token") == token


async def test_no_credentials_anywhere_name_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    bare = _options("http://127.0.0.1:1", access_key=None, secret_key=None)
    for profile in (None, "nobody"):
        if profile is not None:
            monkeypatch.setenv("AWS_PROFILE", profile)
        async with _opened(bare) as store:
            with pytest.raises(ConfigurationError, match="AKIDB_S3_ACCESS_KEY"):
                await store.get("a")


@pytest.mark.parametrize(
    ("options", "headers"),
    [
        ({"encryption": "sse-s3"}, {"x-amz-server-side-encryption": "AES256"}),
        (
            {"encryption": "sse-kms", "kms_key_id": "key-1"},
            {"x-amz-server-side-encryption": "aws:kms", "x-amz-server-side-encryption-aws-kms-key-id": "key-1"},
        ),
    ],
)
async def test_encryption_is_asked_for_on_every_write(options: dict[str, str], headers: dict[str, str]) -> None:
    wire = _Wire()
    async with scripted_s3(wire.answer) as endpoint, _opened(_options(endpoint, **options)) as store:
        await _write_everything(store)
    writes = wire.headers("PUT /akidb/seg") + wire.headers("PUT /akidb/t/wal") + wire.headers("PUT /akidb/t/head")
    writes += wire.headers("POST /akidb/t/seg/large?uploads")
    assert len(writes) == 4
    for sent in writes:
        assert sent.items() >= headers.items()


async def test_segments_and_only_they_are_locked() -> None:
    wire = _Wire()
    retention = Retention(7, "COMPLIANCE")
    async with scripted_s3(wire.answer) as endpoint, _opened(_options(endpoint, retention=retention)) as store:
        await _write_everything(store)
        await store.put("t/seg/small", b"body")
    (small,) = wire.headers("PUT /akidb/t/seg/small")
    (large,) = wire.headers("POST /akidb/t/seg/large?uploads")
    for sent in (small, large):
        assert sent["x-amz-object-lock-mode"] == "COMPLIANCE"
        until = datetime.datetime.fromisoformat(sent["x-amz-object-lock-retain-until-date"])
        left = until - datetime.datetime.now(datetime.UTC)
        assert datetime.timedelta(days=6, hours=23) < left <= datetime.timedelta(days=7)
    assert small["content-md5"] == base64.b64encode(hashlib.md5(b"body").digest()).decode()
    parts = wire.headers("PUT /akidb/t/seg/large?")
    assert len(parts) == 3
    assert all("content-md5" in part for part in parts)
    for other in wire.headers("PUT /akidb/t/wal") + wire.headers("PUT /akidb/t/head"):
        assert not [name for name in other if "object-lock" in name]


@pytest.mark.s3
async def test_a_locked_segment_outlives_its_deletion(minio: S3Server) -> None:
    retention = Retention(1, "COMPLIANCE")
    async with _opened(minio.options(f"test-{uuid.uuid4()}", retention=retention)) as store:
        for key, body in (("t/seg/small", b"segment"), ("t/seg/large", bytes(17 << 20))):
            assert (await store.put(key, body)).ok
            where = {"Bucket": store._options.bucket, "Key": key}
            held = await store._client.get_object_retention(**where)
            assert held["Retention"]["Mode"] == "COMPLIANCE"
            version = (await store._client.head_object(**where))["VersionId"]
            with pytest.raises(store._client.exceptions.ClientError, match=r"(?i)worm|protected|AccessDenied"):
                await store._client.delete_object(**where, VersionId=version)
            assert (await store.get(key)).body == body
        await store.put("t/wal/1", b"not locked")
        await store.delete_many(["t/wal/1"])


@pytest.mark.s3
async def test_a_bucket_without_object_lock_is_refused_before_anything_is_written(minio: S3Server) -> None:
    bucket = f"test-{uuid.uuid4()}"
    async with _opened(minio.options(bucket)) as plain:
        assert [info async for info in plain.list_from("")] == []
        async with _opened(minio.options(bucket, retention=Retention(1, "GOVERNANCE"))) as store:
            with pytest.raises(ConfigurationError, match="AKIDB_S3_OBJECT_LOCK_ENABLED"):
                await store.put("t/wal/1", b"x")
        assert [info async for info in plain.list_from("")] == []


@pytest.mark.s3
async def test_a_bucket_that_can_only_be_read_names_the_rights(tmp_path: Path) -> None:
    with running(Versitygw(tmp_path, "--readonly")) as server:
        (server.data / "akidb").mkdir()
        async with _opened(server.options("akidb")) as store:
            assert not (await store.get("a")).ok
            for put in (store.put("a", b"x"), store.put_if_absent("a", b"x")):
                with pytest.raises(
                    ConfigurationError, match=r"denied PutObject .*AKIDB_S3_ACCESS_KEY lacks the right Put; it needs"
                ):
                    await put
        assert list((server.data / "akidb").iterdir()) == []
