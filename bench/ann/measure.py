"""Builds every library, then lets them take turns at every point of their curves."""

from __future__ import annotations

import contextlib
import os
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from akidb import FlatIndex
from bench.ann.peers.library import Ids, Job, Setting
from bench.ann.sets import Set
from bench.ann.worker import Files, Turn, Worker, WorkerError

ENOUGH = 0.998
"""A curve ends at this recall."""


@dataclass
class Point:
    """Medians at one setting: queries per second one by one on one thread, by wall and by CPU time, and all in one call
    on all threads; resident bytes after the last round.
    """

    setting: Setting
    recall: float
    qps_one: float
    qps_cpu: float
    qps_all: float
    resident_bytes: int


@dataclass
class Result:
    library: str
    version: str
    build_seconds: float
    build_cpu_seconds: float
    curve: list[Point]


@dataclass
class Outcome:
    results: list[Result]
    missing: dict[str, str]
    """Libraries that are left out, and why."""
    load: tuple[float, float]
    """The machine's load average over a minute, before and after."""


@dataclass(frozen=True)
class Plan:
    libraries: tuple[str, ...]
    m: int
    ef_construction: int
    threads: int
    rounds: int
    k: int


def measure(data: Set, plan: Plan) -> Outcome:
    before = os.getloadavg()[0]
    index = FlatIndex(data.base.shape[1], data.metric)
    index.add(data.base)
    true = index.search(data.queries, plan.k).ids
    del index
    missing: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        built = list(_build(data, plan, Path(name), missing, stack))
        _take_turns(built, true, plan.rounds, missing)
    results = [each.result(true) for each in built if each.worker.name not in missing]
    return Outcome(results, missing, (before, os.getloadavg()[0]))


class _Contender:
    def __init__(self, worker: Worker) -> None:
        self.worker, self.built = worker, worker.built()
        self.settings = list(self.built.settings)
        self.turns: list[list[Turn]] = [[] for _ in self.settings]

    def take(self, step: int, true: Ids) -> None:
        """One turn at the curve's point `step`, which may turn out to be its last."""
        turn = self.worker.turn(self.settings[step])
        self.turns[step].append(turn)
        if recall(turn.found, true) > ENOUGH:
            del self.settings[step + 1 :]

    def result(self, true: Ids) -> Result:
        built = self.built
        points = [_point(setting, turns, true) for setting, turns in zip(self.settings, self.turns, strict=False)]
        return Result(self.worker.name, built.version, built.seconds, built.cpu_seconds, points)


def _point(setting: Setting, turns: list[Turn], true: Ids) -> Point:
    one, cpu, every = (
        statistics.median(getattr(turn, figure) for turn in turns) for figure in ("qps_one", "qps_cpu", "qps_all")
    )
    return Point(setting, recall(turns[0].found, true), one, cpu, every, turns[-1].resident_bytes)


def _build(
    data: Set, plan: Plan, folder: Path, missing: dict[str, str], stack: contextlib.ExitStack
) -> Iterator[_Contender]:
    files = Files(folder / "base.npy", folder / "queries.npy")
    np.save(files.base, data.base)
    np.save(files.queries, data.queries)
    # A waiting thread that spins takes the processor from the library whose turn it is.
    os.environ["OMP_WAIT_POLICY"] = "passive"
    for name in plan.libraries:
        own = folder / name
        own.mkdir()
        job = Job(data.base.shape[1], data.metric, plan.m, plan.ef_construction, plan.threads, own)
        worker = Worker(name, job, files, plan.k)
        stack.callback(worker.close)
        try:
            yield _Contender(worker)
        except WorkerError as error:
            missing[name] = str(error)


def _take_turns(built: list[_Contender], true: Ids, rounds: int, missing: dict[str, str]) -> None:
    """Each round goes through all curves at once, by the share of each that is done: a load that comes or goes hits a
    library with many points as it hits the others, rather than those alone that are still measured.
    """
    for _ in range(rounds):
        turns = [(step / len(each.settings), step, each) for each in built for step in range(len(each.settings))]
        for _, step, each in sorted(turns, key=lambda turn: turn[0]):
            if each.worker.name in missing or step >= len(each.settings):
                continue
            try:
                each.take(step, true)
            except WorkerError as error:
                missing[each.worker.name] = str(error)


def recall(found: Ids, true: Ids) -> float:
    hits = [len(np.intersect1d(a, b)) for a, b in zip(found, true, strict=True)]
    return float(np.sum(hits) / true.size)
