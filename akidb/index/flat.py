"""FlatIndex: the exact answer, by comparing with every vector."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from akidb import _native
from akidb.errors import InvalidInputError, NotFoundError
from akidb.index.arguments import (
    DIM_MAX,
    K_MAX,
    THREADS_MAX,
    Filter,
    IdArray,
    MetricWord,
    as_ids,
    as_vectors,
    check_integer,
    metric_word,
    seconds_of,
)
from akidb.index.result import (
    SearchResult,
    allowed_rows,
    check_finite,
    ids_of_rows,
    is_single,
    refuse_pickle,
)
from akidb.types import Metric, VectorArray


@dataclass(frozen=True, slots=True)
class _Table:
    """The first `count` rows of arrays with room for more. Rows once written never change, so a search may go on with
    an older table.
    """

    count: int
    ids: IdArray
    vectors: VectorArray
    inverse_norms: VectorArray

    @classmethod
    def with_room(cls, rows: int, dim: int) -> _Table:
        return cls(0, np.empty(rows, np.int64), np.empty((rows, dim), np.float32), np.empty(rows, np.float32))

    def extended(self, ids: IdArray, vectors: VectorArray) -> _Table:
        end = self.count + len(ids)
        table = self
        if end > len(self.ids):
            table = _Table.with_room(max(end, self.count + self.count // 2), self.vectors.shape[1])
            table._write(0, self.ids[: self.count], self.vectors[: self.count], self.inverse_norms[: self.count])
        table._write(self.count, ids, vectors, _native.inverse_norms(vectors, threads=0))
        return replace(table, count=end)

    def _write(self, first: int, ids: IdArray, vectors: VectorArray, inverse_norms: VectorArray) -> None:
        rows = slice(first, first + len(ids))
        self.ids[rows], self.vectors[rows], self.inverse_norms[rows] = ids, vectors, inverse_norms

    def taken(self, rows: npt.NDArray[np.bool_]) -> _Table:
        """A copy of some of the rows: bool (count,)."""
        used = slice(self.count)
        return _Table(int(rows.sum()), self.ids[used][rows], self.vectors[used][rows], self.inverse_norms[used][rows])


class FlatIndex:
    """The surface of HnswIndex without a graph: what HnswIndex is measured by, and the better choice for a few thousand
    vectors.

    metric "cosine", "l2" (squared) or "ip"; smaller is nearer; equal distances come in the order of adding. Any number
    of threads may search while one writes; native work runs without the GIL. Raises InvalidInputError for values out of
    range.
    """

    def __init__(self, dim: int, metric: str | Metric = "cosine") -> None:
        self._dim = check_integer(dim, "dim", 1, DIM_MAX)
        self._metric: MetricWord = metric_word(metric)
        self._writing = threading.Lock()
        self._table = _Table.with_room(0, self._dim)
        self._rows: dict[int, int] = {}

    @property
    def dim(self) -> int:
        return self._dim

    @property
    def metric(self) -> MetricWord:
        return self._metric

    @property
    def ids(self) -> IdArray:
        """The ids in the index, int64 (n,), in the order of adding."""
        return self._table.ids[: self._table.count].copy()

    def __len__(self) -> int:
        return self._table.count

    def __contains__(self, id: int) -> bool:
        return id in self._rows

    def __repr__(self) -> str:
        return f"FlatIndex(dim={self._dim}, metric={self._metric!r}) with {len(self)} vectors"

    def add(self, ids_or_vectors: npt.ArrayLike, vectors: npt.ArrayLike | None = None) -> None:
        """add(vectors) or add(ids, vectors), as HnswIndex.add."""
        rows = as_vectors(ids_or_vectors if vectors is None else vectors, self._dim, "vectors")
        check_finite(rows, self._metric, "vector")
        with self._writing:
            if vectors is None:
                start = int(self._table.ids[: self._table.count].max(initial=-1)) + 1
                ids = np.arange(start, start + len(rows), dtype=np.int64)
            else:
                ids = self._new_ids(as_ids(ids_or_vectors), len(rows))
            first = self._table.count
            self._table = self._table.extended(ids, rows)
            self._rows.update(zip(ids.tolist(), range(first, first + len(ids)), strict=True))

    def _new_ids(self, ids: IdArray, count: int) -> IdArray:
        _check_ids(ids, count)
        if taken := self._rows.keys() & set(ids.tolist()):
            raise InvalidInputError(f"id {min(taken)} exists already; update replaces vectors")
        return ids

    def update(self, ids: npt.ArrayLike, vectors: npt.ArrayLike) -> None:
        """Replaces the vectors of ids in the index, all or none. Raises as add does, and NotFoundError for an unknown
        id.
        """
        wanted = as_ids(ids)
        rows = as_vectors(vectors, self._dim, "vectors")
        check_finite(rows, self._metric, "vector")
        _check_ids(wanted, len(rows))
        with self._writing:
            places = self._places(wanted)
            table = self._table.taken(np.ones(self._table.count, np.bool_))
            table.vectors[places] = rows
            table.inverse_norms[places] = _native.inverse_norms(rows, threads=0)
            self._table = table

    def remove(self, ids: npt.ArrayLike) -> None:
        """Raises NotFoundError for an unknown id; then none is removed."""
        wanted = as_ids(ids)
        with self._writing:
            keep = np.ones(self._table.count, np.bool_)
            keep[self._places(wanted)] = False
            self._table = self._table.taken(keep)
            self._rows = {id: row for row, id in enumerate(self._table.ids.tolist())}

    def get(self, ids: npt.ArrayLike) -> VectorArray:
        """The vectors of ids as they were sent, float32 (n, dim), or (dim,) for one id. Raises NotFoundError for an
        unknown id.
        """
        with self._writing:
            vectors = self._table.vectors[self._places(as_ids(ids))]
        return vectors[0] if np.ndim(ids) == 0 else vectors

    def search(
        self,
        queries: npt.ArrayLike,
        k: int = 10,
        *,
        filter: Filter | None = None,
        timeout_ms: float | None = None,
        threads: int = 0,
    ) -> SearchResult:
        """The exact k nearest, in the form of HnswIndex.search."""
        points = as_vectors(queries, self._dim, "queries")
        check_finite(points, self._metric, "query")
        table = self._table
        ids = table.ids[: table.count]
        rows, distances = _native.scan(
            table.vectors[: table.count],
            self._metric,
            points,
            check_integer(k, "k", 1, K_MAX),
            allowed=allowed_rows(ids, filter),
            seconds=seconds_of(timeout_ms),
            threads=check_integer(threads, "threads", 0, THREADS_MAX),
            inverse_norms=table.inverse_norms[: table.count] if self._metric == "cosine" else None,
        )
        found = ids_of_rows(ids, rows)
        return SearchResult(found[0], distances[0]) if is_single(queries) else SearchResult(found, distances)

    def _places(self, ids: IdArray) -> npt.NDArray[np.intp]:
        try:
            return np.fromiter(map(self._rows.__getitem__, ids.tolist()), np.intp, len(ids))
        except KeyError as error:
            raise NotFoundError(f"id {error.args[0]} does not exist") from None

    def __reduce__(self) -> tuple[object, ...]:
        refuse_pickle(self)


def _check_ids(ids: IdArray, count: int) -> None:
    if len(ids) != count:
        raise InvalidInputError(f"got {len(ids)} ids for {count} vectors")
    if len(ids) and ids.min() < 0:
        raise InvalidInputError(f"id {ids.min()} is negative")
    unique, times = np.unique(ids, return_counts=True)
    if len(unique) != len(ids):
        raise InvalidInputError(f"id {unique[times > 1][0]} is there twice")
