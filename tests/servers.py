"""Real servers for tests: started on free loopback ports, stopped by the process id they were started with."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from akidb.storage.s3_client import S3Options

_START_SECS = 60.0
_POLL_SECS = 0.05
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback never goes through a proxy


def minio_binary() -> Path:
    """AKIDB_TEST_MINIO, else `minio` on PATH, else what scripts/build-minio.sh made. Missing: skips, under CI=true
    fails."""
    built = Path(os.environ.get("AKIDB_TOOLS_DIR") or Path.home() / ".cache/akidb/bin") / "minio"
    for candidate in (os.environ.get("AKIDB_TEST_MINIO"), shutil.which("minio"), built):
        if candidate and os.access(candidate, os.X_OK):
            return Path(candidate)
    missing = "no MinIO: run scripts/build-minio.sh, or set AKIDB_TEST_MINIO to the binary"
    if os.environ.get("CI") == "true":
        pytest.fail(missing)
    pytest.skip(missing)


class Minio:
    """One MinIO server over `folder`. `kill` and `start` again give the same address and data."""

    access_key = "akidb-test"
    secret_key = "akidb-test-secret"

    def __init__(self, folder: Path) -> None:
        self._binary = minio_binary()
        self._folder = folder
        self._log = folder / "minio.log"
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def options(self, bucket: str, prefix: str = "", **changed: object) -> S3Options:
        keys = {"access_key": self.access_key, "secret_key": self.secret_key}
        return S3Options(**{"bucket": bucket, "endpoint": self.endpoint, "prefix": prefix, **keys, **changed})

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
        raise RuntimeError(f"MinIO did not start: {self._log.read_text(errors='replace')[-2000:]}")

    def _spawn(self) -> None:
        settings = {
            "MINIO_ROOT_USER": self.access_key,
            "MINIO_ROOT_PASSWORD": self.secret_key,
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",
        }
        command = [self._binary, "server", self._folder / "data", "--address", f"127.0.0.1:{self._port}", "--quiet"]
        command += ["--console-address", f"127.0.0.1:{free_port()}"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **settings})

    def _healthy(self) -> bool:
        assert self._process is not None
        end = time.monotonic() + _START_SECS
        while time.monotonic() < end and self._process.poll() is None:
            try:
                with _DIRECT.open(f"{self.endpoint}/minio/health/live", timeout=5):
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


@contextmanager
def running_minio(folder: Path) -> Iterator[Minio]:
    server = Minio(folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


Answer = tuple[int, dict[str, str], bytes]
"""Status, headers and body that a scripted store sends."""

EMPTY_LIST: Answer = (200, {}, b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")


def s3_error(status: int, code: str) -> Answer:
    return status, {}, f"<Error><Code>{code}</Code><Message>scripted</Message></Error>".encode()


@asynccontextmanager
async def scripted_s3(answer: Callable[[str, str, dict[str, str]], Answer | None]) -> AsyncIterator[str]:
    """The URL of a store that says what `answer(method, target, headers)` returns; None: it never answers.

    A Content-Length header in the answer is sent as it is, so a body can be cut short.
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
            writer.write(f"HTTP/1.1 {status} scripted\r\n{lines}\r\n".encode() + body)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client gave up
        finally:
            writer.close()

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        closing.set()
        await asyncio.gather(*serving)
