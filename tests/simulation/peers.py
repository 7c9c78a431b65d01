"""Nodes of a simulation that send batches to each other, over ways as bad as those to the bucket."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from contextvars import Context
from uuid import UUID

from akidb.collection import decode_forwarded, encode_done
from akidb.errors import AkiDBError, UnavailableError
from akidb.wal.queue import outcome_unknown
from tests.simulation.bucket import Weather
from tests.simulation.loop import SimLoop
from tests.simulation.node import Node

_FAULTS = ("lost request", "lost answer", "late put", "duplicate", "error", "slow", "crash")
_TAKEN = 0.1
"""How often a node takes any node for the owner, instead of the one that the others do."""


class SimPeers:
    """The other nodes as one of them knows them."""

    def __init__(self, loop: SimLoop, node: Node, nodes: Sequence[Node], weather: Weather, rng: random.Random) -> None:
        self._loop, self._node, self._nodes, self._weather, self._rng = loop, node, nodes, weather, rng

    def owner(self, shard: UUID) -> str | None:
        owner = self._nodes[shard.int % len(self._nodes)]
        if self._rng.random() < _TAKEN:
            owner = self._rng.choice(self._nodes)
        return None if owner is self._node else owner.name

    async def send(self, node: str, body: bytes, timeout_secs: float) -> bytes:
        (there,) = [each for each in self._nodes if each.name == node]
        rng, fault = self._rng, self._weather.fault(_FAULTS)
        if {there.host, self._node.host} & self._weather.cut_off:
            fault = rng.choice(("error", "lost request", "lost answer"))
        if fault == "error" or there.crashed.done():
            await asyncio.sleep(rng.uniform(0.001, 0.05))
            raise UnavailableError(f"{node} can't be reached", code="not_taken")
        answer: asyncio.Future[bytes | AkiDBError] = self._loop.create_future()
        waits = True

        def wanted() -> bool:
            return waits or fault in ("late put", "lost answer")  # nobody tells it that none waits any more

        def deliver(tells: bool) -> None:
            if not there.crashed.done():
                there.start(_receive(there, body, wanted, arrive if tells else _nobody))

        def arrive(told: bytes | AkiDBError) -> None:
            self._later(rng.uniform(0.001, 0.05), lambda: answer.done() or answer.set_result(told))

        travel = rng.uniform(0.001, 0.05) * (rng.choice((1, 60, 200)) if fault == "slow" else 1)
        if fault == "late put":
            travel = rng.choice((0.2, 5.0, 60.0, 900.0)) * rng.random()
        if fault != "lost request":
            self._later(travel, lambda: deliver(fault not in ("lost answer", "late put")))
        if fault == "duplicate":
            self._later(travel + rng.uniform(0.01, 30.0), lambda: deliver(False))
        if fault == "crash" and rng.random() < 0.5:
            self._later(travel + rng.uniform(0.0, 0.2), there.crash)
        try:
            told = await asyncio.wait_for(answer, timeout_secs + 0.5)
        except TimeoutError:
            raise outcome_unknown() from None
        finally:
            waits = False
        if isinstance(told, AkiDBError):
            raise told
        return told

    def _later(self, secs: float, call: Callable[[], object]) -> None:
        self._loop.call_later(secs, call, context=Context())  # no node's pause holds up the network


def _nobody(told: bytes | AkiDBError) -> None: ...


async def _receive(
    node: Node, body: bytes, wanted: Callable[[], bool], tell: Callable[[bytes | AkiDBError], None]
) -> None:
    """What the receiving node's process does."""
    try:
        if node.database is None:
            raise UnavailableError("the node begins", code="not_taken")
        message = decode_forwarded(body)
        collection = await node.database.collection(message.collection, at_hand=True)
        told: bytes | AkiDBError = encode_done(await collection.receive(message, wanted))
    except AkiDBError as failed:
        told = failed
    tell(told)
