"""Three akidb-api processes over one bucket, whose ways to it, and to each other, fail on command."""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.nodes import Process
from tests.servers import S3Server
from tests.toxiproxy import Proxy, proxies

NODES = 3
HEAL_SECS = 30.0

TROUBLES = ("kill", "pause", "refuse", "hang", "lose answers", "delay")

_IMPATIENT = {
    "AKIDB_API_WRITE_TIMEOUT_MS": "1500",
    "AKIDB_STORAGE_CIRCUIT_BREAKER_FAILURE_THRESHOLD": "30",
    "AKIDB_STORAGE_CIRCUIT_BREAKER_RECOVERY_TIMEOUT_SECS": "1",
    "AKIDB_STORAGE_RETRY_MAX_BACKOFF_MS": "500",
    "AKIDB_LOG_LEVEL": "warn",
}
"""Limits in the proportion of histories of some seconds; the breaker opens late, so that outcomes stay unknown."""


class Cluster:
    def __init__(self, processes: list[Process], networks: list[Proxy]) -> None:
        self.processes, self.networks = processes, networks
        self.fired: Counter[str] = Counter()
        self.calm = False

    @property
    def urls(self) -> list[str]:
        return [f"http://127.0.0.1:{process.node.port}" for process in self.processes]

    async def trouble(self, rng: random.Random) -> None:
        """One thing after the other goes wrong with one node after the other, every kind in turn, until `calm`."""
        self.calm = False
        while not self.calm:
            for kind in rng.sample(TROUBLES, len(TROUBLES)):
                if self.calm:
                    return
                await asyncio.sleep(rng.uniform(0.05, 0.8))
                self.fired[kind] += 1
                await self._trouble(kind, rng.choice(self.processes), rng.choice(self.networks), rng)

    async def _trouble(self, kind: str, process: Process, network: Proxy, rng: random.Random) -> None:
        match kind:
            case "kill":
                await asyncio.to_thread(process.kill)
                await asyncio.sleep(rng.uniform(0.0, 1.0))
                process.start()
            case "pause":
                process.signal(signal.SIGSTOP)
                await asyncio.sleep(rng.choice((0.2, 1.0, 5.0)) * rng.random())
                process.signal(signal.SIGCONT)
            case _:
                await asyncio.to_thread(self._cut, kind, network, rng)
                await asyncio.sleep(rng.choice((0.3, 1.0, 4.0)) * rng.random())
                await asyncio.to_thread(network.heal)

    @staticmethod
    def _cut(kind: str, network: Proxy, rng: random.Random) -> None:
        match kind:
            case "refuse":
                network.refuse()
            case "hang":
                network.hang()
            case "lose answers":
                network.cut_answers(rng.choice((0, 30, 400, 5000)))
            case "delay":
                network.delay(rng.choice((20, 200, 1500)), 20)

    async def heal(self) -> None:
        """All is mended and answers."""
        for process in self.processes:
            if process.is_dead:
                process.start()
            process.signal(signal.SIGCONT)
        for network in self.networks:
            await asyncio.to_thread(network.heal)
        for process in self.processes:
            await asyncio.to_thread(process.wait_ready)


@contextmanager
def cluster(
    server: S3Server, bucket: str, folder: Path, *, forwarding: bool = False, **environment: str
) -> Iterator[Cluster]:
    """A cluster over `bucket` of the running `server`; its processes end with the block. With `forwarding` nodes send
    batches to each other, by networks that fail as well."""
    processes = [Process({**server.environment(bucket), **_IMPATIENT, **environment}, folder) for _ in range(NODES)]
    nodes = [f"http://127.0.0.1:{process.node.port}" for process in processes] if forwarding else []
    with proxies([server.endpoint] * NODES + nodes, folder) as networks:
        for n, process in enumerate(processes):
            own = {"AKIDB_S3_ENDPOINT": networks[n].endpoint, "AKIDB_CACHE_HOT_PATH": str(folder / f"cache-{n}")}
            process.environment.update(own)
            if forwarding:
                process.join(networks[NODES + n].endpoint)
        try:
            for process in processes:
                process.start()
            for process in processes:
                process.wait_ready()
            yield Cluster(processes, networks)
        finally:
            for process in processes:
                process.kill()
