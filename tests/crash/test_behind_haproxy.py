"""Several akidb-api processes over one MinIO behind HAProxy, by the configuration of deploy/: nodes are restarted, or
killed, one stands by, the store goes away; what was acknowledged is there, and little or nothing fails."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

from tests.nodes import Process, until
from tests.servers import DIRECT, Minio, S3Server, binary, free_port

pytestmark = [pytest.mark.s3, pytest.mark.slow]

CONFIGURATION = Path(__file__).parents[2] / "deploy" / "haproxy.cfg"
DIM = 4
SHARDS = 4
SEARCHERS = 4


@dataclass
class Front:
    """HAProxy's address, asked as by any client."""

    url: str

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any, Message]:
        """0 where the connection broke."""
        data = None if body is None else json.dumps(body).encode()
        sent = {"Content-Type": "application/json", **{name.replace("_", "-"): text for name, text in headers.items()}}
        request = urllib.request.Request(self.url + path, data, sent, method=method)
        try:
            with DIRECT.open(request, timeout=60) as answer:
                return answer.status, json.loads(answer.read() or b"null"), answer.headers
        except urllib.error.HTTPError as error:
            text = error.read()
            is_json = "json" in error.headers.get("Content-Type", "")
            return error.code, json.loads(text) if is_json else text, error.headers
        except OSError:
            return 0, None, Message()

    def upsert(self, id_: str, n: int, key: str | None = None) -> int:
        point = {"id": id_, "vector": [float(n)] * DIM, "payload": {"n": n}}
        headers = {} if key is None else {"Idempotency_Key": key}
        return self.call("POST", "/collections/c/vectors", {"vectors": [point]}, **headers)[0]

    def search(self, **options: Any) -> int:
        return self.call("POST", "/collections/c/search", {"vector": [1.0] * DIM, "top_k": 3, **options})[0]


@dataclass
class Traffic:
    """One that writes and several that search until told to stop."""

    front: Front
    written: dict[str, int] = field(default_factory=dict)
    """What was acknowledged last of each point."""
    tries: int = 0
    writes: list[int] = field(default_factory=list)
    searches: list[int] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def going_on(self) -> Iterator[None]:
        threads = [threading.Thread(target=work) for work in (self._write, *[self._search] * SEARCHERS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    def more(self, count: int) -> None:
        """Returns once as many further writes and searches are answered."""
        writes, searches = len(self.writes) + count, len(self.searches) + count
        until(lambda: len(self.writes) >= writes and len(self.searches) >= searches)

    def _write(self) -> None:
        for n in range(1_000_000):
            id_, key = f"p{n % 50}", str(uuid.uuid4())
            while not self._over.is_set():  # the same request until it is answered, as a careful client would
                self.writes.append(self.front.upsert(id_, n, key))
                if self.writes[-1] == 200:
                    self.written[id_] = n
                    break
            if self._over.is_set():
                return

    def _search(self) -> None:
        while not self._over.is_set():
            self.searches.append(self.front.search(timeout_ms=20_000))

    def check(self, nodes: list[Process]) -> None:
        for process in nodes:
            status, answer = process.node.call("POST", "/collections/c/vectors/get", {"ids": sorted(self.written)})
            assert status == 200
            assert {point["id"]: point["payload"]["n"] for point in answer["points"]} == self.written


@contextmanager
def behind_haproxy(
    server: S3Server, folder: Path, *, standby: bool = False, failures: int = 100
) -> Iterator[tuple[Front, list[Process]]]:
    """Three nodes, or two of which the second stands by. They take the store for away after so many failures in a row:
    many, where it is not, since a machine that starts three nodes at once may connect too slowly for a while."""
    environment = {
        **server.environment(f"haproxy-{uuid.uuid4()}"),
        "AKIDB_CACHE_HOT_PATH": str(folder / "cache"),
        "AKIDB_API_DRAIN_DELAY_SECS": "2",
        "AKIDB_STORAGE_CIRCUIT_BREAKER_FAILURE_THRESHOLD": str(failures),
        "AKIDB_STORAGE_CIRCUIT_BREAKER_RECOVERY_TIMEOUT_SECS": "2",
    }
    nodes = [Process(environment, folder) for _ in range(2 if standby else 3)]
    text = CONFIGURATION.read_text()
    if standby:
        text = "\n".join(line for line in text.splitlines() if "server node3" not in line) + "\n"
        text = text.replace('server node2 "${AKIDB_NODE2}"', 'server node2 "${AKIDB_NODE2}" backup')
    else:
        for process in nodes:
            process.join()
    (folder / "haproxy.cfg").write_text(text)
    front = Front(f"http://127.0.0.1:{free_port()}")
    addresses = {f"AKIDB_NODE{n}": f"127.0.0.1:{process.node.port}" for n, process in enumerate(nodes, 1)}
    for process in nodes:
        process.start()
    try:
        for process in nodes:
            process.wait_ready()
        with haproxy(folder, {**addresses, "AKIDB_LISTEN": front.url.removeprefix("http://")}):
            until(lambda: front.call("GET", "/health/ready")[0] == 200)
            wanted = {"name": "c", "vector_dim": DIM, "distance": "Euclidean", "shard_count": SHARDS}
            assert front.call("POST", "/collections", wanted)[0] == 201
            yield front, nodes
    finally:
        for process in nodes:
            process.kill()


@contextmanager
def haproxy(folder: Path, addresses: dict[str, str]) -> Iterator[None]:
    command = [binary("haproxy"), "-db", "-f", folder / "haproxy.cfg"]
    with (folder / "haproxy.log").open("wb") as log:
        process = subprocess.Popen(command, env={**os.environ, **addresses}, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)


def test_nodes_are_restarted_one_by_one_and_no_request_fails(minio: S3Server, tmp_path: Path) -> None:
    with behind_haproxy(minio, tmp_path) as (front, nodes):
        traffic = Traffic(front)
        with traffic.going_on():
            for process in nodes:
                traffic.more(10)
                assert process.stop() == 0
                process.start()
                process.wait_ready()
            traffic.more(10)
        assert set(traffic.writes) == set(traffic.searches) == {200}
        traffic.check(nodes)


def test_a_killed_node_costs_no_search_and_no_acknowledged_write(minio: S3Server, tmp_path: Path) -> None:
    with behind_haproxy(minio, tmp_path) as (front, nodes):
        traffic = Traffic(front)
        with traffic.going_on():
            traffic.more(20)
            nodes[0].kill()
            traffic.more(40)
        assert set(traffic.searches) == {200}
        assert traffic.writes.count(200) >= len(traffic.writes) - 1, "at most the one write that was under way"
        traffic.check(nodes[1:])


def test_a_standby_is_asked_nothing_until_the_primary_is_gone(minio: S3Server, tmp_path: Path) -> None:
    with behind_haproxy(minio, tmp_path, standby=True) as (front, (primary, standby)):
        for n in range(20):
            assert front.upsert(f"p{n}", n) == 200
            assert front.search(timeout_ms=20_000) == 200
        asked = {"endpoint": "/collections/{name}/search"}
        assert standby.node.metric("akidb_api_requests_total", **asked) == 0
        assert primary.node.metric("akidb_api_requests_total", **asked) == 20
        primary.kill()
        status, answer, _ = front.call("POST", "/collections/c/scroll", {"limit": 100})
        assert status == 200
        assert {point["id"] for point in answer["points"]} == {f"p{n}" for n in range(20)}
        until(lambda: front.upsert("after", 1) == 200)
        assert standby.node.metric("akidb_api_requests_total", **asked) == 0
        assert front.search(timeout_ms=20_000) == 200
        assert standby.node.metric("akidb_api_requests_total", **asked) == 1


def test_while_the_store_is_away_reads_go_on_and_writes_are_refused_with_the_reason(tmp_path: Path) -> None:
    server = Minio(tmp_path / "minio")
    server.start()
    try:
        with behind_haproxy(server, tmp_path, failures=5) as (front, _):
            assert front.upsert("p", 1) == 200
            for _ in range(6):
                assert front.search(consistency="eventual", timeout_ms=20_000) == 200  # each node holds it
            server.kill()

            def refuses() -> bool:
                status, problem, headers = front.call(
                    "POST", "/collections/c/vectors", {"vectors": [{"id": "q", "vector": [1.0] * DIM}]}
                )
                return status == 503 and problem["code"] == "circuit_open" and int(headers["Retry-After"]) > 0

            until(refuses)
            for _ in range(6):
                assert front.search(consistency="eventual") == 200
            server.start()
            until(lambda: front.upsert("q", 2) == 200)
            # Each node finds out for itself, when its breaker lets it look: six searches go to all three.
            until(lambda: [front.search(timeout_ms=20_000) for _ in range(6)] == [200] * 6)
    finally:
        server.stop()
