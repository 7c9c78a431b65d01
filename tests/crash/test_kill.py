"""Nothing acknowledged is lost: a writer is killed (SIGKILL) at random moments, again and again over the same store.

Kills hit puts, folds, graph commits and the collection of garbage alike. After each one the store is opened anew, and
the points must be those of all acknowledged operations, with the one under way either wholly there or not at all.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path

import numpy as np
import pytest

import akidb
from akidb.config import Settings
from tests.crash.writer import DIM, operation, replay, write_until_killed

KILLS = 100 if os.environ.get("CI") else 10
SEED = int(os.environ.get("AKIDB_TEST_SEED", "20260101"))

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["tests.crash.writer", "akidb.connection", "aiobotocore.session"])


def kill_one(where: str, settings: Settings, first: int, lifetime_secs: float) -> tuple[int, bool]:
    """Runs a writer from operation `first` on and kills it. Returns the first operation not done, and if it began."""
    ours, theirs = processes.Pipe(duplex=False)
    writer = processes.Process(target=write_until_killed, args=(where, settings, SEED, first, theirs))
    writer.start()
    theirs.close()
    assert ours.recv() == ("open", first)
    time.sleep(lifetime_secs)
    writer.kill()
    writer.join()
    following, begun = first, False
    while True:
        try:
            what, n = ours.recv()
        except EOFError:
            return following, begun
        if what == "begin":
            begun = True
        elif what == "done":
            following, begun = n + 1, False


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


def run(where: str, settings: Settings) -> None:
    with akidb.connect(where, settings=settings) as database:
        database.create_collection("points", DIM, metric="euclidean")
    rng = np.random.default_rng(SEED)
    points: dict[str, np.ndarray] = {}
    done = 0
    for _ in range(KILLS):
        following, begun = kill_one(where, settings, done, float(rng.uniform(0.0, 0.6)))
        for n in range(done, following):
            points = replay(points, operation(SEED, n))
        candidates = [points] + ([replay(points, operation(SEED, following))] if begun else [])
        chosen = check(where, settings, candidates, rng)
        points, done = candidates[chosen], following + chosen
    assert done > KILLS, "the writers were killed before they wrote: this run proves nothing"


def test_writer_killed_at_random_moments_on_the_local_store(tmp_path: Path) -> None:
    run(str(tmp_path / "data"), Settings())


@pytest.mark.s3
def test_writer_killed_at_random_moments_on_s3(s3_settings: Settings) -> None:
    run("s3://kill-test/points", s3_settings)
