"""A process that writes until it is killed, and says before and after each operation what it does.

Operation n follows from the seed alone, so whoever watches knows what the points must be after it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

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


STEPS = ("open", "write", "fsync", "link", "replace", "mkdir", "unlink")
"""The system calls by which the local store changes something, or makes it last."""

_LIFE = 7


def write_until_killed(where: str, settings: Settings, seed: int, first: int, pipe: Connection) -> None:
    asyncio.run(_write(where, settings, seed, first, pipe, 100_000))


def write_until_step(where: str, settings: Settings, seed: int, first: int, pipe: Connection, step: int) -> None:
    """A short life of every kind of work, at whose `step`-th half-step (before a system call, after it) it ends."""
    _die_at(step, Path(where), pipe)
    asyncio.run(_write(where, settings, seed, first, pipe, _LIFE))
    pipe.send(("alive", step))


CLONING = 5
"""Operations of a life that clones, each of which `clone_until_step` tells of by its number."""


def clone_until_step(
    where: str, settings: Settings, vector: list[float], pipe: Connection, within: int, step: int
) -> None:
    """Makes a snapshot of `points` and a clone, writes `vector` to the origin, clones the snapshot and drops the first
    clone; ends at the `step`-th half-step from the begin of operation `within` on, -1 being to open. Tells how many
    half-steps were made from there to the end of each."""
    asyncio.run(_clone(where, settings, vector, pipe, within, step))
    pipe.send(("alive", step))


async def _clone(where: str, settings: Settings, vector: list[float], pipe: Connection, within: int, step: int) -> None:
    made = _die_at(step, Path(where), pipe) if within == -1 else lambda: 0
    database = await akidb.connect_async(where, settings=settings)
    points = await database.collection("points")
    pipe.send(("ended", made()))
    work: list[Callable[[], Awaitable[object]]] = [
        lambda: points.create_snapshot("kept"),
        lambda: database.clone_collection("points", "clone"),
        lambda: points.upsert(["new"], [vector]),
        lambda: database.clone_collection("points", "clone-of-kept", as_of="kept"),
        lambda: database.drop_collection("clone"),
    ]
    assert len(work) == CLONING
    for n, call in enumerate(work):
        pipe.send(("begin", n))
        if n == within:
            made = _die_at(step, Path(where), pipe)
        await call()
        pipe.send(("done", n))
        pipe.send(("ended", made()))


def _die_at(step: int, root: Path, pipe: Connection) -> Callable[[], int]:
    """Kills this process at its `step`-th half-step from here on. What is returned tells how many it has made."""
    made, lock = 0, threading.Lock()

    def half(name: str, what: str) -> None:
        nonlocal made
        with lock:
            made += 1
            if made == step:
                pipe.send(("died", f"{name} {what}"))
                os.kill(os.getpid(), signal.SIGKILL)

    def wrap(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **how: Any) -> Any:
            if not threading.current_thread().name.startswith("akidb-local-store") or "dir_fd" in how:
                return real(*args, **how)
            what = _kind(args[1] if name in ("link", "replace") else args[0], root)
            half(f"before {name}", what)
            result = real(*args, **how)
            half(f"after {name}", what)
            return result

        return call

    for name in STEPS:
        setattr(os, name, wrap(name, getattr(os, name)))
    return lambda: made


def _kind(place: Any, root: Path) -> str:
    """Which kind of object a path is of: the part of its key that says so."""
    if isinstance(place, int):
        place = os.readlink(f"/proc/self/fd/{place}")
    parts = os.path.relpath(place, root).split("/")
    known = [part for part in parts if part in (".tmp", "cat", "wal", "seg", "del", "req", "man", "head", "format")]
    return "/".join(known) or "folder"


async def _write(where: str, settings: Settings, seed: int, first: int, pipe: Connection, count: int) -> None:
    database = await akidb.connect_async(where, settings=settings)
    collection = await database.collection("points")
    pipe.send(("open", first))
    for n in range(first, first + count):
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
