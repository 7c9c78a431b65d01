"""One history: clients at work on a collection while nodes and networks fail; then all is read, and judged."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass

import aiohttp

from tests.linearizability.checker import check
from tests.linearizability.client import CALL_SECS, DIM, IDS, Client
from tests.linearizability.cluster import HEAL_SECS, Cluster
from tests.linearizability.history import History

CLIENTS = 6


@dataclass(frozen=True)
class Report:
    outcomes: Counter[str]
    told: Counter[str]
    fired: Counter[str]
    check_secs: float

    def __str__(self) -> str:
        def counted(what: Counter[str]) -> str:
            return ", ".join(f"{count} {name}" for name, count in sorted(what.items()))

        answers = f"{counted(self.outcomes)}; troubles {counted(self.fired)}; told {counted(self.told)}"
        return f"{answers}; checked in {self.check_secs:.1f} s"


async def run(cluster: Cluster, seed: int, secs: float, *, troubled: bool = True) -> Report:
    """Raises ViolationError if the answers are none of a linearizable store."""
    rng, history, told = random.Random(seed), History(), Counter[str]()
    cluster.fired.clear()
    collection = f"history-{seed}"
    timeout = aiohttp.ClientTimeout(total=CALL_SECS)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        async with session.post(
            cluster.urls[0] + "/collections", json={"name": collection, "vector_dim": DIM, "distance": "Euclidean"}
        ) as answer:
            assert answer.status == 201, await answer.text()
        clients = [
            Client(f"c{n}", cluster.urls, collection, history, told, random.Random(rng.getrandbits(64)))
            for n in range(CLIENTS)
        ]
        trouble = asyncio.create_task(cluster.trouble(rng)) if troubled else None
        await asyncio.gather(*(client.live(session, time.monotonic() + secs) for client in clients))
        if trouble is not None:
            cluster.calm = True
            await trouble
        await cluster.heal()
        last = Client("last", cluster.urls, collection, history, told, rng)
        for url in cluster.urls:
            for id_ in IDS:
                await _answered(last, session, url, id_)
    began = time.monotonic()
    await asyncio.to_thread(check, history)
    outcomes = Counter(f"{o.kind}s {o.outcome}" for o in history.operations)
    return Report(outcomes, told, Counter(cluster.fired), time.monotonic() - began)


async def _answered(client: Client, session: aiohttp.ClientSession, url: str, id_: str) -> None:
    until = time.monotonic() + HEAL_SECS
    while not await client.read(session, url, id_):
        assert time.monotonic() < until, f"{url} does not answer {HEAL_SECS:.0f} s after all was mended"
        await asyncio.sleep(0.2)
