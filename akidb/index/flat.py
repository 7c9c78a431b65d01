"""FlatIndex: the exact answer, by comparing with every vector."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from akidb import _native
from akidb.errors import InvalidInputError
from akidb.index.arguments import K_MAX, THREADS_MAX, Filter, IdArray, as_ids, check_integer, seconds_of
from akidb.index.places import Places
from akidb.index.result import SearchResult, ids_of_rows, is_single, refuse_pickle
from akidb.index.space import InSpace, Rows, Space
from akidb.types import Metric, VectorArray


@dataclass(frozen=True, slots=True)
class _Table:
    """The first `count` rows of arrays with room for more. Rows once written never change, so a search may go on with
    an older table.
    """

    count: int
    ids: IdArray
    vectors: Rows
    inverse_norms: VectorArray  # of no length but under cosine
    rows: _native.IdRows  # of the ids, and of those that a later table has more
    places: Places = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "places", Places(self.ids[: self.count], self.rows))

    @classmethod
    def with_room(cls, rows: int, space: Space) -> _Table:
        norms = rows if space.metric == "cosine" else 0
        vectors = np.empty((rows, space.width), space.stored)
        ids = np.empty(rows, np.int64)
        return cls(0, ids, vectors, np.empty(norms, np.float32), _native.IdRows(ids[:0]))

    def extended(self, ids: IdArray, vectors: Rows, space: Space) -> _Table:
        end = self.count + len(ids)
        table = self
        if end > len(self.ids):
            table = _Table.with_room(max(end, self.count + self.count // 2), space)
            table._write(0, self.ids[: self.count], self.vectors[: self.count], self.inverse_norms[: self.count])
        table._write(self.count, ids, vectors, _inverse_norms(vectors, space))
        self.rows.extend(table.ids[:end], self.count)
        return replace(table, count=end, rows=self.rows)

    def _write(self, first: int, ids: IdArray, vectors: Rows, inverse_norms: VectorArray) -> None:
        rows = slice(first, first + len(ids))
        self.ids[rows], self.vectors[rows] = ids, vectors
        self.inverse_norms[rows] = inverse_norms

    def taken(self, rows: npt.NDArray[np.bool_]) -> _Table:
        """A copy of some of the rows: bool (count,)."""
        used = slice(self.count)
        norms = self.inverse_norms[used][rows] if len(self.inverse_norms) else self.inverse_norms
        ids = self.ids[used][rows]
        return _Table(len(ids), ids, self.vectors[used][rows], norms, _native.IdRows(ids))


def _inverse_norms(vectors: Rows, space: Space) -> VectorArray:
    if space.metric != "cosine":
        return np.empty(0, np.float32)
    return _native.inverse_norms(vectors, threads=0, dtype=space.dtype)


class FlatIndex(InSpace):
    """The surface of HnswIndex without a graph: what HnswIndex is measured by, and the better choice for a few thousand
    vectors.

    metric "cosine", "l2" (squared), "ip" or, for dtype "binary", "hamming"; smaller is nearer; equal distances come in
    the order of adding. `dtype` is what vectors are kept and compared as, as for HnswIndex. Any number of threads may
    search while one writes; native work runs without the GIL. Raises InvalidInputError for values out of range.
    """

    def __init__(self, dim: int, metric: str | Metric = "cosine", *, dtype: npt.DTypeLike = "float32") -> None:
        self._space = Space.parse(dim, metric, dtype)
        self._writing = threading.Lock()
        self._table = _Table.with_room(0, self._space)

    @property
    def ids(self) -> IdArray:
        """The ids in the index, int64 (n,), in the order of adding."""
        return self._table.ids[: self._table.count].copy()

    def __len__(self) -> int:
        return self._table.count

    def __contains__(self, id: int) -> bool:
        return isinstance(id, int | np.integer) and self._table.places.has(int(id))

    def __repr__(self) -> str:
        return f"FlatIndex(dim={self.dim}, metric={self.metric!r}, dtype={self.dtype!r}) with {len(self)} vectors"

    def add(self, ids_or_vectors: npt.ArrayLike, vectors: npt.ArrayLike | None = None) -> None:
        """add(vectors) or add(ids, vectors), as HnswIndex.add."""
        rows = self._space.rows(ids_or_vectors if vectors is None else vectors, "vectors")
        self._space.check(rows, "vector")
        with self._writing:
            ids = self._next_ids(len(rows)) if vectors is None else self._new_ids(as_ids(ids_or_vectors), len(rows))
            self._table = self._table.extended(ids, rows, self._space)

    def _next_ids(self, count: int) -> IdArray:
        largest = int(self._table.ids[: self._table.count].max(initial=-1))
        if count and largest > np.iinfo(np.int64).max - count:
            raise InvalidInputError(f"no ids are left after {largest}, the largest: give them")
        return np.arange(count, dtype=np.int64) + (largest + 1 if count else 0)

    def _new_ids(self, ids: IdArray, count: int) -> IdArray:
        _check_ids(ids, count)
        taken = self._table.places.known(ids)
        if taken.any():
            raise InvalidInputError(f"{_first(taken, ids)} exists already; update replaces vectors")
        return ids

    def update(self, ids: npt.ArrayLike, vectors: npt.ArrayLike) -> None:
        """Replaces the vectors of ids in the index, all or none. Raises as add does, and NotFoundError for an unknown
        id.
        """
        wanted = as_ids(ids)
        rows = self._space.rows(vectors, "vectors")
        self._space.check(rows, "vector")
        _check_ids(wanted, len(rows))
        with self._writing:
            places = self._table.places.of(wanted)
            table = self._table
            table = replace(table, vectors=table.vectors.copy(), inverse_norms=table.inverse_norms.copy())
            table.vectors[places] = rows
            if self.metric == "cosine":
                table.inverse_norms[places] = _inverse_norms(rows, self._space)
            self._table = table

    def remove(self, ids: npt.ArrayLike) -> None:
        """Raises NotFoundError for an unknown id; then none is removed. An id may be named twice."""
        wanted = as_ids(ids)
        with self._writing:
            keep = np.ones(self._table.count, np.bool_)
            keep[self._table.places.of(wanted)] = False
            self._table = self._table.taken(keep)

    def get(self, ids: npt.ArrayLike) -> Rows:
        """As HnswIndex.get."""
        table = self._table
        vectors = self._space.given(table.vectors[table.places.of(as_ids(ids))])
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
        points = self._space.rows(queries, "queries")
        self._space.check(points, "query")
        table = self._table
        ids = table.ids[: table.count]
        rows, distances = _native.scan(
            table.vectors[: table.count],
            self._space.native_metric,
            points,
            check_integer(k, "k", 1, K_MAX),
            allowed=table.places.allowed(filter),
            seconds=seconds_of(timeout_ms),
            threads=check_integer(threads, "threads", 0, THREADS_MAX),
            inverse_norms=table.inverse_norms[: table.count] if self.metric == "cosine" else None,
            dtype=self.dtype,
        )
        found = ids_of_rows(ids, rows)
        return SearchResult(found[0], distances[0]) if is_single(queries) else SearchResult(found, distances)

    def stats(self) -> dict[str, Any]:
        """What it is and holds: vectors, dim, metric, dtype, bytes_per_vector, and bytes of memory in all."""
        table = self._table
        return {
            "vectors": table.count,
            "dim": self.dim,
            "metric": self.metric,
            "dtype": self.dtype,
            "bytes_per_vector": self._space.bytes_per_vector,
            "bytes": table.ids.nbytes + table.vectors.nbytes + table.inverse_norms.nbytes + table.rows.bytes,
        }

    def __reduce__(self) -> tuple[object, ...]:
        refuse_pickle(self)


def _check_ids(ids: IdArray, count: int) -> None:
    if len(ids) != count:
        raise InvalidInputError(f"got {len(ids)} ids for {count} vectors")
    if len(ids) and ids.min() < 0:
        raise InvalidInputError(f"{_first(ids < 0, ids)} is negative")
    firsts = np.unique(ids, return_index=True)[1]
    if len(firsts) != len(ids):
        again = np.ones(len(ids), np.bool_)
        again[firsts] = False
        raise InvalidInputError(f"{_first(again, ids)} is there twice")


def _first(wrong: npt.NDArray[np.bool_], ids: IdArray) -> str:
    at = int(np.argmax(wrong))
    return f"id {ids[at]} at position {at}"
