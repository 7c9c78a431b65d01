"""HnswIndex: approximate search that grows, shrinks, and is sealed or saved to a file."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from akidb import _native
from akidb.errors import InvalidInputError
from akidb.index import file
from akidb.index.arguments import (
    EF_MAX,
    K_MAX,
    THREADS_MAX,
    CodeBits,
    Filter,
    IdArray,
    as_filter,
    as_ids,
    check_integer,
    native_code_bits,
    seconds_of,
)
from akidb.index.result import SearchResult, is_single, refuse_pickle
from akidb.index.space import InSpace, Rows, Space
from akidb.index.view import HnswView
from akidb.types import M_MAX, M_MIN, Metric

Progress = Callable[[int, int], object]


class HnswIndex(InSpace):
    """A Hierarchical Navigable Small World graph (Malkov and Yashunin, arXiv 1603.09320) over vectors with int64 ids.

    metric "cosine" (default), "l2" (squared), "ip" or, for dtype "binary", "hamming"; inside smaller is nearer. `m` (2
    to 512) links per node, twice that on the ground level: more costs memory and finds more in hard data.
    `ef_construction` (1 to 65536) candidates per insert: more builds slower and better. `ef_search` is the default for
    searches: more is slower and finds more, at least k is used. `seed` draws the levels; the graph depends on nothing
    else but the rows and their order, neither on the machine nor on the number of threads.

    `dtype` is what vectors are kept and compared as: "float32" (default), "float16" and "bfloat16" (rounded to
    nearest; 2 bytes per dimension), "int8" and "uint8" (whole numbers; 1 byte), "binary" (dim bits: uint8
    (n, ceil(dim / 8)) as numpy.packbits gives them, or bool (n, dim)). Vectors and queries may be of any real dtype
    whose values it holds; what it cannot hold is refused by row and value, never clipped.

    Any number of threads may search while one writes, without waiting for it; writers wait for each other and use all
    processors. Native work runs without the GIL. Vectors are kept as sent. Raises InvalidInputError for values out of
    range.
    """

    def __init__(
        self,
        dim: int,
        metric: str | Metric = "cosine",
        m: int = 16,
        ef_construction: int = 400,
        *,
        ef_search: int = 200,
        seed: int = 0,
        dtype: npt.DTypeLike = "float32",
    ) -> None:
        self._space = Space.parse(dim, metric, dtype)
        self._m = check_integer(m, "m", M_MIN, M_MAX)
        self._ef_construction = check_integer(ef_construction, "ef_construction", 1, EF_MAX)
        self.ef_search = ef_search
        self._native = _native.HnswIndex(
            self.dim,
            self._space.native_metric,
            m,
            ef_construction,
            check_integer(seed, "seed", 0, 2**64 - 1),
            self.dtype,
        )

    @property
    def m(self) -> int:
        return self._m

    @property
    def ef_construction(self) -> int:
        return self._ef_construction

    @property
    def ef_search(self) -> int:
        """Candidates a search keeps where the call doesn't say."""
        return self._ef_search

    @ef_search.setter
    def ef_search(self, value: int) -> None:
        self._ef_search = check_integer(value, "ef_search", 1, EF_MAX)

    @property
    def nbytes(self) -> int:
        """Bytes of memory held for vectors, links and ids."""
        return self._native.bytes

    @property
    def ids(self) -> IdArray:
        """The ids in the index, int64 (n,), in no particular order."""
        return self._native.ids()

    def __len__(self) -> int:
        return len(self._native)

    def __contains__(self, id: int) -> bool:
        return isinstance(id, int | np.integer) and -(2**63) <= id < 2**63 and self._native.contains(int(id))

    def __repr__(self) -> str:
        return (
            f"HnswIndex(dim={self.dim}, metric={self.metric!r}, m={self._m}, ef_construction={self._ef_construction}, "
            f"dtype={self.dtype!r}) with {len(self)} vectors"
        )

    def add(
        self,
        ids_or_vectors: npt.ArrayLike,
        vectors: npt.ArrayLike | None = None,
        *,
        threads: int = 0,
        progress: Progress | None = None,
    ) -> None:
        """add(vectors) or add(ids, vectors): vectors (n, dim) or (dim,); ids >= 0, by default 0, 1, 2
        … or on from the largest in the index.

        Adds all or, if it raises, none. progress(done, total) is called on this thread at most every 50 ms; what it
        raises, and Ctrl-C, stops the work: an index of up to a quarter of the vectors that came then has its memory
        from before; in a larger one they are walked through as removed ones are, until a write finds these to be a
        quarter of all or needs their room. `threads` 0 is one per processor. Raises InvalidInputError for another dim
        or dtype, NaN, infinity, a vector of length 0 or beyond 1e-15 to 1.84e19 under cosine, and ids that are
        negative, twice there or in the index already.
        """
        ids = None if vectors is None else as_ids(ids_or_vectors)
        rows = self._space.rows(ids_or_vectors if vectors is None else vectors, "vectors")
        self._native.add(ids, rows, check_integer(threads, "threads", 0, THREADS_MAX), progress)

    def update(
        self, ids: npt.ArrayLike, vectors: npt.ArrayLike, *, threads: int = 0, progress: Progress | None = None
    ) -> None:
        """Replaces the vectors of ids in the index, all or none. Raises as add does, and NotFoundError for an unknown
        id.

        The new ones are added and the old ones removed, and so the graph is mended as by `remove`.
        """
        rows = self._space.rows(vectors, "vectors")
        self._native.update(as_ids(ids), rows, check_integer(threads, "threads", 0, THREADS_MAX), progress)

    def remove(self, ids: npt.ArrayLike) -> None:
        """No search that begins after it finds the ids, of which any may be named twice. Raises NotFoundError for an
        unknown one; then none is removed.

        Searches walk through removed nodes until a quarter of all is removed; the call that reaches it mends the graph
        without them, and is not interrupted.
        """
        self._native.remove(as_ids(ids))

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
        """The k nearest to each of queries (n, dim), or to one query (dim,).

        `filter` is an array of the ids allowed, or a boolean mask over ids, mask[id], which may know ids that are gone.
        `threads` 0 is one per processor; one query uses one thread. Answers are of the index as it was when the search
        began, whatever others add, update or remove meanwhile. `target_recall` is refused: what it needs is measured by
        `seal`. Raises InvalidInputError (a mask that is shorter than the ids reach, among others), NotFoundError (an id
        in `filter` that is not in the index), and DeadlineExceededError after timeout_ms.
        """
        if target_recall is not None:
            raise InvalidInputError(
                f"target_recall is {target_recall!r}, of an index that is not sealed: search what seal() gives, or "
                "give ef_search"
            )
        rows = self._space.rows(queries, "queries")
        allowed_ids, mask = as_filter(filter)
        ids, distances = self._native.search(
            rows,
            check_integer(k, "k", 1, K_MAX),
            self._ef_search if ef_search is None else check_integer(ef_search, "ef_search", 1, EF_MAX),
            allowed_ids,
            mask,
            seconds_of(timeout_ms),
            check_integer(threads, "threads", 0, THREADS_MAX),
        )
        return SearchResult(ids[0], distances[0]) if is_single(queries) else SearchResult(ids, distances)

    def get(self, ids: npt.ArrayLike) -> Rows:
        """The vectors of ids as they are kept, (n, dim) of the index's dtype, or (dim,) for one id: float32 as they
        were sent, bfloat16 as float32, binary ones as packed bits. Raises NotFoundError for an unknown id.
        """
        vectors = self._space.given(self._native.get(as_ids(ids)))
        return vectors[0] if np.ndim(ids) == 0 else vectors

    def stats(self) -> dict[str, Any]:
        """What it is and holds: vectors, dim, metric, dtype, bytes_per_vector, m, ef_construction, ef_search, and bytes
        of memory in all.
        """
        return {
            "vectors": len(self),
            "dim": self.dim,
            "metric": self.metric,
            "dtype": self.dtype,
            "bytes_per_vector": self._space.bytes_per_vector,
            "m": self._m,
            "ef_construction": self._ef_construction,
            "ef_search": self._ef_search,
            "bytes": self.nbytes,
        }

    def validate(self) -> dict[str, int]:
        """Checks every link. Returns nodes, links, unreachable (from the entry point on the ground level), level;
        raises CorruptionError.
        """
        return self._native.validate()

    def seal(self, code_bits: CodeBits = "auto") -> HnswView:
        """The index as it is now, read-only and faster to search, the more so the more dimensions and the smaller k;
        this one is left as it was.

        A search of it compares codes of 4 or 8 bits per dimension on its way (0: the vectors), and the vectors of the
        candidates it ends with: distances are exact. "auto" takes the shortest codes that cost no more than a
        hundredth of recall, measured on 200 of the vectors, each left out of its own search; none for fewer than 1,000
        vectors. What is then found at which ef_search is measured too and kept, so that searches may ask for a recall.

        The vectors are shared with this index until it is written to. Save the sealed one to have it on disk, and
        `view` the file to search it there.
        """
        parts = self._native.seal(native_code_bits(code_bits))
        norms = parts["norms"] if self.metric == "cosine" else None
        vectors = np.ascontiguousarray(parts["vectors"])  # a copy where rows don't fill whole cache lines
        for array in (parts["ids"], vectors):
            array.flags.writeable = False  # this index's own memory
        return HnswView(file.Contents(self._space, parts["ids"], vectors, norms, parts["graph"]))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the file at once and durably (fsync); a file of the same name is replaced. Raises OSError, and
        InvalidInputError where the path is a folder or a device.
        """
        file.write(path, self._space, self._native.parts())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """The saved index, in memory. Checks all of it; raises CorruptionError naming the file, or OSError.

        It can be changed, also where a sealed one was saved, whose codes are left out: to keep it sealed, `view` it.
        """
        saved = file.read(path, verify=True)
        info = saved.graph_index()
        space = saved.space
        index = cls(space.dim, space.metric, info.m, info.ef_construction, seed=info.seed, dtype=space.dtype)
        index._native.restore(saved.ids, saved.vectors, saved.graph)
        return index

    @classmethod
    def view(cls, path: str | os.PathLike[str], *, map_vectors: bool = False) -> HnswView:
        """The saved index, read-only, in its file: opens at once whatever its size, and shares the page cache with
        other processes.

        A sealed index has codes and links in memory and reads the few vectors it compares exactly, about k a search.
        Under a filter that leaves out the nearest, and where k is 256 and more and a good part of all, it may read all
        that pass, which become resident.
        With `map_vectors` all of them become resident in time, and a search saves half a microsecond and more for each.
        """
        return HnswView(file.read(path, verify=False), map_vectors=map_vectors)

    def __reduce__(self) -> tuple[object, ...]:
        refuse_pickle(self)
