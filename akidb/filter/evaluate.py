"""From a filter to the rows it lets pass."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from pyroaring import BitMap

from akidb.filter.ast import Exists, Filter, Group, Match, Range


class FieldSource(Protocol):
    """The values of payload fields, by row. All methods return a bitmap of the caller's own.

    A source may grow while it is read (a memtable's): what is returned is exact for the rows that were there when the
    call began, and may hold newer rows.
    """

    @property
    def rows(self) -> int:
        """How many rows there are; they are 0 to rows - 1."""
        ...

    def match(self, condition: Match) -> BitMap:
        """Rows of which some value of the field equals one of the condition's."""
        ...

    def range(self, condition: Range) -> BitMap:
        """Rows of which one value of the field lies within all bounds."""
        ...

    def exists(self, field: str) -> BitMap:
        """Rows that have a value at the field or below it."""
        ...


def evaluate(filter_: Filter, fields: FieldSource) -> BitMap:
    """The rows that match, exactly; `len()` of it is the exact count, at no cost.

    Conditions that are cheap to look up go first, and a group ends as soon as nothing is left of it.

    Raises:
        CorruptionError: the source's bytes do not make sense.
    """
    if isinstance(filter_, Match):
        return fields.match(filter_)
    if isinstance(filter_, Range):
        return fields.range(filter_)
    if isinstance(filter_, Exists):
        return fields.exists(filter_.field)
    return _group(filter_, fields)


def _group(group: Group, fields: FieldSource) -> BitMap:
    rows: BitMap | None = None
    for condition in _cheapest_first(group.must):
        found = evaluate(condition, fields)
        rows = found if rows is None else _intersection(rows, found)
        if not rows:
            return rows
    if group.should:
        found = BitMap.union(*(evaluate(condition, fields) for condition in group.should))
        rows = found if rows is None else _intersection(rows, found)
    if rows is None:
        rows = BitMap(range(fields.rows))
    for condition in _cheapest_first(group.must_not):
        if not rows:
            break
        rows -= evaluate(condition, fields)
    return rows


def _intersection(left: BitMap, right: BitMap) -> BitMap:
    """Shrinks the smaller of two bitmaps of our own in place."""
    if len(right) < len(left):
        left, right = right, left
    left &= right
    return left


_COST = {Exists: 0, Match: 1, Range: 2, Group: 3}


def _cheapest_first(conditions: Iterable[Filter]) -> list[Filter]:
    """By kind: stored bitmaps, then postings, then slices of columns, then whole groups."""
    return sorted(conditions, key=lambda condition: _COST[type(condition)])
