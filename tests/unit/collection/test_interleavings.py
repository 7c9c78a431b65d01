"""Two nodes over one store, everything at once in a random order: every strong read tells what was acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from akidb.collection import Collection
from akidb.database import Database
from akidb.errors import AkiDBError, UnavailableError
from akidb.query import SearchQuery
from akidb.storage.local import LocalStore
from akidb.storage.memory import MemoryStore
from akidb.storage.object_store import ObjectStore
from akidb.types import CollectionSpec, IndexParams, Metric
from tests.unit.collection.faults import DIM, SETTINGS, FaultyStore, Oracle

SPEC = CollectionSpec("points", DIM, Metric.EUCLIDEAN, IndexParams(m=8, ef_construction=32, min_vectors_threshold=20))
WRITERS, STEPS = 3, 25


class World:
    """Two nodes, their tasks, and what each writer knows of its own ids, which nobody else writes."""

    def __init__(self, nodes: list[Collection], seed: int) -> None:
        self.nodes = nodes
        self.rng = np.random.default_rng(seed)
        self.oracles = [Oracle(seed + n) for n in range(WRITERS)]
        self.done = False

    def node(self) -> Collection:
        return self.nodes[int(self.rng.integers(len(self.nodes)))]

    async def insist(self, call: Callable[[], object]) -> None:
        """Repeats what the faults refuse; a refusal says that nothing was written, so nothing is doubled."""
        while True:
            try:
                return await call()
            except UnavailableError:
                await asyncio.sleep(0)

    async def write(self, number: int) -> None:
        oracle = self.oracles[number]
        for _ in range(STEPS):
            chosen = [f"{number}-{i}" for i in self.rng.choice(120, size=int(self.rng.integers(1, 40)), replace=False)]
            change = oracle.delete if self.rng.random() < 0.3 else oracle.upsert
            await self.insist(lambda change=change, chosen=chosen: change(self.node(), chosen))
            await self.insist(lambda chosen=chosen: self.read(oracle, chosen))

    async def read(self, oracle: Oracle, chosen: list[str]) -> None:
        found = await self.node().get(chosen)
        for id_, point in zip(chosen, found, strict=True):
            assert (point is None) == (id_ not in oracle.points), f"{id_} after its acknowledged write"
            assert point is None or np.array_equal(point.vector, oracle.points[id_])

    async def disturb(self) -> None:
        """Folds, builds, merges, looks at HEAD, and gives each of them up after a random number of turns."""
        while not self.done:
            work = self.node().writers[0].maintenance
            segment = work._next_to_build()
            segments = work._shard.state.segments
            choice = self.rng.integers(5)
            if choice == 0 and segment is not None:
                job = work.build(segment)
            elif choice == 1:
                job = work._shard.refresh()
            elif choice == 2:
                job = self.node().search([SearchQuery(np.zeros(DIM), top_k=3)])
            elif choice == 3 and segments:
                some = self.rng.choice(len(segments), size=min(len(segments), 3), replace=False)
                job = work.merge([segments[i] for i in some])
            else:
                job = work.fold()
            task = asyncio.create_task(job)
            for _ in range(int(self.rng.integers(1, 300))):
                await asyncio.sleep(0)
            if self.rng.random() < 0.5:
                task.cancel()
            (ended,) = await asyncio.gather(task, return_exceptions=True)
            known = isinstance(ended, list | AkiDBError | asyncio.CancelledError | None)
            assert known, f"{type(ended).__name__}: {ended}"

    async def run(self) -> None:
        disturbers = [asyncio.create_task(self.disturb()) for _ in range(3)]
        try:
            await asyncio.gather(*(self.write(number) for number in range(WRITERS)))
        finally:
            self.done = True
            await asyncio.gather(*disturbers)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("faults", [0.0, 0.03], ids=["sound", "faulty"])
@pytest.mark.parametrize("kind", ["memory", "folder"])
async def test_random_interleavings_of_two_nodes(kind: str, faults: float, seed: int, tmp_path: Path) -> None:
    memory = MemoryStore()

    def store() -> ObjectStore:
        return memory if kind == "memory" else LocalStore(tmp_path)

    stores = [FaultyStore(store()) for _ in range(2)]
    databases = [await Database.open(each, SETTINGS) for each in stores]
    await databases[0].create_collection(SPEC)
    world = World([await database.collection("points") for database in databases], seed)
    chance = np.random.default_rng(seed)
    for each in stores:
        each.fault = lambda *_: ("before", "after")[int(chance.integers(2))] if chance.random() < faults else None
    await asyncio.wait_for(world.run(), 100)
    for each in stores:
        each.heal()
    whole = Oracle(seed)
    for oracle in world.oracles:
        whole.points |= oracle.points
    fresh = await Database.open(stores[0], SETTINGS)
    for node in (*world.nodes, await fresh.collection("points")):
        await whole.check(node)
        await node.wait_indexed()
        await whole.check(node)
    for opened in fresh.at_hand:
        await opened.close()
    for database in databases:
        await database.close()
