"""A batch that two nodes have is in the log once: every state of both, of other writers and of folds, and mutants.

One node made the batch and sent it to the other, and does not hear of it any more. Either may put it at any time, stand
still between judging its state and the put, lose the slot and judge again, jump to what HEAD says. Slots are gone the
moment they are folded. That a put does not create a folded slot anew is taken from test_model.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest

SLOTS_MAX = 4
BATCH, OTHER = "batch", "other"


class Node(NamedTuple):
    """It knows slots up to `applied`, and of those from `base` on which batches they hold. `aims` at a slot with a put
    that it judged, 0 without; `over`: it will not put the batch any more."""

    applied: int = 0
    base: int = 1
    aims: int = 0
    over: bool = False


class State(NamedTuple):
    """`log` is all that was ever put, of which slots below `folded` are gone. `since` is -1 until the batch is made."""

    log: tuple[str, ...] = ()
    folded: int = 1
    since: int = -1
    nodes: tuple[Node, ...] = (Node(), Node())


def _world(s: State, mutant: str) -> Iterator[State]:
    """Other writers, folds, and the making of the batch."""
    if len(s.log) < SLOTS_MAX:
        yield s._replace(log=(*s.log, OTHER))
    if s.folded <= len(s.log):
        yield s._replace(folded=s.folded + 1)
    if s.since < 0:
        for since in range(s.nodes[0].applied, len(s.log) + 1 + (mutant == "since may be ahead of the log")):
            yield s._replace(since=since)  # any slot that the node knows to be there


def _steps(s: State, node: Node, mutant: str) -> Iterator[tuple[Node, tuple[str, ...]]]:
    """What one node may do next, and the log after it."""
    if node.applied < len(s.log) and s.folded <= node.applied + 1:
        yield node._replace(applied=node.applied + 1), s.log
    if node.base < s.folded:  # HEAD, and the tail up to where it was at least
        yield node._replace(applied=max(node.applied, s.folded - 1), base=s.folded), s.log
    if s.since < 0 or node.over or len(s.log) == SLOTS_MAX:
        return
    if not node.aims:
        known = BATCH in s.log[node.base - 1 : node.applied]
        told = node.base <= s.since + 1 + (mutant == "one folded slot more")
        if known and mutant != "uuids are not looked for":
            yield node._replace(over=True), s.log
        elif told or mutant == "folded slots are not thought of":
            yield node._replace(aims=node.applied + 1), s.log
        else:
            yield node._replace(over=True), s.log
    elif node.aims == len(s.log) + 1:
        yield node._replace(aims=0, over=True), (*s.log, BATCH)
    elif mutant == "judged once":
        yield node._replace(aims=len(s.log) + 1), s.log
    else:
        yield node._replace(aims=0), s.log


def _explore(mutant: str = "") -> tuple[int, bool]:
    """How many states there are, and whether the batch is in the log twice in one of them."""
    seen, todo = {State()}, [State()]
    while todo:
        s = todo.pop()
        found = list(_world(s, mutant))
        for i, node in enumerate(s.nodes):
            for after, log in _steps(s, node, mutant):
                found.append(s._replace(log=log, nodes=(*s.nodes[:i], after, *s.nodes[i + 1 :])))
        for t in found:
            if t.log.count(BATCH) > 1:
                return len(seen), True
            if t not in seen:
                seen.add(t)
                todo.append(t)
    return len(seen), False


def test_a_batch_is_in_the_log_once() -> None:
    states, twice = _explore()
    assert not twice
    assert states > 10_000


@pytest.mark.parametrize(
    "mutant",
    ["uuids are not looked for", "folded slots are not thought of", "one folded slot more", "judged once",
     "since may be ahead of the log"],
)  # fmt: skip
def test_without_one_of_its_rules_it_is_there_twice(mutant: str) -> None:
    assert _explore(mutant)[1]
