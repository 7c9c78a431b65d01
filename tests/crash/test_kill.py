"""Nothing acknowledged is lost: a writer is killed (SIGKILL) again and again over the same store, at random moments and
before and after each system call that changes the folder.

Kills hit puts, folds, graph commits and the collection of garbage alike. After each one the store is opened anew, and
the points must be those of all acknowledged operations, with the one under way either wholly there or not at all.

What must be there is kept outside of the writer, by who kills it. AKIDB_TEST_KILLS=1000 is the long form, of each kind.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import time
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import akidb
from akidb.config import Settings
from tests.crash.writer import DIM, operation, replay, write_until_killed, write_until_step

KILLS = int(os.environ.get("AKIDB_TEST_KILLS", "40" if os.environ.get("CI") else "10"))
HALF_STEPS = 400
"""About as many as a life at step after step has."""

EXPECTED = {"write .tmp", "fsync .tmp", "link wal", "fsync wal"}
"""Those of every put of a slot. The rarer ones, of folds and merges, are met more often than not."""

SEED = int(os.environ.get("AKIDB_TEST_SEED", "20260101"))

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["tests.crash.writer", "akidb.connection", "aiobotocore.session"])


Life = Callable[[int], tuple[int, bool]]
"""Runs a writer from an operation on until it is dead. Returns the first operation not done, and if it began."""


def kill_at_random(where: str, settings: Settings, rng: np.random.Generator) -> Life:
    def life(first: int) -> tuple[int, bool]:
        ours, theirs = processes.Pipe(duplex=False)
        writer = processes.Process(target=write_until_killed, args=(where, settings, SEED, first, theirs))
        writer.start()
        theirs.close()
        assert ours.recv() == ("open", first)
        time.sleep(float(rng.uniform(0.0, 0.6)))
        writer.kill()
        writer.join()
        said = told(ours, first)
        return said.following, said.begun

    return life


class Told(NamedTuple):
    """What a dead writer said: the first operation not done, if it began, its last words, and after how many half-steps
    each operation came to its end, where it counts them."""

    following: int
    begun: bool
    last: str
    ends: list[int]


def told(pipe: Connection, first: int) -> Told:
    following, begun, last, ends = first, False, "", list[int]()
    while True:
        try:
            what, n = pipe.recv()
        except EOFError:
            return Told(following, begun, last, ends)
        if what == "begin":
            begun = True
        elif what == "done":
            following, begun = n + 1, False
        elif what == "ended":
            ends.append(n)
        elif what in ("died", "alive"):
            last = f"{n}" if what == "died" else ""


def check(where: str, settings: Settings, candidates: list[dict[str, np.ndarray]], rng: np.random.Generator) -> int:
    """Opens the store anew; it must hold one of `candidates` and answer as an exact search over it. Returns which."""
    with akidb.connect(where, settings=settings) as database:
        collection = database.collection("points")
        ids = sorted(set().union(*candidates))
        found = {point.id: point.vector for point in collection.get(ids) if point is not None}
        matching = [
            i
            for i, points in enumerate(candidates)
            if points.keys() == found.keys() and all(np.array_equal(found[id_], points[id_]) for id_ in points)
        ]
        assert matching, "what the store holds is neither before nor after the operation that was under way"
        points = candidates[matching[0]]
        assert collection.count() == len(points)
        for query in rng.standard_normal((3, DIM)).astype(np.float32):
            names = list(points)
            distances = np.linalg.norm(np.stack([points[name] for name in names]) - query, axis=1) if names else []
            expected = [names[i] for i in np.argsort(distances, kind="stable")[:10]]
            assert [hit.id for hit in collection.search(query, 10, exact=True, timeout_ms=60_000)] == expected
        return matching[0]


def run(where: str, settings: Settings, lives: Iterable[Life]) -> int:
    """One life after the other over one store, which is judged after each. Returns how many operations were done."""
    with akidb.connect(where, settings=settings) as database:
        database.create_collection("points", DIM, metric="euclidean")
    rng = np.random.default_rng(SEED)
    points: dict[str, np.ndarray] = {}
    done = 0
    for life in lives:
        following, begun = life(done)
        for n in range(done, following):
            points = replay(points, operation(SEED, n))
        candidates = [points] + ([replay(points, operation(SEED, following))] if begun else [])
        chosen = check(where, settings, candidates, rng)
        points, done = candidates[chosen], following + chosen
    return done


def run_at_random(where: str, settings: Settings) -> None:
    life = kill_at_random(where, settings, np.random.default_rng(SEED))
    done = run(where, settings, itertools.repeat(life, KILLS))
    assert done > KILLS, "the writers were killed before they wrote: this run proves nothing"


def test_writer_killed_at_random_moments_on_the_local_store(tmp_path: Path) -> None:
    run_at_random(str(tmp_path / "data"), Settings())


@pytest.mark.s3
def test_writer_killed_at_random_moments_on_s3(s3_settings: Settings) -> None:
    run_at_random("s3://kill-test/points", s3_settings)


def test_writer_killed_at_each_step_on_the_local_store(tmp_path: Path) -> None:
    """Every half-step of a life where kills are many, else as many of them, from its first to its last."""
    where = str(tmp_path / "data")
    met: set[str] = set()
    longest = 0

    def life_until(step: int) -> Life:
        def life(first: int) -> tuple[int, bool]:
            nonlocal longest
            ours, theirs = processes.Pipe(duplex=False)
            writer = processes.Process(target=write_until_step, args=(where, Settings(), SEED, first, theirs, step))
            writer.start()
            theirs.close()
            writer.join()
            said = told(ours, first)
            if said.last:
                met.add(said.last)
                longest = max(longest, step)
            return said.following, said.begun

        return life

    stride = max(1, HALF_STEPS // KILLS)
    run(where, Settings(), map(life_until, range(1, HALF_STEPS, stride)))
    assert longest > HALF_STEPS * 0.5, f"lives end at {longest}: HALF_STEPS is wrong"
    print(f"killed at {sorted(met)}")
    if stride == 1:
        assert {step.partition(" ")[2] for step in met} >= EXPECTED
