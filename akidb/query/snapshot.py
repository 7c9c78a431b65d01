"""The state of a collection's shards as a query sees it: parts that hold rows, and which rows of each are true."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from akidb.errors import CorruptionError
from akidb.filter import Filter, evaluate, to_mask
from akidb.segment import Columns, Mask
from akidb.types import CollectionSpec, Lsn


class Part:
    """One segment or memtable view and its live rows.

    Args:
        columns: a Segment or a MemView.
        live: bool (rows,), never changed afterwards; None takes the columns' own (a view knows its live rows, of a
        segment
            all are live).
    """

    def __init__(self, columns: Columns, live: Mask | None = None) -> None:
        self._columns = columns
        self.live = columns.live if live is None else live
        assert self.live is None or len(self.live) == columns.rows, "a live mask has one entry per row"

    @property
    def columns(self) -> Columns:
        """Raises CorruptionError where the segment was found to be damaged: who needs it is refused."""
        self._columns.check()
        return self._columns

    @property
    def is_sound(self) -> bool:
        """Whether nothing is known against its bytes."""
        try:
            self._columns.check()
        except CorruptionError:
            return False
        return True

    @cached_property
    def live_rows(self) -> int:
        return self._columns.rows if self.live is None else int(np.count_nonzero(self.live))

    def is_live(self, rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Mask:
        """For each of `rows` (-1: no row) whether it is there and live."""
        there = rows >= 0
        if self.live is not None:
            there[there] = self.live[rows[there]]
        return there

    def matching(self, filter: Filter | None) -> tuple[Mask | None, int]:
        """The live rows that match, as a mask (None: all rows) and their number."""
        if filter is None:
            if self._columns.lost_ids:
                self._columns.check()
            return self.live, self.live_rows
        columns = self.columns
        mask = to_mask(evaluate(filter, columns.fields), columns.rows)
        if self.live is not None:
            mask &= self.live
        return mask, int(np.count_nonzero(mask))


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """Everything that each shard had applied up to its slot of `lsns`; immutable, so any thread may search it for as
    long as it likes.

    Invariant: an id is live in at most one part. Answers therefore do not depend on the order of the parts.
    """

    parts: tuple[Part, ...]
    lsns: tuple[Lsn, ...]
    spec: CollectionSpec

    @property
    def lsn(self) -> Lsn:
        """The slot, of several shards the largest."""
        return max(self.lsns)

    @property
    def live_rows(self) -> int:
        return sum(part.live_rows for part in self.parts)


def side_by_side(snapshots: Sequence[Snapshot]) -> Snapshot:
    """One snapshot of several shards, in their order."""
    if len(snapshots) == 1:
        return snapshots[0]
    parts = tuple(part for snapshot in snapshots for part in snapshot.parts)
    lsns = tuple(lsn for snapshot in snapshots for lsn in snapshot.lsns)
    return Snapshot(parts, lsns, snapshots[0].spec)
