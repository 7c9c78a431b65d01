"""One simulation: nodes, clients, what goes wrong; then all is mended, and everything must come to rest, right."""

from __future__ import annotations

import asyncio
import contextlib
import random
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from akidb import query
from akidb.collection import Collection
from akidb.database.catalogue import TENANT, catalogue_prefix
from akidb.errors import CorruptionError, DeadlineExceededError, NotFoundError, UnavailableError
from akidb.query import SearchQuery
from akidb.storage import probe
from akidb.types import STRONG, Consistency
from tests.simulation import swaps
from tests.simulation.bucket import LOCATION, Bucket, Weather
from tests.simulation.client import DIM, IDS, NAME, ODD, SPEC, Client
from tests.simulation.cloner import Cloner
from tests.simulation.history import History, Read, Snapped
from tests.simulation.loop import ABANDONED_SECS, EPOCH, SimLoop, simulated
from tests.simulation.node import Node
from tests.simulation.oracle import Oracle
from tests.simulation.peers import SimPeers

T = TypeVar("T")
CALLS = 14
DECIDED_SECS = 30.0
"""After healing, every node answers a strong read, which comes behind every pending write of its own, within this."""

TIDY_SECS = 60.0

CRASHES_SECS = 0.1
"""A request that is to kill its node does it within this, so no node dies later than this after the healing."""


@dataclass(frozen=True)
class Report:
    """What one run was: equal seeds give equal reports."""

    seed: int
    trace: str
    secs: float
    requests: int
    writes: Counter[str]
    reads: int
    snapshots: int
    clones: int
    faults: Counter[str]

    def __str__(self) -> str:
        writes = ", ".join(f"{count} {outcome}" for outcome, count in sorted(self.writes.items()))
        return (
            f"seed {self.seed}: {self.secs:.0f} s simulated, {self.requests} requests, writes {writes}, "
            f"{self.reads} reads, "
            f"{self.snapshots} of snapshots, {self.clones} clones, {sum(self.faults.values())} faults, "
            f"trace {self.trace}"
        )


def simulate(seed: int, *, forwarding: bool = False, clones: bool = False) -> Report:
    """Runs one simulation; with `forwarding` nodes send batches to each other, with `clones` there are clients that
    make clones. Raises AssertionError with what was wrong."""
    probe._probed.add(LOCATION)  # the bucket keeps conditions; the probe would take a fault for a refusal of them
    with (
        simulated(seed) as loop,
        tempfile.TemporaryDirectory(prefix="akidb-simulation-") as folder,
        swaps.watched() as made,
    ):
        shards = 3 if seed % 4 > 1 else 1
        world = World(loop, random.Random(seed), Path(folder), guarded=seed % 2 == 1, shards=shards, clones=clones)
        if forwarding:
            world.forward()
        try:
            loop.run_until_complete(world.run())
        finally:
            loop.run_until_complete(world.end())
        history, bucket = world.history, world.bucket
        Oracle(bucket, catalogue_prefix(TENANT), TENANT).judge(history)
        swaps.judge(made, bucket)
        return Report(
            seed,
            bucket.trace.hexdigest()[:16],
            loop.now,
            bucket.requests,
            Counter(write.outcome for write in history.writes),
            len(history.reads),
            len(history.snapped),
            len(history.cloned),
            world.fired,
        )


class World:
    """The parts of a run. `rng` decides everything that is not the product's own."""

    def __init__(
        self, loop: SimLoop, rng: random.Random, folder: Path, *, guarded: bool, shards: int, clones: bool
    ) -> None:
        self.loop, self.rng = loop, rng
        self.bucket = Bucket(loop)
        self.weather = Weather.of(random.Random(rng.getrandbits(64)))
        self.history = History()
        self.fired: Counter[str] = self.weather.fired
        self.nodes = [
            Node(
                loop, self.bucket, self.weather, random.Random(rng.getrandbits(64)), f"node{n}", folder, guarded=guarded
            )
            for n in range(rng.randint(3, 5))
        ]
        self.shards = shards
        self.clones = clones
        self._troubles = rng.sample(("pause", "cut off", "crash"), rng.randint(0, 3))

    def forward(self) -> None:
        """From their next start on nodes send batches to each other."""
        for node in self.nodes:
            rng = random.Random(self.rng.getrandbits(64))
            node.peers = SimPeers(self.loop, node, self.nodes, self.weather, rng)

    async def run(self) -> None:
        await asyncio.gather(*(node.open() for node in self.nodes))
        clients = [
            Client(f"c{n}", self.nodes, self.history, random.Random(self.rng.getrandbits(64)), self.shards)
            for n in range(self.rng.randint(2, 5))
        ]
        for n in range(2 if self.clones else 0):
            rng = random.Random(self.rng.getrandbits(64))
            clients.append(Cloner(f"k{n}", self.nodes, self.history, rng, self.shards))
        trouble = asyncio.create_task(self._trouble())
        await asyncio.gather(*(client.live(CALLS) for client in clients))
        trouble.cancel()
        await asyncio.gather(trouble, return_exceptions=True)
        await self._heal()
        await self._come_to_rest()

    async def _trouble(self) -> None:
        """Stands nodes still, cuts them off, kills them, one at a time; and starts the dead again."""
        while True:
            await asyncio.sleep(self.rng.uniform(0.1, 4.0))
            dead = [node for node in self.nodes if node.crashed.done()]
            if dead and self.rng.random() < 0.7:
                await self.rng.choice(dead).restart()
            node = self.rng.choice(self.nodes)
            match self.rng.choice(self._troubles) if self._troubles else "":
                case "crash" if not node.crashed.done():
                    self.fired["killed"] += 1
                    node.crash()
                case "pause" if not node.crashed.done():
                    self.fired["pause"] += 1
                    node.host.halted = True
                    await asyncio.sleep(self.rng.choice((0.05, 1.0, 20.0)) * self.rng.random())
                    if not node.crashed.done():
                        node.host.resume()
                case "cut off":
                    self.fired["cut off"] += 1
                    self.weather.cut_off.add(node.host)
                    await asyncio.sleep(self.rng.uniform(0.1, 8.0))
                    self.weather.cut_off.discard(node.host)

    async def _heal(self) -> None:
        self.weather.heal()
        await asyncio.sleep(CRASHES_SECS)
        for node in self.nodes:
            if node.host.halted and not node.crashed.done():
                node.host.resume()
            if node.database is None:
                begin = node.restart() if node.crashed.done() else node.open()
                await self._within(DECIDED_SECS, begin, f"{node.name} does not begin again")

    async def _come_to_rest(self) -> None:
        """Everything is decided, folded and indexed in time, and all nodes tell the same."""
        first = self.nodes[0]
        client = Client("last", [first], self.history, random.Random(0), self.shards)
        for _ in range(5):  # where it was dropped last, it is made again
            await client._collection(first)
        for node in self.nodes:
            await self._read(node, f"{node.name} does not answer after healing")
        await self._within(
            TIDY_SECS, self._patient(first, partial(_tidy, await self._opened(first))), "the tail is not folded"
        )
        await self._look_before_reverts(first)
        for node in self.nodes:
            await self._read(node, f"{node.name} does not answer after the last fold")
        first.crash()
        await first.restart()  # what a process sees that has nothing but the bucket
        await self._read(first, "a fresh node does not answer")
        if self.clones:
            await self._clear(first)

    async def _clear(self, node: Node) -> None:
        """Clones are read once more; when all is dropped, in whichever order, rounds leave nothing of it."""
        assert node.database is not None
        database, began = node.database, self.loop.time()

        async def names() -> list[str]:
            return list(await database.list_collections())

        listed = await self._within(DECIDED_SECS, self._patient(node, names), "collections are not listed")
        for name in self.rng.sample(listed, len(listed)):
            with contextlib.suppress(NotFoundError):  # a drop that was on its way
                if name != NAME:
                    await self._read(node, f"clone {name} does not answer", name)
                drop = partial(database.drop_collection, name)
                await self._within(DECIDED_SECS, self._patient(node, drop), f"{name} is not dropped")
            await self._rounds(node, 2)
        await asyncio.sleep(ABANDONED_SECS + 1)
        await self._rounds(node, 12)
        left = [
            key
            for key, stored in self.bucket.objects.items()
            if key.split("/")[5:6] in (["seg"], ["del"], ["req"], ["man"]) and stored.at < EPOCH + began
        ]  # what was sent long before may come later still
        assert not left, f"nobody needs it, and it is there: {left}"

    async def _rounds(self, node: Node, count: int) -> None:
        """Rounds of garbage collection, a little apart."""
        assert node.database is not None
        for _ in range(count):
            collecting = partial(node.database.collect_garbage, interval_secs=0, force=True)
            rounds = await self._within(DECIDED_SECS, self._patient(node, collecting), "no garbage is collected")
            wrong = [each for each in rounds if each.error or each.done.refused]
            assert not wrong, f"garbage is not collected: {wrong}"
            await asyncio.sleep(0.5)

    async def _look_before_reverts(self, node: Node) -> None:
        """Reads what each revert found: it is kept as a snapshot, which no client forgets."""
        opened = await self._opened(node)
        for reverted in [each for each in self.history.snapped if each.at and each.collection == opened.uuid]:
            as_of, began = Consistency(as_of=reverted.before), self.loop.time()
            snapshot = await self._within(
                DECIDED_SECS,
                self._patient(node, partial(opened.snapshot, as_of)),
                f"what slot {reverted.at} reverted is gone",
            )
            assert snapshot.lsn == reverted.at - 1, (
                f"what slot {reverted.at} reverted is told as of slot {snapshot.lsn}"
            )
            points, lsns = query.scroll(snapshot, limit=len(IDS) + 1, with_vector=True), snapshot.lsns
            told = Snapped(opened.uuid, began, self.loop.time(), snapshot.lsn, points=points, lsns=lsns)
            self.history.snapped.append(told)

    async def _opened(self, node: Node, name: str = NAME) -> Collection:
        async def open_it() -> Collection:
            database = node.database
            assert database is not None
            try:
                return await database.collection(name)
            except NotFoundError:  # a drop that was on its way all the while
                if name != NAME:
                    raise
                return await database.create_collection(replace(SPEC, shard_count=self.shards))
            except CorruptionError as damaged:  # on its way, time and again: it is looked at again after a pause
                raise UnavailableError("not opened") from damaged

        return await self._within(DECIDED_SECS, self._patient(node, open_it), f"{node.name} has no collection")

    @staticmethod
    async def _patient(node: Node, ask: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Asks as a client would: again where it is told to, for what was lost before the healing is waited for, and a
        breaker stays open for a while."""
        while True:
            try:
                return await node.run(ask(), DECIDED_SECS)
            except (UnavailableError, DeadlineExceededError):
                await asyncio.sleep(0.5)

    async def _read(self, node: Node, or_else: str, name: str = NAME) -> None:
        opened, began = await self._opened(node, name), self.loop.time()
        snapshot = await self._within(DECIDED_SECS, self._patient(node, lambda: opened.snapshot(STRONG)), or_else)
        ended, target = self.loop.time(), np.zeros(DIM, np.float32)
        (hits,) = query.execute(snapshot, [SearchQuery(target, top_k=5, exact=True)])
        points = query.scroll(snapshot, limit=len(IDS) + 1, with_vector=True)
        self.history.reads.append(
            Read(
                opened.uuid, "strong", began, ended, snapshot.lsns, [0] * self.shards, points, snapshot.live_rows,
                [(hit.id, hit.score) for hit in hits], target, query.count(snapshot, ODD), [],
            )
        )  # fmt: skip

    async def _within(self, secs: float, work: Awaitable[object], or_else: str) -> object:
        try:
            return await asyncio.wait_for(work, secs)  # type: ignore[arg-type]
        except TimeoutError:
            raise AssertionError(f"{or_else}, {secs:.0f} s after everything was mended") from None

    async def end(self) -> None:
        """Lets go of everything, so that nothing is left of one run for the next."""
        self.loop.until = float("inf")
        for node in self.nodes:
            node.bury()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _tidy(opened: Collection) -> None:
    """Folds and builds until nothing is left to do; another node may be quicker, which costs one more try."""
    for writer in opened.writers:
        assert writer.maintenance is not None
        while writer.shard.state.slots_in_tail or writer.index_state().pending:
            await writer.maintenance.fold()
            await opened.wait_indexed()
