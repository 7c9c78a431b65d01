"""The checker itself: right histories pass, each kind of violation is found, and it says what all permutations say."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

import pytest

from tests.linearizability.checker import ViolationError, check, check_point
from tests.linearizability.history import ANY, NEVER, History, Operation, Value


class Register:
    """A right store of one log, whose calls take a while: where in it each happens, chance decides."""

    def __init__(self, seed: int, unanswered: float = 0.1) -> None:
        self.unanswered = unanswered
        self.rng = random.Random(seed)
        self.history = History()
        self.state: dict[str, tuple[Value, int]] = {}
        self.lsn = 0

    def run(self, clients: int, calls: int, ids: Sequence[str]) -> History:
        free = [0.0] * clients
        planned = []
        for n in range(clients * calls):
            client = n % clients
            began = free[client] + self.rng.random()
            happens = began + self.rng.random()
            free[client] = happens + self.rng.random()
            planned.append((happens, began, free[client], client, n))
        for _, began, ended, client, n in sorted(planned):
            self._call(f"c{client}", self.rng.choice(ids), f"v{n}", began, ended)
        return self.history

    def _call(self, client: str, id_: str, mark: str, began: float, ended: float) -> None:
        value, version = self.state.get(id_, (None, 0))
        rng = self.rng
        if rng.random() < 0.5:
            self._note(Operation(client, "read", id_, value, began, ended, "done", version=version))
            return None
        expected = ANY if rng.random() < 0.4 else value if rng.random() < 0.6 else "v-none"
        write = Operation(client, "write", id_, None if rng.random() < 0.2 else mark, began, ended, expected=expected)
        if rng.random() < self.unanswered:  # no answer: it happened or not
            write.ended = NEVER
            if rng.random() < 0.5:
                return self._note(write)
        if expected is ANY or expected == value:
            self.lsn += 1
            write.version = self.lsn
            self.state[id_] = (write.value, self.lsn if write.value else 0)
        if write.ended == NEVER:
            write.version = 0
        else:
            write.outcome = "done" if write.version else "refused"
        return self._note(write)

    def _note(self, operation: Operation) -> None:
        self.history.operations.append(operation)


@pytest.mark.parametrize("seed", range(40))
def test_what_a_right_store_tells_passes(seed: int) -> None:
    check(Register(seed).run(clients=6, calls=60, ids=("a", "b", "c")))


def _permutes(operations: Sequence[Operation]) -> bool:
    """Whether any order of any choice of the unknown ones explains the answers: the definition, tried out."""
    certain = [o for o in operations if o.outcome in ("done", "refused")]
    unknown = [o for o in operations if o.outcome == "unknown"]
    for count in range(len(unknown) + 1):
        for chosen in itertools.combinations(unknown, count):
            if any(map(_explains, itertools.permutations([*certain, *chosen]))):
                return True
    return False


def _explains(order: Sequence[Operation]) -> bool:
    state: Value = None
    for i, operation in enumerate(order):
        if any(later.ended < operation.began for later in order[i:]):
            return False
        holds = operation.expected is ANY or operation.expected == state
        if operation.kind == "read":
            if operation.value != state:
                return False
        elif operation.outcome == "refused":
            if holds:
                return False
        elif holds:
            state = operation.value
        elif operation.outcome == "done":
            return False
    return True


def test_it_says_what_all_permutations_say() -> None:
    rng = random.Random(7)
    verdicts = []
    for _ in range(700):
        operations = []
        for n in range(rng.randint(2, 6)):
            began = rng.randint(0, 4)
            outcome = rng.choice(("done", "done", "refused", "unknown", "failed"))
            ended = NEVER if outcome == "unknown" else began + rng.randint(0, 6)
            value = rng.choice((None, None, "v0", "v1"))
            if rng.random() < 0.5:
                operations.append(Operation("c", "read", "a", value, began, ended, "done"))
            else:
                expected = rng.choice((ANY, None, "v0", "v1"))
                expected = None if outcome == "refused" and expected is ANY else expected
                mark = None if rng.random() < 0.2 else f"v{n}"
                operations.append(Operation("c", "write", "a", mark, began, ended, outcome, expected))
        right = _permutes(operations)
        verdicts.append(right)
        if right:
            check_point(operations)
        else:
            with pytest.raises(ViolationError):
                check_point(operations)
    assert 0.2 < sum(verdicts) / len(verdicts) < 0.8, "nearly all alike: this shows little"


def read(value: Value, version: int, at: float, until: float | None = None) -> Operation:
    return Operation("r", "read", "a", value, at, at + 0.5 if until is None else until, "done", version=version)


def write(value: Value, version: int, at: float, outcome: str = "done", expected: object = ANY) -> Operation:
    ended = NEVER if outcome == "unknown" else at + 0.5
    told = version if outcome == "done" else 0
    return Operation("w", "write", "a", value, at, ended, outcome, expected, told)  # type: ignore[arg-type]


# Each follows a right history; times and positions count from its end, and point "a" is absent then.
VIOLATIONS = {
    "a stale read": [write("x", 1, 1), write("y", 2, 2), read("x", 1, 3)],
    "a lost acknowledged write": [write("x", 1, 1), read(None, 0, 2)],
    "a lost acknowledged delete": [write("x", 1, 1), write(None, 2, 2), read("x", 1, 3)],
    "a deleted point comes back": [write("x", 1, 1), write(None, 2, 2), read(None, 0, 3), read("x", 1, 4)],
    "a conditional write done twice": [
        write("x", 1, 1), write("y", 2, 2, expected="x"), write("z", 3, 2, expected="x"),
    ],
    "a conditional write done though it does not hold": [write("x", 1, 1), write("y", 2, 2, expected="w")],
    "a conditional write refused though it holds": [write("x", 1, 1), write("y", 0, 2, "refused", expected="x")],
    "a refused write happened": [write("x", 1, 1), write("y", 0, 2, "refused", expected=None), read("y", 2, 3)],
    "two of if_absent done": [write("x", 1, 1, expected=None), write("y", 2, 1, expected=None)],
    "a write that failed happened": [write("x", 0, 1, "failed"), read("x", 1, 2)],
    "a value nobody wrote": [write("x", 1, 1), read("y", 2, 2)],
    "a value before its write began": [read("x", 1, 1), write("x", 1, 2)],
    "new, then old": [write("x", 1, 1), write("y", 0, 2, "unknown"), read("y", 2, 3), read("x", 1, 4)],
    "an unknown write that happens, and happens again": [
        write("x", 0, 1, "unknown"), read("x", 1, 2), write("y", 2, 3), read("y", 2, 4), read("x", 1, 5),
    ],
    "a forgotten write overtakes a later one": [write("x", 0, 1, "unknown"), write(None, 2, 2), read("x", 1, 3)],
    "readers disagree on the order of two writes": [
        write("x", 1, 1), write("y", 2, 1), read("x", 1, 2), read("y", 2, 3), read("x", 1, 4),
    ],
    "a point that is absent for one reader": [write("x", 1, 1), read("x", 1, 2), read(None, 0, 3), read("x", 1, 4)],
    "a write before one that ended before it began": [write("x", 5, 1), write("y", 4, 2), read("y", 4, 3)],
    "a value with two versions": [write("x", 1, 1), read("x", 2, 2)],
    "a position of the log told twice": [write("x", 1, 1), write("y", 1, 2), read("y", 1, 3)],
}  # fmt: skip


@pytest.mark.parametrize("kind", VIOLATIONS)
@pytest.mark.parametrize("seed", range(3))
def test_a_planted_violation_is_found(kind: str, seed: int) -> None:
    history = Register(seed, unanswered=0.0).run(clients=5, calls=30, ids=("a", "b"))
    last = max(o.ended for o in history.operations)
    top = max(o.version for o in history.operations)
    history.operations.append(Operation("w", "write", "a", None, last + 1, last + 2, "done", version=top + 1))
    check(history)
    for operation in VIOLATIONS[kind]:
        version = operation.version and operation.version + top + 1
        history.operations.append(
            Operation(
                operation.client, operation.kind, "a", operation.value, operation.began + last + 3,
                operation.ended + last + 3, operation.outcome, operation.expected, version,
            )
        )  # fmt: skip
    with pytest.raises(ViolationError):
        check(history)


def test_there_are_twenty_kinds_of_violations() -> None:
    assert len(VIOLATIONS) == 20


def test_an_unknown_write_may_happen_late_or_never() -> None:
    lost = write("x", 0, 1, "unknown")
    check(History([lost, read(None, 0, 2), read(None, 0, 3), read("x", 9, 50)]))
    check(History([lost, read(None, 0, 2)]))
