"""akidb-api as a process of its own, for tests that need a whole node."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.servers import free_port

START_SECS_MAX = 60
PATIENCE_SECS = 60.0
CLUSTER_TOKEN = "one-token-of-all-nodes"


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

    def metric(self, name: str, **labels: str) -> float:
        """What the metric counts, over all labels but those given."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("GET", "/metrics")
            lines = connection.getresponse().read().decode().splitlines()
        finally:
            connection.close()
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        found = [line for line in lines if re.match(rf"{name}[ {{]", line) and all(text in line for text in wanted)]
        return sum(float(line.rpartition(" ")[2]) for line in found)


class Process:
    """An akidb-api on a port of its own, which may be killed, stood still and started again. Logs into `folder`.

    `environment` may be changed before a start.
    """

    def __init__(self, environment: dict[str, str], folder: Path, *, module: str = "akidb.cli.api") -> None:
        self.node = Node(free_port())
        self.environment = {**os.environ, "AKIDB_API_DRAIN_DELAY_SECS": "0", **environment}
        self._command = [sys.executable, "-m", module, "--bind", f"127.0.0.1:{self.node.port}"]
        self._log = folder / f"node-{self.node.port}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, env=self.environment, stdout=log, stderr=subprocess.STDOUT)

    def wait_ready(self) -> None:
        assert self._process is not None
        until = time.monotonic() + START_SECS_MAX
        while True:
            assert self._process.poll() is None, self._log.read_text()
            try:
                if self.node.call("GET", "/health/ready")[0] == 200:
                    return
            except OSError:
                pass
            assert time.monotonic() < until, self._log.read_text()
            time.sleep(0.05)

    @property
    def is_dead(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def join(self, address: str | None = None, token: str = CLUSTER_TOKEN) -> None:
        """From the next start on it is a node of a cluster, reached at `address`."""
        own = address or f"http://127.0.0.1:{self.node.port}"
        self.environment.update(AKIDB_CLUSTER_NODE_ADDRESS=own, AKIDB_CLUSTER_TOKEN=token)

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> int:
        """Asks it to end; its exit status."""
        self.signal(signal.SIGTERM)
        assert self._process is not None
        return self._process.wait(timeout=28)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def until(what: Callable[[], bool]) -> None:
    """Waits for what nodes will be seen to do."""
    end = time.monotonic() + PATIENCE_SECS
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


@contextmanager
def running(environment: dict[str, str], folder: Path) -> Iterator[Node]:
    process = Process(environment, folder)
    process.start()
    try:
        process.wait_ready()
        yield process.node
        assert process.stop() == 0
    finally:
        process.kill()
