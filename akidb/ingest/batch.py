"""What every reader makes of its format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from akidb.types import VectorArray


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns (or JSON fields) hold what.

    `id` None: ids are made from the file's hash and the line. `payload` None: all columns but those two.
    """

    vector: str
    id: str | None = None
    payload: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that was not stored. `line` counts from 1: the line of a text file, the row of a Parquet file."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive rows of one file: the good ones in file order, and the rejects among them.

    `ids`, `vectors` (float32, (n, dim)), `payloads` (JSON text) and `lines` are parallel; `end` is how many rows of the
    file have been read when this batch is.
    """

    ids: Sequence[str]
    vectors: VectorArray
    payloads: Sequence[bytes | None]
    lines: Sequence[int]
    end: int
    rejects: Sequence[Reject] = ()

    def only(self, rows: Sequence[int], rejects: Sequence[Reject] = ()) -> Batch:
        """The batch with these of its rows, and with more rejects."""
        return Batch(
            [self.ids[row] for row in rows],
            self.vectors[list(rows)],
            [self.payloads[row] for row in rows],
            [self.lines[row] for row in rows],
            self.end,
            sorted([*self.rejects, *rejects], key=lambda reject: reject.line),
        )

    def without(self, reasons: Mapping[int, str]) -> Batch:
        """The batch without these of its rows, which become rejects."""
        kept = [row for row in range(len(self.ids)) if row not in reasons]
        return self.only(kept, [Reject(self.lines[row], reason) for row, reason in reasons.items()])
