"""Several akidb-api processes over one MinIO that send their batches to one of them, which dies, stands still, or is no
friend: every write that is answered is there, and none of these keeps the others from writing."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.nodes import Node, Process, until
from tests.servers import S3Server

pytestmark = [pytest.mark.s3, pytest.mark.slow]

DIM = 4


class Nodes:
    """Processes over one bucket. Each write gives a point of its own the next number."""

    def __init__(self, processes: list[Process]) -> None:
        self.processes = processes
        self.last: dict[str, int] = {}

    def write(self, process: Process, id_: str) -> int:
        """The status of the answer, of which a success is remembered; 0 if there was none."""
        number = self.last.get(id_, 0) + 1
        point = {"id": id_, "vector": [float(number)] * DIM, "payload": {"n": number}}
        try:
            status, _ = process.node.call("POST", "/collections/c/vectors", {"vectors": [point]})
        except OSError:
            return 0
        if status == 200:
            self.last[id_] = number
        return status

    def outcome(self, word: str, *, of: list[Process] | None = None) -> float:
        return sum(each.node.metric("akidb_cluster_batches_total", outcome=word) for each in of or self.processes)

    def owner(self, among: list[Process]) -> Process:
        """The one that the others send to."""
        before = {process: self.outcome("received", of=[process]) for process in among}
        for process in among:
            assert self.write(process, f"first-{process.node.port}") == 200
        (owner,) = [process for process in among if self.outcome("received", of=[process]) > before[process]]
        return owner

    def check(self) -> None:
        """All nodes have what was acknowledged last of each point."""
        for process in self.processes:
            status, answer = process.node.call("POST", "/collections/c/vectors/get", {"ids": sorted(self.last)})
            assert status == 200
            found = {point["id"]: point["payload"]["n"] for point in answer["points"] if point is not None}
            assert found == self.last


@contextmanager
def nodes(server: S3Server, bucket: str, folder: Path, count: int = 3, **environment: str) -> Iterator[Nodes]:
    own = {"AKIDB_CACHE_HOT_PATH": str(folder / "cache"), **environment}
    processes = [Process({**server.environment(bucket), **own}, folder) for _ in range(count)]
    for process in processes:
        process.join()
    try:
        for process in processes:
            process.start()
        for process in processes:
            process.wait_ready()
        wanted = {"name": "c", "vector_dim": DIM, "distance": "Euclidean"}
        assert processes[0].node.call("POST", "/collections", wanted)[0] == 201
        know_each_other(processes)
        yield Nodes(processes)
    finally:
        for process in processes:
            process.kill()


def know_each_other(processes: list[Process]) -> None:
    def alive(node: Node) -> float:
        return node.metric("akidb_cluster_nodes")

    until(lambda: all(alive(process.node) == len(processes) for process in processes))


def write_meanwhile(cluster: Nodes, processes: list[Process], what: Callable[[], None]) -> list[int]:
    """Has all `processes` written to, two callers each, while `what` is done and a while after; the statuses."""
    done = threading.Event()
    statuses: list[int] = []

    def work(process: Process, name: str) -> None:
        n = 0
        while not done.is_set():
            statuses.append(cluster.write(process, f"{name}-{n % 7}"))
            n += 1

    threads = [
        threading.Thread(target=work, args=(process, f"w{n}-{twice}"))
        for n, process in enumerate(processes)
        for twice in range(2)
    ]
    for thread in threads:
        thread.start()
    try:
        before = len(statuses)
        until(lambda: len(statuses) > before + 20)
        what()
        before = len(statuses)
        until(lambda: len(statuses) > before + 60)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    return statuses


def write_to_many_shards(cluster: Nodes) -> None:
    """Batches over four shards, of which each goes in parts to several nodes."""
    wanted = {"name": "wide", "vector_dim": DIM, "distance": "Euclidean", "shard_count": 4}
    assert cluster.processes[0].node.call("POST", "/collections", wanted)[0] == 201
    failed: list[int] = []

    def work(n: int, process: Process) -> None:
        for batch in range(10):
            points = [{"id": f"{n}-{batch}-{i}", "vector": [float(i)] * DIM} for i in range(16)]
            status, _ = process.node.call("POST", "/collections/wide/vectors", {"vectors": points})
            failed.extend([status] if status != 200 else [])

    threads = [threading.Thread(target=work, args=each) for each in enumerate(cluster.processes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    for process in cluster.processes:
        assert process.node.call("POST", "/collections/wide/count", {})[1]["count"] == 16 * 10 * len(threads)


def test_a_killed_and_a_paused_owner_stop_nobody(minio: S3Server, tmp_path: Path) -> None:
    with nodes(minio, "forwarding", tmp_path) as cluster:
        owner = cluster.owner(cluster.processes)
        statuses = write_meanwhile(cluster, cluster.processes, lambda: None)
        assert set(statuses) == {200}
        assert cluster.outcome("direct") == cluster.outcome("unknown") == 0
        assert cluster.outcome("forwarded") == cluster.outcome("received") > 0
        write_to_many_shards(cluster)
        lost = sum(each.node.metric("akidb_wal_operations_total", status="lost_slot") for each in cluster.processes)
        assert lost == 0, "one puts for all"
        cluster.check()

        others = [process for process in cluster.processes if process is not owner]
        assert set(write_meanwhile(cluster, others, owner.kill)) == {200}
        assert cluster.outcome("direct", of=others) + cluster.outcome("unknown", of=others) > 0
        second = cluster.owner(others)
        (third,) = [process for process in others if process is not second]
        paused = write_meanwhile(cluster, [third], lambda: second.signal(signal.SIGSTOP))
        assert set(paused) == {200}
        assert cluster.outcome("unknown", of=[third]) > 0

        second.signal(signal.SIGCONT)
        owner.start()
        owner.wait_ready()
        know_each_other(cluster.processes)
        assert set(write_meanwhile(cluster, cluster.processes, lambda: None)) == {200}
        cluster.check()


def test_a_node_with_another_token_writes_for_itself(minio: S3Server, tmp_path: Path) -> None:
    with nodes(minio, "other-token", tmp_path, count=2) as cluster:
        owner = cluster.owner(cluster.processes)
        (stranger,) = [process for process in cluster.processes if process is not owner]
        assert stranger.stop() == 0
        stranger.join(token="quite-another-token")
        stranger.start()
        stranger.wait_ready()
        know_each_other(cluster.processes)
        statuses = write_meanwhile(cluster, cluster.processes, lambda: None)
        assert set(statuses) == {200}
        assert cluster.outcome("unknown", of=[stranger]) > 0  # the refusal is signed with no token that it has
        assert cluster.outcome("forwarded", of=[stranger]) == 0
        cluster.check()
