"""The log's tail in memory: arrays that only grow, so that a snapshot of them is a row count and a copy of the live
mask.

One thread writes (the event loop); snapshots are read from any thread while it does.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from akidb.filter import PayloadSchema
from akidb.index import inverse_norms
from akidb.segment.columns import Mask, Rows
from akidb.segment.fields import FieldIndex
from akidb.types import CollectionSpec, Lsn, Metric, VectorArray

T = TypeVar("T", bound=np.generic)

_FIRST_CAPACITY = 256
_ROW_BYTES = 16  # LSN, inverse norm and what else a segment stores per row


class MemTable:
    """Newest rows of a shard. An upsert appends a row and the older row of the same id dies; nothing is moved or
    rewritten.

    Rows of other parts (segments, an older memtable) are not its business: `apply_upsert` and `apply_delete` return
    the ids that had no live row here, and the collection marks their rows dead elsewhere.

    Args:
        lazy_fields: index payloads when a view's `fields` are first asked for, which is half of the work that an upsert
            of many points is. For who reads a log for the sake of one search; who goes on writing pays as it goes.
    """

    def __init__(self, spec: CollectionSpec, *, lazy_fields: bool = False) -> None:
        self.spec = spec
        self.rows = 0
        self.live_rows = 0
        self.bytes = 0
        self._fields = FieldIndex(PayloadSchema.parse(spec.payload_schema))
        self._lazy_fields = lazy_fields
        self._indexing = threading.Lock()
        self._vectors = np.empty((0, spec.dim), np.float32)
        self._inverse_norms = np.empty(0, np.float32)
        self._lsns = np.empty(0, np.uint64)
        self._live = np.empty(0, np.bool_)
        self._ids: list[str] = []
        self._payloads: list[bytes | None] = []
        self._latest: dict[str, int] = {}
        self._previous: list[int] = []
        self._view: MemView | None = None

    def apply_upsert(
        self, ids: Sequence[str], vectors: VectorArray, payloads: Sequence[bytes | None], lsn: Lsn
    ) -> list[str]:
        """Appends one row per id, all written by slot `lsn`; of an id that comes twice the last one stays.

        Args:
            vectors: float32 (n, dim); copied.
            payloads: JSON text each, or None.

        Returns:
            The ids that had no live row here, in order (they may have one elsewhere).

        Raises:
            InvalidInputError: a payload can't be indexed; nothing was changed. Where that is done later it is then.
        """
        start, end = self.rows, self.rows + len(ids)
        if not self._lazy_fields:
            self._fields.add(start, payloads)
        self._reserve(end)
        self._vectors[start:end] = vectors
        if self.spec.metric is Metric.COSINE:
            self._inverse_norms[start:end] = inverse_norms(self._vectors[start:end])
        self._lsns[start:end] = lsn
        self._live[start:end] = True
        self._ids.extend(ids)
        self._payloads.extend(payloads)
        elsewhere = self._supersede(ids, start)
        self.bytes += len(ids) * (self.spec.dim * 4 + _ROW_BYTES) + sum(map(len, ids))
        self.bytes += sum(map(len, filter(None, payloads)))
        self.rows = end
        self.live_rows += len(elsewhere)
        self._view = None
        return elsewhere

    def apply_delete(self, ids: Sequence[str], lsn: Lsn) -> list[str]:
        """Kills the live rows of `ids`. Returns the ids that had none here, in order.

        `lsn` is not kept: whoever writes the tombstones of other parts knows it.
        """
        elsewhere = []
        for id_ in ids:
            row = self._latest.get(id_, -1)
            if row >= 0 and self._live[row]:
                self._live[row] = False
                self.live_rows -= 1
                self._view = None
            else:
                elsewhere.append(id_)
        return elsewhere

    def lookup(self, id_: str) -> tuple[VectorArray, bytes | None] | None:
        """Vector (dim,) and payload of a live point, or None."""
        row = self._latest.get(id_, -1)
        if row < 0 or not self._live[row]:
            return None
        return self._vectors[row].copy(), self._payloads[row]

    def snapshot(self) -> MemView:
        """The table as it is now, immutable, for other threads; the same object until the next change."""
        if self._view is None:
            self._view = MemView(self)
        return self._view

    def fields(self) -> FieldIndex:
        """The fields of all rows. Any thread may ask."""
        with self._indexing:
            end = self.rows  # first: a slot that is applied in between adds its own
            start = self._fields.rows
            if start < end:
                self._fields.add(start, self._payloads[start:end])
        return self._fields

    def _supersede(self, ids: Sequence[str], start: int) -> list[str]:
        """Makes rows `start`, `start` + 1, … the latest of their ids; returns the ids of which no live row died."""
        if len(set(ids)) == len(ids) and self._latest.keys().isdisjoint(ids):  # as bulk writes are: no look at each
            self._previous.extend([-1] * len(ids))
            self._latest.update(zip(ids, range(start, start + len(ids)), strict=True))
            return list(ids)
        return [id_ for row, id_ in enumerate(ids, start) if not self._supersede_one(id_, row)]

    def _supersede_one(self, id_: str, row: int) -> bool:
        """True if a live row died by it."""
        old = self._latest.get(id_, -1)
        self._previous.append(old)  # before it can be reached: views in other threads follow
        self._latest[id_] = row
        if old < 0 or not self._live[old]:
            return False
        self._live[old] = False
        return True

    def _reserve(self, rows: int) -> None:
        """Makes room; a view taken before keeps the old arrays, whose first rows never change again."""
        if rows <= len(self._live):
            return
        capacity = max(rows, 2 * len(self._live), _FIRST_CAPACITY)
        self._vectors = _grown(self._vectors, self.rows, capacity)
        self._inverse_norms = _grown(self._inverse_norms, self.rows, capacity)
        self._lsns = _grown(self._lsns, self.rows, capacity)
        self._live = _grown(self._live, self.rows, capacity)


class MemView:
    """The first `rows` rows of a memtable and which of them were live when the view was made. Satisfies Columns."""

    graph = None
    lost_ids = False

    def __init__(self, table: MemTable) -> None:
        self.rows = table.rows
        self.live_rows = table.live_rows
        self.live: Mask | None = None if self.live_rows == self.rows else _frozen(table._live[: self.rows].copy())
        self.vectors: VectorArray = _frozen(table._vectors[: self.rows])
        cosine = table.spec.metric is Metric.COSINE
        self.inverse_norms: VectorArray | None = _frozen(table._inverse_norms[: self.rows]) if cosine else None
        self.lsns: npt.NDArray[np.uint64] = _frozen(table._lsns[: self.rows])
        self._table = table
        self._ids = table._ids
        self._payloads = table._payloads
        self._latest = table._latest
        self._previous = table._previous

    @property
    def fields(self) -> FieldIndex:
        """Of these rows, and perhaps of some that came later."""
        return self._table.fields()

    def check(self) -> None:
        """Nothing: memory has no checksums."""

    def find(self, ids: Sequence[str]) -> Rows:
        return np.fromiter((self._find(id_) for id_ in ids), np.int64, len(ids))

    def _find(self, id_: str) -> int:
        """The id's newest row inside this view: the table may have appended newer ones since, which are walked back."""
        row = self._latest.get(id_, -1)
        while row >= self.rows:
            row = self._previous[row]
        return row

    def id_at(self, rows: npt.ArrayLike) -> list[str]:
        return [self._ids[row] for row in np.asarray(rows).tolist()]

    def payloads(self, rows: npt.ArrayLike) -> list[bytes | None]:
        return [self._payloads[row] for row in np.asarray(rows).tolist()]

    def following(self, after: str | None, limit: int, mask: Mask | None) -> Rows:
        rows = range(self.rows) if mask is None else np.flatnonzero(mask).tolist()
        ids = self._ids
        beyond = ((ids[row], row) for row in rows if after is None or ids[row] > after)
        return np.fromiter((row for _, row in heapq.nsmallest(limit, beyond)), np.int64)


def _grown(array: npt.NDArray[T], rows: int, capacity: int) -> npt.NDArray[T]:
    grown = np.empty((capacity, *array.shape[1:]), array.dtype)
    grown[:rows] = array[:rows]
    return grown


def _frozen(array: npt.NDArray[T]) -> npt.NDArray[T]:
    """A view of `array` that refuses to be written through."""
    view = array.view()
    view.flags.writeable = False
    return view
