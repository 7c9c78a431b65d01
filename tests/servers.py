"""Real servers for tests: started on free loopback ports, stopped by the process id they were started with."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from akidb.config import Settings
from akidb.config.settings import Cache, Storage
from akidb.storage.s3_client import S3Options

_START_SECS = 60.0
_POLL_SECS = 0.05
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback never goes through a proxy


def binary(name: str) -> Path:
    """AKIDB_TEST_<NAME>, else `name` on PATH, else what scripts/build-s3-servers.sh made. Missing: skips, under CI=true
    fails."""
    variable = f"AKIDB_TEST_{name.upper()}"
    built = Path(os.environ.get("AKIDB_TOOLS_DIR") or Path.home() / ".cache/akidb/bin") / name
    for candidate in (os.environ.get(variable), shutil.which(name), built):
        if candidate and os.access(candidate, os.X_OK):
            return Path(candidate)
    missing = f"no {name}: run scripts/build-s3-servers.sh or install it, or set {variable} to the binary"
    if os.environ.get("CI") == "true":
        pytest.fail(missing)
    pytest.skip(missing)


class S3Server:
    """A server over `folder`; which one, subclasses say. `kill` and `start` again give the same address and data."""

    name: str
    health: str
    access_key = "akidb-test"
    secret_key = "akidb-test-secret"

    def __init__(self, folder: Path) -> None:
        self.binary = binary(self.name)
        self.data = folder / "data"
        self._log = folder / f"{self.name}.log"
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.data.mkdir(parents=True, exist_ok=True)

    def command(self, address: str) -> list[str | Path]:
        raise NotImplementedError

    def variables(self) -> dict[str, str]:
        raise NotImplementedError

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def options(self, bucket: str, prefix: str = "", **changed: object) -> S3Options:
        keys = {"access_key": self.access_key, "secret_key": self.secret_key}
        patient = {
            "connect_timeout_secs": 20.0,
            "read_timeout_secs": 30.0,
        }  # on a busy machine it may starve for a while
        return S3Options(
            **{"bucket": bucket, "endpoint": self.endpoint, "prefix": prefix, **keys, **patient, **changed}
        )

    def settings(self, cache: Path) -> Settings:
        """Settings that reach this server, with a file cache in the folder `cache`."""
        storage = Storage(s3_endpoint=self.endpoint, s3_access_key=self.access_key, s3_secret_key=self.secret_key)
        return Settings(storage=storage, cache=Cache(hot_path=str(cache)))

    def environment(self, bucket: str, prefix: str = "") -> dict[str, str]:
        """The variables that make an AkiDB process use this server."""
        return {
            "AKIDB_S3_ENDPOINT": self.endpoint,
            "AKIDB_S3_BUCKET": bucket,
            "AKIDB_S3_PREFIX": prefix,
            "AKIDB_S3_ACCESS_KEY": self.access_key,
            "AKIDB_S3_SECRET_KEY": self.secret_key,
        }

    def start(self) -> None:
        """Returns when it answers. A port that somebody took meanwhile is exchanged at the first start only."""
        for _ in range(5):
            self._spawn()
            if self._healthy():
                return
            self.kill()
            self._port = free_port()
        raise RuntimeError(f"{self.name} did not start: {self._log.read_text(errors='replace')[-2000:]}")

    def _spawn(self) -> None:
        command = self.command(f"127.0.0.1:{self._port}")
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **self.variables()})

    def _healthy(self) -> bool:
        assert self._process is not None
        end = time.monotonic() + _START_SECS
        while time.monotonic() < end and self._process.poll() is None:
            try:
                with DIRECT.open(f"{self.endpoint}{self.health}", timeout=5):
                    return True
            except OSError:  # refused, or 503 while it starts
                time.sleep(_POLL_SECS)
        return False

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """The server keeps its connections and answers nothing until `resume`."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        self._signal(number)
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


class Minio(S3Server):
    name = "minio"
    health = "/minio/health/live"

    def command(self, address: str) -> list[str | Path]:
        console = f"127.0.0.1:{free_port()}"
        return [self.binary, "server", self.data, "--address", address, "--console-address", console, "--quiet"]

    def variables(self) -> dict[str, str]:
        return {
            "MINIO_ROOT_USER": self.access_key,
            "MINIO_ROOT_PASSWORD": self.secret_key,
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",
        }


class Versitygw(S3Server):
    name = "versitygw"
    health = "/health"

    def __init__(self, folder: Path, *flags: str) -> None:
        super().__init__(folder)
        self._flags = flags

    def command(self, address: str) -> list[str | Path]:
        return [self.binary, "--port", address, "--health", self.health, "--quiet", *self._flags, "posix", self.data]

    def variables(self) -> dict[str, str]:
        return {"ROOT_ACCESS_KEY": self.access_key, "ROOT_SECRET_KEY": self.secret_key}


S3_SERVERS = (Minio, Versitygw)


@contextmanager
def running(server: S3Server) -> Iterator[S3Server]:
    server.start()
    try:
        yield server
    finally:
        server.stop()


def free_port() -> int:
    """One that no connection is given as its own end, on Linux from 32,768, else from 49,152: that could take it before
    the server starts, or while it is restarted."""
    while True:
        port = random.SystemRandom().randrange(10_000, 32_000)  # other processes choose too, from the same seed else
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


Answer = tuple[int, dict[str, str], bytes]
"""Status, headers and body that a scripted store sends."""

EMPTY_LIST: Answer = (200, {}, b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")


def s3_error(status: int, code: str) -> Answer:
    return status, {}, f"<Error><Code>{code}</Code><Message>scripted</Message></Error>".encode()


@asynccontextmanager
async def scripted_s3(
    answer: Callable[[str, str, dict[str, str]], Answer | None],
    *,
    tls: ssl.SSLContext | None = None,
    body_waits: asyncio.Event | None = None,
) -> AsyncIterator[str]:
    """The URL of a store that says what `answer(method, target, headers)` returns; None: it never answers.

    A Content-Length header in the answer is sent as it is, so a body can be cut short. No body is sent before
    `body_waits` is set.
    """

    closing = asyncio.Event()
    serving: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.create_task(serve(reader, writer)))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
            method, target, _ = head[0].split(" ")
            told = answer(method, target, headers)
            if told is None:
                await closing.wait()  # nobody reads on, so a large body gets stuck in the kernel's buffers
                return
            await reader.readexactly(int(headers.get("content-length", "0")))
            status, fields, body = told
            fields = {"Content-Length": str(len(body)), "Connection": "close", **fields}
            lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
            writer.write(f"HTTP/1.1 {status} scripted\r\n{lines}\r\n".encode())
            if body_waits is not None:
                await body_waits.wait()
            writer.write(body)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client gave up
        finally:
            writer.close()

    async with await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls) as server:
        yield f"http{'s' if tls else ''}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        closing.set()
        await asyncio.gather(*serving)
