"""MinIO, and toxiproxy before it, for benchmarks: started on free ports, stopped by their process ids."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

KEY, SECRET = "akidb-bench", "akidb-bench-secret"
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _binary(name: str) -> str:
    """`name` on PATH, or what scripts/build-s3-servers.sh made."""
    built = Path(os.environ.get("AKIDB_TOOLS_DIR") or Path.home() / ".cache/akidb/bin") / name
    found = shutil.which(name) or (str(built) if built.exists() else None)
    if found is None:
        raise SystemExit(f"no {name}: run scripts/build-s3-servers.sh")
    return found


def free_port() -> int:
    """One that no connection is given as its own end, which could take it before the server starts."""
    while True:
        port = random.SystemRandom().randrange(10_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@contextmanager
def _running(command: list[str], health: str, **variables: str) -> Iterator[None]:
    server = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, **variables}
    )
    try:
        end = time.monotonic() + 60
        while True:
            try:
                _DIRECT.open(health, timeout=5).close()
                break
            except OSError:
                if server.poll() is not None or time.monotonic() > end:
                    raise SystemExit(f"{command[0]} did not start") from None
                time.sleep(0.05)
        yield
    finally:
        server.terminate()
        server.wait(20)


@contextmanager
def minio(folder: Path) -> Iterator[str]:
    """The URL of a MinIO over `folder`."""
    endpoint = f"http://127.0.0.1:{(port := free_port())}"
    command = [_binary("minio"), "server", str(folder), "--quiet"]
    command += ["--address", f"127.0.0.1:{port}", "--console-address", f"127.0.0.1:{free_port()}"]
    keys = {"MINIO_ROOT_USER": KEY, "MINIO_ROOT_PASSWORD": SECRET, "MINIO_BROWSER": "off", "MINIO_UPDATE": "off"}
    with _running(command, f"{endpoint}/minio/health/live", **keys):
        yield endpoint


@contextmanager
def delayed(endpoint: str, latency_ms: int) -> Iterator[str]:
    """The URL of a toxiproxy that lets every answer of `endpoint` wait."""
    control, port = f"http://127.0.0.1:{(control_port := free_port())}", free_port()
    command = [_binary("toxiproxy"), "-host", "127.0.0.1", "-port", str(control_port)]
    with _running(command, f"{control}/version"):
        _post(control, "/proxies", name="s3", listen=f"127.0.0.1:{port}", upstream=endpoint.removeprefix("http://"))
        latency = {"latency": latency_ms}
        _post(control, "/proxies/s3/toxics", name="l", type="latency", stream="downstream", attributes=latency)
        yield f"http://127.0.0.1:{port}"


def _post(control: str, path: str, **body: object) -> None:
    _DIRECT.open(urllib.request.Request(control + path, json.dumps(body).encode(), method="POST"), timeout=5).close()
