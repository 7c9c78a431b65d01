"""Two akidb-api processes over one bucket: both write, and each sees at once what either acknowledged."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from akidb.config import Settings

DIM = 8
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


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


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
    finally:
        process.terminate()
        assert process.wait(timeout=28) == 0


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


def run(environment: dict[str, str], folder: Path) -> None:
    with ExitStack() as stack:
        nodes = [stack.enter_context(running(environment, folder)) for _ in range(2)]
        status, _ = nodes[0].call("POST", "/collections", {"name": "c", "vector_dim": DIM, "distance": "Euclidean"})
        assert status == 201
        take_turns(nodes)
        write_at_once(nodes)


def take_turns(nodes: list[Node]) -> None:
    rng = np.random.default_rng(7)
    for step in range(40):
        writer, reader = nodes[step % 2], nodes[1 - step % 2]
        vector = rng.standard_normal(DIM).round(3).tolist()
        status, _ = writer.call(
            "POST", "/collections/c/vectors", {"vectors": [{"id": f"turn-{step}", "vector": vector}]}
        )
        assert status == 200
        status, answer = reader.call("POST", "/collections/c/search", {"vector": vector, "top_k": 1})
        assert (status, answer["results"][0]["id"]) == (200, f"turn-{step}")


def write_at_once(nodes: list[Node]) -> None:
    """Each node writes and deletes from two threads; afterwards both know exactly what was acknowledged."""
    acknowledged: list[set[str]] = [set() for _ in range(4)]

    def write(thread: int) -> None:
        node = nodes[thread % 2]
        for n in range(25):
            ids = [f"{thread}-{n}-{i}" for i in range(4)]
            points = [
                {"id": id_, "vector": [float(thread), float(n), *[float(i)] * (DIM - 2)]} for i, id_ in enumerate(ids)
            ]
            assert node.call("POST", "/collections/c/vectors", {"vectors": points})[0] == 200
            assert node.call("POST", "/collections/c/vectors/delete", {"ids": ids[:1]})[0] == 200
            acknowledged[thread].update(ids[1:])

    threads = [threading.Thread(target=write, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = {f"turn-{step}" for step in range(40)}.union(*acknowledged)
    assert len(expected) == 40 + 4 * 25 * 3
    for node in nodes:
        status, answer = node.call("POST", "/collections/c/vectors/get", {"ids": sorted(expected)})
        assert status == 200
        assert {point["id"] for point in answer["points"] if point is not None} == expected
        assert node.call("POST", "/collections/c/count", {})[1]["count"] == len(expected)


def test_two_nodes_over_one_folder(tmp_path: Path) -> None:
    run({"AKIDB_DATA_DIR": str(tmp_path / "data")}, tmp_path)


@pytest.mark.s3
def test_two_nodes_over_one_bucket(s3_settings: Settings, tmp_path: Path) -> None:
    storage = s3_settings.storage
    run(
        {
            "AKIDB_S3_ENDPOINT": storage.s3_endpoint or "",
            "AKIDB_S3_ACCESS_KEY": storage.s3_access_key or "",
            "AKIDB_S3_SECRET_KEY": storage.s3_secret_key or "",
            "AKIDB_S3_BUCKET": "two-nodes",
            "AKIDB_CACHE_HOT_PATH": str(tmp_path / "cache"),
        },
        tmp_path,
    )
