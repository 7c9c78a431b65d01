"""Is a history linearizable? Each point by itself is a register with compare-and-swap, and linearizability is local.

The search is that of Wing and Gong (1993) with Lowe's memory of configurations seen (2017), which is also what
porcupine does. That library would bring a second language for what is a page here; that this page is right is shown
against all permutations of small histories. Two rules keep it short: what changes nothing (a read, a
refusal) is taken as soon as it fits, since taking it later can't be easier; and what may not have happened may be left.

The log gives a second, independent witness in linear time: the positions that writes and reads were told.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tests.linearizability.history import ANY, NEVER, History, Operation, Value

_SHOWN = 12  # operations before and after those that do not fit


class ViolationError(AssertionError):
    """The history is none that a linearizable store gives."""


def check(history: History) -> None:
    """Raises ViolationError with the operations that do not fit."""
    for operations in history.by_id().values():
        check_point(operations)
        _check_versions(operations)
    _check_log_order(history.operations)


def check_point(operations: Iterable[Operation]) -> None:
    """Looks for an order of one point's operations that explains all answers; each lies between its begin and end.

    Raises:
        ViolationError: there is none.
    """
    ordered = sorted((o for o in operations if o.outcome != "failed"), key=lambda o: o.began)
    certain = sum(1 << i for i, o in enumerate(ordered) if o.outcome != "unknown")
    seen: set[tuple[int, Value]] = set()
    stack: list[tuple[int, Value]] = [(0, None)]
    furthest, state_there = 0, None
    while stack:
        taken, state = stack.pop()
        taken = _take_what_changes_nothing(ordered, taken, state)
        if taken & certain == certain:
            return
        if (taken, state) in seen:
            continue
        seen.add((taken, state))
        if taken.bit_count() > furthest.bit_count():
            furthest, state_there = taken, state
        following = [i for i in _possible(ordered, taken) if ordered[i].kind == "write" and _happens(ordered[i], state)]
        # What is known to have happened is popped first: what may not have is only needed where that fails.
        following.sort(key=lambda i: ordered[i].outcome != "unknown")
        stack += [(taken | 1 << i, ordered[i].value) for i in following]
    stuck = _possible(ordered, furthest)
    near = range(max(0, min(stuck) - _SHOWN), min(len(ordered), max(stuck) + _SHOWN))
    lines = "\n".join(f"  {'?' if i in stuck else ' '} {ordered[i]}" for i in near)
    raise ViolationError(f"no order explains this point: it was {state_there!r}, and none of ? may follow\n{lines}")


def _possible(ordered: Sequence[Operation], taken: int) -> list[int]:
    """Those not taken before which nothing else must come: no other ended before they began."""
    found: list[int] = []
    first_end = NEVER
    for i, operation in enumerate(ordered):
        if operation.began > first_end:
            break
        if not taken >> i & 1:
            found.append(i)
            first_end = min(first_end, operation.ended)
    return found


def _take_what_changes_nothing(ordered: Sequence[Operation], taken: int, state: Value) -> int:
    while True:
        before = taken
        for i in _possible(ordered, taken):
            operation = ordered[i]
            fits = operation.value == state if operation.kind == "read" else _is_refused(operation, state)
            if fits:
                taken |= 1 << i
        if taken == before:
            return taken


def _happens(write: Operation, state: Value) -> bool:
    return write.outcome != "refused" and (write.expected is ANY or write.expected == state)


def _is_refused(write: Operation, state: Value) -> bool:
    return write.outcome == "refused" and write.expected != state


def _check_versions(operations: Sequence[Operation]) -> None:
    """One value has one version; and what one point's reads are told never goes back."""
    version_of: dict[str, int] = {}
    for told in operations:
        known = told.outcome == "done" and told.value is not None and told.version
        if known and version_of.setdefault(told.value, told.version) != told.version:
            raise ViolationError(f"{told}: another was told that this value has version {version_of[told.value]}")
    _check_order(operations, "a later version of the point was known when it began")


def _check_log_order(operations: Sequence[Operation]) -> None:
    """Whatever is written comes behind all positions that anybody knew before."""
    _check_order(operations, "a later position of the log was known when it began", reads=False)


def _check_order(operations: Sequence[Operation], told_otherwise: str, *, reads: bool = True) -> None:
    done = [o for o in operations if o.outcome == "done" and o.version]
    events = [(o.began, False, n) for n, o in enumerate(done)] + [(o.ended, True, n) for n, o in enumerate(done)]
    known, least = 0, [0] * len(done)
    for _, ends, n in sorted(events):
        operation = done[n]
        if not ends:
            least[n] = known + (operation.kind == "write")
            continue
        if operation.version < least[n] and (reads or operation.kind == "write"):
            raise ViolationError(f"{operation}: {told_otherwise}, {least[n] - (operation.kind == 'write')}")
        known = max(known, operation.version)
