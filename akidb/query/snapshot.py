"""The state of a shard as a query sees it: parts that hold rows, and which rows of each are true."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

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
        self.columns = columns
        self.live = columns.live if live is None else live
        assert self.live is None or len(self.live) == columns.rows, "a live mask has one entry per row"

    @cached_property
    def live_rows(self) -> int:
        return self.columns.rows if self.live is None else int(np.count_nonzero(self.live))

    def is_live(self, rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Mask:
        """For each of `rows` (-1: no row) whether it is there and live."""
        there = rows >= 0
        if self.live is not None:
            there[there] = self.live[rows[there]]
        return there

    def matching(self, filter: Filter | None) -> tuple[Mask | None, int]:
        """The live rows that match, as a mask (None: all rows) and their number."""
        if filter is None:
            return self.live, self.live_rows
        mask = to_mask(evaluate(filter, self.columns.fields), self.columns.rows)
        if self.live is not None:
            mask &= self.live
        return mask, int(np.count_nonzero(mask))


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """Everything applied up to `lsn`; immutable, so any thread may search it for as long as it likes.

    Invariant: an id is live in at most one part. Answers therefore do not depend on the order of the parts.
    """

    parts: tuple[Part, ...]
    lsn: Lsn
    spec: CollectionSpec

    @property
    def live_rows(self) -> int:
        return sum(part.live_rows for part in self.parts)
