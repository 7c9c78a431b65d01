"""Reads that need no vector: by id, by filter, in id order."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter

import numpy as np
import numpy.typing as npt

from akidb.filter import Filter
from akidb.query.snapshot import Part, Snapshot
from akidb.segment import Rows, Segment
from akidb.types import Point


def fetch(
    snapshot: Snapshot, ids: Sequence[str], *, with_vector: bool = True, with_payload: bool = True
) -> list[Point | None]:
    """The points of `ids` in their order, None where there is none."""
    found: list[Point | None] = [None] * len(ids)
    pending = np.arange(len(ids))
    for part in _sound_first(snapshot):
        if not len(pending):
            break
        rows = part.columns.find([ids[i] for i in pending.tolist()])
        here = part.is_live(rows)
        for i, point in zip(pending[here].tolist(), _points(part, rows[here], with_vector, with_payload), strict=True):
            found[i] = point
        pending = pending[~here]
    return found


def versions(snapshot: Snapshot, ids: Sequence[str]) -> npt.NDArray[np.int64]:
    """int64 (len(ids),): the LSN of the slot that wrote each point, 0 where there is none."""
    found = np.zeros(len(ids), np.int64)
    pending = np.arange(len(ids))
    for part in _sound_first(snapshot):
        if not len(pending):
            break
        rows = part.columns.find([ids[i] for i in pending.tolist()])
        here = part.is_live(rows)
        found[pending[here]] = part.columns.lsns[rows[here]]
        pending = pending[~here]
    return found


def count(snapshot: Snapshot, filter: Filter | None = None) -> int:
    """How many points match, exactly."""
    return sum(part.matching(filter)[1] for part in snapshot.parts)


def matching_ids(snapshot: Snapshot, filter: Filter | None = None) -> list[str]:
    """The ids of all points that match, in no particular order; for who deletes them, so that what tells them is
    compared with its checksums first."""
    for part in snapshot.parts:
        if isinstance(part.columns, Segment):
            part.columns.verify(("fields", "idoff", "idtext"))
    return [id_ for part in snapshot.parts for id_ in part.columns.id_at(matching_rows(part, filter))]


def scroll(
    snapshot: Snapshot,
    *,
    after: str | None = None,
    limit: int = 100,
    filter: Filter | None = None,
    with_vector: bool = False,
    with_payload: bool = True,
) -> list[Point]:
    """Up to `limit` matching points in id order (code points), from the first id greater than `after` on.

    The last point's id is the next page's `after`; fewer than `limit` points are the last page.
    """
    candidates: list[tuple[str, int, int]] = []
    for at, part in enumerate(snapshot.parts):
        rows = part.columns.following(after, limit, part.matching(filter)[0])
        candidates += [(id_, at, row) for id_, row in zip(part.columns.id_at(rows), rows.tolist(), strict=True)]
    page = sorted(candidates, key=itemgetter(0))[:limit]
    found: dict[str, Point] = {}
    for at, part in enumerate(snapshot.parts):
        rows = np.array([row for _, where, row in page if where == at], np.int64)
        found.update((point.id, point) for point in _points(part, rows, with_vector, with_payload))
    return [found[id_] for id_, _, _ in page]


def _sound_first(snapshot: Snapshot) -> list[Part]:
    """An id is live in one part at most, so a damaged one is asked only for what the others do not have."""
    return sorted(snapshot.parts, key=lambda part: not part.is_sound)


def matching_rows(part: Part, filter: Filter | None) -> Rows:
    """The live rows of a part that match, ascending."""
    mask, _ = part.matching(filter)
    return np.arange(part.columns.rows) if mask is None else np.flatnonzero(mask)


def _points(part: Part, rows: Rows, with_vector: bool, with_payload: bool) -> list[Point]:
    columns = part.columns
    vectors = list(columns.vectors[rows]) if with_vector else [None] * len(rows)
    payloads = columns.payloads(rows) if with_payload else [None] * len(rows)
    versions = columns.lsns[rows].tolist()
    return [Point(*fields) for fields in zip(columns.id_at(rows), vectors, payloads, versions, strict=True)]
