"""HnswView: a sealed or saved HnswIndex, searched where it lies."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt

from akidb.errors import InvalidInputError
from akidb.index import file
from akidb.index.arguments import (
    EF_MAX,
    K_MAX,
    THREADS_MAX,
    Filter,
    IdArray,
    as_ids,
    check_integer,
    check_recall,
    seconds_of,
)
from akidb.index.places import Places
from akidb.index.result import SearchResult, is_single, refuse_pickle
from akidb.index.space import InSpace, Rows


class HnswView(InSpace):
    """A sealed index, or a saved one searched in its file by mmap: read-only. Opening a file checks the header and the
    sizes; validate() checks all.

    The file must not be changed while it is viewed; HnswIndex.save replaces files, which leaves an open view as it was.
    Raises CorruptionError where the file is damaged or truncated, OSError.
    """

    def __init__(self, contents: file.Contents, *, map_vectors: bool = False) -> None:
        self._contents = contents
        self._places = Places(contents.ids)
        self._space = contents.space
        self._native = contents.graph_index(map_vectors=map_vectors)
        self._ef_search = 200

    @property
    def ef_search(self) -> int:
        """Candidates a search keeps where the call doesn't say."""
        return self._ef_search

    @ef_search.setter
    def ef_search(self, value: int) -> None:
        self._ef_search = check_integer(value, "ef_search", 1, EF_MAX)

    @property
    def ids(self) -> IdArray:
        """int64 (n,), a read-only view."""
        return self._contents.ids

    @property
    def code_bits(self) -> int:
        """4 or 8 where searches compare codes, else 0."""
        return self._native.code_bits

    @property
    def calibration(self) -> dict[str, Any]:
        """What was measured when the index was sealed: `queries` (0: nothing), `ef`, and at each of these `recall@10`,
        `recall@100` and their standard errors `deviation@10`, `deviation@100`.
        """
        return self._native.calibration()

    def __len__(self) -> int:
        return len(self._contents.ids)

    def __contains__(self, id: int) -> bool:
        return isinstance(id, int | np.integer) and self._places.has(int(id))

    def __repr__(self) -> str:
        return (
            f"HnswView(dim={self.dim}, metric={self.metric!r}, m={self._native.m}, code_bits={self.code_bits}, "
            f"dtype={self.dtype!r}) with {len(self)} vectors"
        )

    def search(
        self,
        queries: npt.ArrayLike,
        k: int = 10,
        *,
        ef_search: int | None = None,
        target_recall: float | None = None,
        filter: Filter | None = None,
        timeout_ms: float | None = None,
        threads: int = 0,
    ) -> SearchResult:
        """As HnswIndex.search. `target_recall`, in place of ef_search, searches as widely as it took to find that share
        of the k nearest, on average and without a filter, when the index was sealed; InvalidInputError where that was
        not measured.
        """
        if target_recall is not None:
            if ef_search is not None:
                raise InvalidInputError("ef_search and target_recall are both given, expected one of them")
            ef_search = min(EF_MAX, self._native.ef_for(check_integer(k, "k", 1, K_MAX), check_recall(target_recall)))
        ids, distances = self._native.search(
            self._space.rows(queries, "queries"),
            check_integer(k, "k", 1, K_MAX),
            ef_search=check_integer(self._ef_search if ef_search is None else ef_search, "ef_search", 1, EF_MAX),
            allowed=self._places.allowed(filter),
            seconds=seconds_of(timeout_ms),
            threads=check_integer(threads, "threads", 0, THREADS_MAX),
        )
        return SearchResult(ids[0], distances[0]) if is_single(queries) else SearchResult(ids, distances)

    def get(self, ids: npt.ArrayLike) -> Rows:
        """As HnswIndex.get."""
        vectors = self._space.given(self._contents.vectors[self._places.of(as_ids(ids))])
        return vectors[0] if np.ndim(ids) == 0 else vectors

    def stats(self) -> dict[str, Any]:
        """What it is and holds: vectors, dim, metric, dtype, bytes_per_vector, m, ef_construction, ef_search,
        code_bits, calibration, and the bytes of its parts, in memory or in the file: ids, vectors, norms, graph (links
        and codes).
        """
        return {
            "vectors": len(self),
            "dim": self.dim,
            "metric": self.metric,
            "dtype": self.dtype,
            "bytes_per_vector": self._space.bytes_per_vector,
            "m": self._native.m,
            "ef_construction": self._native.ef_construction,
            "ef_search": self.ef_search,
            "code_bits": self.code_bits,
            "calibration": self.calibration,
            "bytes": {name: part.nbytes for name, part in self._contents.parts().items()},
        }

    def validate(self) -> dict[str, int]:
        """Reads and checks all of it, where it lies. Returns what HnswIndex.validate does; raises CorruptionError."""
        if self._contents.file is not None:
            file.parse(self._contents.file, verify=True)
        return self._native.validate()

    def save(self, path: str | os.PathLike[str]) -> None:
        """As HnswIndex.save, codes included."""
        file.write(path, self._space, self._contents.parts())

    def __reduce__(self) -> tuple[object, ...]:
        refuse_pickle(self)
