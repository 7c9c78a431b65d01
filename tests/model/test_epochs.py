"""Garbage collection by epochs names no object that is gone: every state of jobs and collectors, and mutants.

Two jobs make an object each and name it in HEAD, the second in place of what HEAD names then (a merge). A snapshot pins
what HEAD names, and a revert names that again. Two collectors raise the epoch, read what HEAD and its snapshot name,
and delete what is older and unnamed, one after the other, standing still in between for as long as it takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest

JOBS, COLLECTORS, EPOCH_MAX = 2, 2, 3


class Job(NamedTuple):
    """`step`: 0 not begun, 1 knows the epoch, 2 its object is put, 3 over. `based`: what HEAD named when it began."""

    step: int = 0
    epoch: int = 0
    based: int = -1


class Collector(NamedTuple):
    """`step`: 0 idle, 1 has looked but not raised (a mutant), 2 has raised the epoch, 3 deletes. `objects`: what was
    named when it looked, and then what it takes for garbage."""

    step: int = 0
    epoch: int = 0
    objects: frozenset[int] = frozenset()


class State(NamedTuple):
    """Objects are numbered by the job that makes them; -1 is none. HEAD: its epoch, what it names, what it pins."""

    epoch: int = 0
    named: int = -1
    pinned: int = -1
    stored: frozenset[int] = frozenset()
    keys: tuple[int, ...] = (0,) * JOBS
    jobs: tuple[Job, ...] = (Job(),) * JOBS
    collectors: tuple[Collector, ...] = (Collector(),) * COLLECTORS


def _with(all_: tuple, at: int, new: object) -> tuple:
    return (*all_[:at], new, *all_[at + 1 :])


def _jobs(s: State, mutant: str) -> Iterator[State]:
    for i, job in enumerate(s.jobs):
        if job.step == 0:
            yield s._replace(jobs=_with(s.jobs, i, Job(1, s.epoch, s.named)))
        elif job.step == 1:
            put = s._replace(stored=s.stored | {i}, keys=_with(s.keys, i, job.epoch))
            yield put._replace(jobs=_with(s.jobs, i, job._replace(step=2)))
        elif job.step == 2:
            over = s._replace(jobs=_with(s.jobs, i, job._replace(step=3)))
            yield over  # it died, or HEAD is another by now
            young = s.epoch - job.epoch <= (2 if mutant == "one epoch more to name" else 1)
            if s.named == job.based and (young or mutant == "no epoch when naming"):
                yield over._replace(named=i)


def _snapshots(s: State, mutant: str) -> Iterator[State]:
    if s.named >= 0:
        yield s._replace(pinned=s.named)
    if s.pinned >= 0:
        yield s._replace(named=s.pinned)  # a revert
        yield s._replace(pinned=-1)


def _kept(s: State, mutant: str) -> frozenset[int]:
    return frozenset({s.named} | (set() if mutant == "snapshots are forgotten" else {s.pinned}))


def _collectors(s: State, mutant: str) -> Iterator[State]:
    def then(i: int, each: Collector, **changes: object) -> State:
        return s._replace(collectors=_with(s.collectors, i, each), **changes)

    for i, each in enumerate(s.collectors):
        if each.step == 0 and s.epoch < EPOCH_MAX:
            if mutant == "looks before it raises":
                yield then(i, Collector(1, s.epoch + 1, _kept(s, mutant)))
            else:  # the swap that raises the epoch tells what HEAD names
                yield then(i, Collector(2, s.epoch + 1, _kept(s, mutant)), epoch=s.epoch + 1)
        elif each.step == 1 and s.epoch < each.epoch:
            yield then(i, each._replace(step=2), epoch=each.epoch)
        elif each.step == 2:  # the objects are listed after it
            age = 1 if mutant == "one epoch less to delete" else 2
            garbage = frozenset(o for o in s.stored - each.objects if each.epoch - s.keys[o] >= age)
            yield then(i, each._replace(step=3, objects=garbage))
        elif each.step == 3:
            yield then(i, Collector())  # died, or is done
            for gone in each.objects:
                yield then(i, each._replace(objects=each.objects - {gone}), stored=s.stored - {gone})


def _explore(mutant: str = "") -> tuple[int, str | None]:
    """How many states there are, and the first rule that is broken."""
    seen, todo = {State()}, [State()]
    while todo:
        s = todo.pop()
        for successors in (_jobs(s, mutant), _snapshots(s, mutant), _collectors(s, mutant)):
            for t in successors:
                if t in seen:
                    continue
                if not {t.named} <= t.stored | {-1}:
                    return len(seen), "what HEAD names is there"
                if not {t.pinned} <= t.stored | {-1}:
                    return len(seen), "what a snapshot names is there"
                seen.add(t)
                todo.append(t)
    return len(seen), None


def test_nothing_named_is_ever_deleted() -> None:
    states, broken = _explore()
    assert broken is None
    assert states > 10_000


@pytest.mark.parametrize(
    "mutant",
    ["no epoch when naming", "one epoch more to name", "one epoch less to delete", "snapshots are forgotten",
     "looks before it raises"],
)  # fmt: skip
def test_without_one_of_its_rules_something_is_lost(mutant: str) -> None:
    assert _explore(mutant)[1] is not None
