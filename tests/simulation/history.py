"""What clients asked and were told, in the simulation's time; and marks by which their writes are found in the log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID

from akidb.types import Lsn, Point
from akidb.wal import Batch, Delete, Patch, Upsert

Outcome = Literal["done", "refused", "unknown"]
"""Told so: it happened; nothing was written; it may have happened (also: no answer ever came)."""

MARK = "mark-"


@dataclass(eq=False)
class Part:
    """A write in one shard. `refusal` says why it was refused, or "tried" once nobody can tell any more."""

    outcome: Outcome = "unknown"
    refusal: str = ""


@dataclass(eq=False)
class Write:
    """One write as its caller knows it. A request that is sent again is one write, from first call to last answer.

    `parts` are what became of it in each of its shards, `lsn` is the largest that its caller was told, 0 if it was told
    none.
    """

    mark: str
    collection: UUID
    began: float
    parts: dict[int, Part]
    ended: float = float("inf")
    lsn: Lsn = 0
    expected: Mapping[str, int] = field(default_factory=dict)
    deleted: int | None = None

    @property
    def outcome(self) -> Outcome:
        """Of all parts together."""
        outcomes = {part.outcome for part in self.parts.values()}
        return outcomes.pop() if len(outcomes) == 1 else "unknown"


@dataclass(eq=False)
class Read:
    """One read: all that a snapshot told, at the log positions it says; `least` is what it asked for of each shard."""

    collection: UUID
    consistency: str
    began: float
    ended: float
    lsns: Sequence[Lsn]
    least: Sequence[Lsn]
    points: Sequence[Point]
    count: int
    nearest: Sequence[tuple[str, float]]
    query: Any
    matching: int
    picked: Sequence[Point | None]


@dataclass(eq=False)
class Snapped:
    """One acknowledged call about a snapshot: made or read, of slot `lsn` (of several shards the largest), or a revert
    to it in slot `at` by `batch`, that keeps what it found as `before`.

    `points` is what reading it told, of slots `lsns`; `made` if that was the one who made it, at once.
    """

    collection: UUID
    began: float
    ended: float
    lsn: Lsn
    at: Lsn = 0
    points: Sequence[Point] | None = None
    lsns: Sequence[Lsn] = ()
    made: bool = False
    batch: UUID | None = None
    before: str = ""


@dataclass(eq=False)
class Cloned:
    """An acknowledged clone: the collection that was made, of another as it was, or else of a snapshot."""

    collection: UUID
    began: float
    ended: float
    latest: bool


@dataclass(eq=False)
class Missing:
    """A call that was told that there is no such collection."""

    began: float
    ended: float


@dataclass
class History:
    writes: list[Write] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)
    snapped: list[Snapped] = field(default_factory=list)
    cloned: list[Cloned] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def marks(batch: Batch) -> set[str]:
    """The marks of the writes that a batch of the log comes from: one, if all is well."""
    found = {str(batch.uuid)} if batch.once is not None else set()
    for operation in batch.operations:
        match operation:
            case Upsert(_, _, payloads):
                found |= {mark for payload in payloads if payload and (mark := _mark_in(payload))}
            case Patch(_, patches):
                found |= {mark for patch in patches if (mark := _mark_in(patch))}
            case Delete(ids):
                found |= {id_.partition("/")[0] for id_ in ids if id_.startswith(MARK)}
    return found


def _mark_in(text: bytes) -> str:
    at = text.find(b'"' + MARK.encode())
    return "" if at < 0 else text[at + 1 : text.index(b'"', at + 1)].decode()
