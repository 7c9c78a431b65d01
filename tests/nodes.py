"""akidb-api as a process of its own, for tests that need a whole node."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.servers import free_port

START_SECS_MAX = 60


class Node:
    """One running akidb-api."""

    def __init__(self, port: int) -> None:
        self.port = port

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(
                method, path, None if body is None else json.dumps(body), {"Content-Type": "application/json"}
            )
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if text else None
        finally:
            connection.close()


@contextmanager
def running(environment: dict[str, str], folder: Path) -> Iterator[Node]:
    port = free_port()
    with open(folder / f"node-{port}.log", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "akidb.cli.api", "--bind", f"127.0.0.1:{port}"],
            env={**os.environ, "AKIDB_API_DRAIN_DELAY_SECS": "0", **environment},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_ready(Node(port), process, folder / f"node-{port}.log")
        yield Node(port)
        process.terminate()
        assert process.wait(timeout=28) == 0
    finally:
        process.kill()
        process.wait()


def wait_ready(node: Node, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + START_SECS_MAX
    while True:
        assert process.poll() is None, log.read_text()
        try:
            if node.call("GET", "/health/ready")[0] == 200:
                return
        except OSError:
            pass
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.05)
