"""What a clone names is there: every state of makers, collectors and drops, and mutants.

Collection 0 makes an object; 1 is cloned from 0, 2 from 1, so that all may name it. Each has a HEAD, which names the
object or not (any more), keeps it for a snapshot or not, and keeps it for the next collection by a pin or not. A maker
pins, puts the clone's HEAD, and records the clone in the catalogue; it may die or stand still anywhere. A collector
looks at the catalogue and at the clone's HEAD, forbids a clone that is not in the catalogue, takes the pin away, and
deletes the object once 0 needs it neither for itself nor for others, with all the time in the world in between.

Of one collection alone tests/model/test_epochs.py shows that what its HEAD names is there, and what it does not name is
never named again; so here a look and what follows from it are the steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest

COLLECTIONS = 3
UNBORN, LIVING, DROPPED, FORBIDDEN = range(4)


class Collection(NamedTuple):
    """As the catalogue has it, and its HEAD. `kept` is the pin for the next one."""

    catalogue: int = UNBORN
    names: bool = False
    snapshot: bool = False
    kept: bool = False

    def needs(self, mutant: str) -> bool:
        """Whether anybody may come to the object by it."""
        by_clones = self.kept and mutant != "clones of the clone are forgotten"
        if self.catalogue == DROPPED:
            return by_clones and mutant != "a dropped clone needs nothing"
        return self.names or by_clones or (self.snapshot and mutant != "snapshots of the clone are forgotten")


class State(NamedTuple):
    """`makers[i]` makes collection i + 1: 0 not begun, 1 has looked, 2 has pinned, 3 has put HEAD, 4 over.

    `collectors[i]` looks after the pin of collection i: 0 idle, 1 knows that the clone lives or lived, 2 takes the pin
    away. `sweep` is of collection 0: 0 idle, 1 knows that it lives, 2 that it is dropped, 3 deletes.
    """

    stored: bool = True
    collections: tuple[Collection, ...] = (Collection(LIVING, names=True), *[Collection()] * (COLLECTIONS - 1))
    makers: tuple[int, ...] = (0,) * (COLLECTIONS - 1)
    collectors: tuple[int, ...] = (0,) * (COLLECTIONS - 1)
    sweep: int = 0

    def having(self, at: int, **changes: object) -> State:
        found = self.collections
        return self._replace(collections=(*found[:at], found[at]._replace(**changes), *found[at + 1 :]))

    def maker(self, at: int, step: int) -> State:
        return self._replace(makers=(*self.makers[:at], step, *self.makers[at + 1 :]))

    def collector(self, at: int, step: int) -> State:
        return self._replace(collectors=(*self.collectors[:at], step, *self.collectors[at + 1 :]))


def _users(s: State, mutant: str) -> Iterator[State]:
    for i, each in enumerate(s.collections):
        if each.catalogue != LIVING:
            continue
        yield s.having(i, catalogue=DROPPED)
        yield s.having(i, names=False)  # it was written anew
        yield s.having(i, snapshot=False)
        if each.names:
            yield s.having(i, snapshot=True)
        if each.snapshot:
            yield s.having(i, names=True)  # a revert


def _makers(s: State, mutant: str) -> Iterator[State]:
    for i, step in enumerate(s.makers):
        origin, clone = s.collections[i], s.collections[i + 1]
        if 0 < step < 4:
            yield s.maker(i, 4)  # it died
        if step == 0 and origin.catalogue == LIVING and (origin.names or origin.snapshot):
            yield s.maker(i, 1)
        elif step == 1:
            if origin.names or origin.snapshot or mutant == "HEAD is not looked at when pinning":
                yield s.maker(i, 2).having(i, kept=mutant != "the pin comes last")
        elif step == 2:
            yield s.maker(i, 3).having(i + 1, names=True)
        elif step == 3:
            allowed = clone.catalogue == UNBORN or (mutant == "the forbidden may be made" and clone.catalogue != LIVING)
            lives = origin.catalogue == LIVING or mutant == "the origin may be gone"
            if allowed and lives:
                made = s.maker(i, 4).having(i + 1, catalogue=LIVING)
                yield made.having(i, kept=True) if mutant == "the pin comes last" else made


def _collectors(s: State, mutant: str) -> Iterator[State]:
    for i, step in enumerate(s.collectors):
        origin, clone = s.collections[i], s.collections[i + 1]
        if step == 0 and origin.kept:
            if clone.catalogue == UNBORN and mutant == "the unborn are not forbidden":
                yield s.collector(i, 2)
            elif clone.catalogue == UNBORN:
                yield s.having(i + 1, catalogue=FORBIDDEN)
            else:
                yield s.collector(i, 2 if clone.catalogue == FORBIDDEN else 1)
        elif step == 1:
            yield s.collector(i, 0 if clone.needs(mutant) else 2)
        elif step == 2:
            yield s.collector(i, 0)
            yield s.collector(i, 0).having(i, kept=False)


def _sweep(s: State, mutant: str) -> Iterator[State]:
    made_it = s.collections[0]
    if s.sweep == 0:
        yield s._replace(sweep=2 if made_it.catalogue == DROPPED else 1)
    elif s.sweep in (1, 2):
        itself = s.sweep == 1 and (made_it.names or made_it.snapshot)
        others = made_it.kept and not (s.sweep == 2 and mutant == "a drop forgets clones")
        yield s._replace(sweep=0 if itself or others else 3)
    else:
        yield s._replace(sweep=0, stored=False)


def _explore(mutant: str = "") -> tuple[int, str | None]:
    """How many states there are, and what is broken in the first that is."""
    seen, todo = {State()}, [State()]
    while todo:
        s = todo.pop()
        for successors in (_users(s, mutant), _makers(s, mutant), _collectors(s, mutant), _sweep(s, mutant)):
            for t in successors:
                if t in seen:
                    continue
                for i, each in enumerate(t.collections):
                    if each.catalogue == LIVING and (each.names or each.snapshot) and not t.stored:
                        return len(seen), f"collection {i} names what is gone"
                seen.add(t)
                todo.append(t)
    return len(seen), None


def test_what_a_clone_names_is_never_deleted() -> None:
    states, broken = _explore()
    assert broken is None
    assert states > 10_000


@pytest.mark.parametrize(
    "mutant",
    ["the pin comes last", "HEAD is not looked at when pinning", "the origin may be gone", "the forbidden may be made",
     "the unborn are not forbidden", "snapshots of the clone are forgotten", "clones of the clone are forgotten",
     "a dropped clone needs nothing", "a drop forgets clones"],
)  # fmt: skip
def test_without_one_of_its_rules_something_is_lost(mutant: str) -> None:
    assert _explore(mutant)[1] is not None
