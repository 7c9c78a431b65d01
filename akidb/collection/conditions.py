"""Conditions of a write: which version each of its points must have when it takes its slot.

A point's version is the LSN of the slot that wrote it, 0 while there is none. In one slot a point is written by one
batch (akidb.wal.queue), so a version names one content. A condition is judged on the state up to the slot before the
write's own, and nothing can come between the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from akidb import query
from akidb.collection.points import refuse
from akidb.errors import ConflictError, Fault, NotFoundError
from akidb.query import Snapshot
from akidb.types import IfVersion

_ABSENT, _ANY = 0, -1
_LSN_MAX = (1 << 63) - 1
_FAULTS_MAX = 100
"""Most points that a refusal names."""


@dataclass(frozen=True, slots=True, eq=False)
class Conditions:
    """What is asked of the points of a batch, or of the part of it that one shard holds.

    Attributes:
        expected: int64 (len(ids),): the version each point must have; _ANY is no condition, _ABSENT no point.
        word: the argument that asks for it.
        positions: int64 (len(ids),), where each version stands in that argument; None: it has one for all.
        present: whether each point must be there, whatever its version.
    """

    ids: Sequence[str]
    expected: npt.NDArray[np.int64]
    word: Literal["if_absent", "if_version"] = "if_version"
    positions: npt.NDArray[np.int64] | None = None
    present: bool = False

    def part(self, chosen: npt.NDArray[np.int64]) -> Conditions:
        """What is asked of the ids at these places."""
        positions = None if self.positions is None else self.positions[chosen]
        ids = [self.ids[i] for i in chosen.tolist()]
        return Conditions(ids, self.expected[chosen], self.word, positions, self.present)

    def check(self, snapshot: Snapshot) -> None:
        """Raises ConflictError naming the points that have another version: `point_exists` if the first of them was
        to be absent, else `version_mismatch`; NotFoundError `point_not_found` if one must be there and is not."""
        if self.present:  # what is patched is read: where that fails, before the slot is taken
            query.fetch(snapshot, self.ids)
        versions = query.versions(snapshot, self.ids)
        if self.present and not versions.all():
            missing = self.ids[int(np.argmin(versions))]
            name = snapshot.spec.name
            raise NotFoundError(f"collection {name!r} has no point {missing!r}", code="point_not_found")
        wrong = np.flatnonzero((self.expected != _ANY) & (self.expected != versions))
        if not len(wrong):
            return
        faults = [
            Fault(self._loc(i), _difference(self.ids[i], int(versions[i]), int(self.expected[i])))
            for i in wrong[:_FAULTS_MAX].tolist()
        ]
        code = "point_exists" if self.expected[wrong[0]] == _ABSENT else "version_mismatch"
        more = f" (and {len(wrong) - 1} more points)" if len(wrong) > 1 else ""
        where = ".".join(map(str, faults[0].loc))
        raise ConflictError(f"{where}: {faults[0].msg}{more}; nothing was written", code=code, faults=faults)

    def _loc(self, i: int) -> tuple[str | int, ...]:
        return (self.word,) if self.positions is None else (self.word, int(self.positions[i]))


def conditions(
    ids: Sequence[str], *, if_absent: bool = False, if_version: IfVersion = None, present: bool = False
) -> Conditions | None:
    """What a caller asks of `ids`; None if nothing.

    Raises:
        InvalidInputError: `invalid_condition`: a version that none can be, another number of them than of ids, or both
            kinds of condition.
    """
    if not isinstance(if_absent, bool):
        raise refuse("invalid_condition", ("if_absent",), f"is {if_absent!r:.60}, expected True or False")
    if if_version is None:
        if if_absent:
            return Conditions(ids, np.full(len(ids), _ABSENT, np.int64), "if_absent")
        return Conditions(ids, np.full(len(ids), _ANY, np.int64), present=True) if present else None
    if if_absent:
        raise refuse("invalid_condition", ("if_version",), "is given beside if_absent, expected one of the two")
    if isinstance(if_version, str | bytes) or not isinstance(if_version, Sequence | np.ndarray):
        same = _version(if_version, ("if_version",))
        return Conditions(ids, np.full(len(ids), same, np.int64), present=present)
    if len(if_version) != len(ids):
        msg = f"has {len(if_version)} versions for {len(ids)} ids"
        raise refuse("invalid_condition", ("if_version",), msg)
    expected = np.array([_version(version, ("if_version", i)) for i, version in enumerate(if_version)], np.int64)
    if (expected == _ANY).all() and not present:
        return None
    return Conditions(ids, expected, positions=np.arange(len(ids)), present=present)


def _version(given: object, loc: tuple[str | int, ...]) -> int:
    if given is None:
        return _ANY
    if isinstance(given, bool) or not isinstance(given, int | np.integer) or not 0 <= given <= _LSN_MAX:
        raise refuse("invalid_condition", loc, f"is {given!r:.60}, expected a version, an integer from 0")
    return int(given)


def _difference(id_: str, version: int, expected: int) -> str:
    is_now = f"has version {version}" if version else "is not there"
    return f"point {id_!r} {is_now}, expected {f'version {expected}' if expected else 'none'}"
