"""What clients asked of single points and were told, as the checker reads it.

Every write has a value of its own, so a point's state is the value it was last given, or None where it is absent; and a
condition on a version is a condition on the value whom that version was told for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Value = str | None
"""What a point is: the mark of the write that made it so, or None: it is not there."""

Outcome = Literal["done", "refused", "failed", "unknown"]
"""Told so: it happened; its condition did not hold; nothing was written; it may have happened, or yet will."""

NEVER = float("inf")


class _Any:
    def __repr__(self) -> str:
        return "any"


ANY = _Any()
"""What a write without condition expects."""


@dataclass(eq=False)
class Operation:
    """One call about the point `id`. `value` is what was read, or what is written; `ended` NEVER where no answer told.

    `version` is the log position of a write that was done, or that of the value that was read; 0 where nothing is.
    `tries` are the answers to each sending, for people.
    """

    client: str
    kind: Literal["read", "write"]
    id: str
    value: Value
    began: float
    ended: float = NEVER
    outcome: Outcome = "unknown"
    expected: Value | _Any = ANY
    version: int = 0
    tries: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        condition = "" if self.expected is ANY else f" if {self.expected}"
        when = f"{self.began:.4f} to {self.ended:.4f}"
        asked = f"{self.client} {self.kind} {self.id} = {self.value}{condition}"
        return f"{when} {asked}: {self.outcome} @{self.version} {self.tries}"


@dataclass
class History:
    operations: list[Operation] = field(default_factory=list)

    def by_id(self) -> dict[str, list[Operation]]:
        found: dict[str, list[Operation]] = {}
        for operation in self.operations:
            found.setdefault(operation.id, []).append(operation)
        return found
