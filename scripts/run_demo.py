"""`make run`: akidb-api with the sample in it, three searches to repeat, and the service in the foreground.

It is configured as akidb-api is (AKIDB_BIND_ADDRESS, AKIDB_DATA_DIR and so on). Ctrl-C drains and stops.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from akidb.config import Settings, host_and_port, load
from akidb.errors import AkiDBError

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = Path("sample/debian-packages.parquet")
SEARCHES = {
    "a small web server": Path("sample/searches/a-small-web-server.json"),
    "chess game with graphics": Path("sample/searches/chess-game-with-graphics.json"),
    "password manager, at most 1 MiB installed": Path("sample/searches/small-password-manager.json"),
}
COLLECTION = "packages"
READY_SECS = 60
STOP_SECS = 30

# Loopback never goes through a proxy, whatever the environment says.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def main() -> int:
    os.chdir(ROOT)  # curl's @sample/... is relative to it
    os.environ.setdefault("AKIDB_API_DRAIN_DELAY_SECS", "0")  # no load balancer watches a demo
    try:
        settings = load().settings
    except AkiDBError as error:
        return _fail(str(error))
    host, port = host_and_port(settings.api.bind_address)
    if problem := _port_problem(host, port):
        return _fail(problem)
    address = f"http://{_reachable(host)}:{port}"
    with _service() as service:
        try:
            if not _wait_ready(service, address):
                return service.returncode or _fail(f"akidb-api is not ready after {READY_SECS} s")
            if not _ingest(address, settings):
                return 1
            for text, body in SEARCHES.items():
                _show(address, settings, text, body)
            print(f"\nThe curl commands work in another terminal, in {ROOT}.")
            print(f"AkiDB answers at {address} (documentation: {address}/docs). Ctrl-C stops it.", flush=True)
            return service.wait()
        except KeyboardInterrupt:
            print("\nstopping: requests under way are finished first", flush=True)
            return 0


@contextlib.contextmanager
def _service() -> Iterator[subprocess.Popen[bytes]]:
    """akidb-api in a session of its own, so that Ctrl-C reaches it once, from here."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    command = [sys.executable, "-m", "akidb.cli.api"]
    service = subprocess.Popen(command, start_new_session=True, stdin=subprocess.DEVNULL)
    try:
        yield service
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        service.terminate()
        try:
            service.wait(STOP_SECS)
        except subprocess.TimeoutExpired:
            service.kill()


def _port_problem(host: str, port: int) -> str | None:
    """Asked before the start: a service that is there already would otherwise answer in place of ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                another = f"AKIDB_BIND_ADDRESS={host}:{port + 1} make run"
                return f"port {port} on {host} is in use; stop what listens there, or take another: {another}"
            return f"cannot listen on {host}:{port}: {error.strerror}"
    return None


def _reachable(host: str) -> str:
    if host in ("0.0.0.0", "::", ""):
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def _wait_ready(service: subprocess.Popen[bytes], address: str) -> bool:
    deadline = time.monotonic() + READY_SECS
    while service.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError, urllib.error.URLError):
            _direct.open(f"{address}/health/ready", timeout=5).close()
            return True
        time.sleep(0.05)
    return False


def _request(address: str, settings: Settings, path: str, body: bytes) -> Any:
    headers = {"Content-Type": "application/json"}
    if settings.auth.enabled:
        headers["X-API-Key"] = settings.auth.api_keys[0]
    with _direct.open(urllib.request.Request(address + path, body, headers), timeout=30) as answer:
        return json.load(answer)


def _ingest(address: str, settings: Settings) -> bool:
    """The sample into its collection, unless it is there: a run that was stopped goes on where it was."""
    rows = pq.read_metadata(PACKAGES).num_rows
    try:
        there = _request(address, settings, f"/collections/{COLLECTION}/count", b"{}")["count"]
    except urllib.error.HTTPError:
        there = 0
    if there >= rows:
        print(f"the sample is there: {there:,} packages in collection {COLLECTION!r}")
        return True
    source = ["--file", str(PACKAGES), "--id-column", "name", "--vector-column", "embedding"]
    command = [
        sys.executable,
        "-m",
        "akidb.cli.ingest",
        *source,
        "--collection",
        COLLECTION,
        "--create",
        "--to",
        address,
    ]
    keys = {"AKIDB_API_KEY": settings.auth.api_keys[0]} if settings.auth.enabled else {}
    return subprocess.run([*command, "--batch-size", "250"], env=os.environ | keys, check=False).returncode == 0


def _show(address: str, settings: Settings, text: str, body: Path) -> None:
    path = f"/collections/{COLLECTION}/search"
    answer = _request(address, settings, path, body.read_bytes())
    print(f"\n{text}")
    for hit in answer["results"]:
        print(f"  {hit['score']:.3f}  {hit['id']:28} {hit['payload']['summary']}")
    # The key is the reader's to fill in: it is not printed.
    key = ' -H "X-API-Key: $AKIDB_API_KEY"' if settings.auth.enabled else ""
    print(f"  curl -s {shlex.quote(address + path)} -H 'Content-Type: application/json'{key} -d @{body}", flush=True)


def _fail(message: str) -> int:
    print(f"make run: {message}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
