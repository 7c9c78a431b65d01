"""A process that writes until it is killed, and says before and after each operation what it does.

Operation n follows from the seed alone, so whoever watches knows what the points must be after it.
"""

from __future__ import annotations

import asyncio
from multiprocessing.connection import Connection
from typing import NamedTuple

import numpy as np

import akidb
from akidb.config import Settings

DIM = 16
IDS = 600


class Operation(NamedTuple):
    """Upsert of `ids` (vectors given) or delete of them (vectors None)."""

    ids: list[str]
    vectors: np.ndarray | None


def operation(seed: int, n: int) -> Operation:
    rng = np.random.default_rng((seed, n))
    ids = [f"point-{i}" for i in rng.choice(IDS, size=int(rng.integers(1, 120)), replace=False)]
    if n % 5 == 4:
        return Operation(ids[:30], None)
    return Operation(ids, rng.standard_normal((len(ids), DIM)).astype(np.float32))


def replay(points: dict[str, np.ndarray], step: Operation) -> dict[str, np.ndarray]:
    """The points after one more operation."""
    after = dict(points)
    if step.vectors is None:
        for id_ in step.ids:
            after.pop(id_, None)
    else:
        after.update(zip(step.ids, step.vectors, strict=True))
    return after


def write_until_killed(where: str, settings: Settings, seed: int, first: int, pipe: Connection) -> None:
    asyncio.run(_write(where, settings, seed, first, pipe))


async def _write(where: str, settings: Settings, seed: int, first: int, pipe: Connection) -> None:
    database = await akidb.connect_async(where, settings=settings)
    collection = await database.collection("points")
    pipe.send(("open", first))
    for n in range(first, first + 100_000):
        step = operation(seed, n)
        pipe.send(("begin", n))
        if step.vectors is None:
            await collection.delete(step.ids)
        else:
            await collection.upsert(step.ids, step.vectors, [{"n": n}] * len(step.ids))
        pipe.send(("done", n))
        if n % 7 == 6:
            pipe.send(("index", n))
            await collection.wait_indexed()
