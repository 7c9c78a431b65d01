"""Graphs and exact scans over vectors that lie elsewhere, such as in a mapped segment. Rows are numbered as the vectors
lie.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from akidb import _native
from akidb.codec.frame import Buffer
from akidb.index.arguments import CodeBits, IdArray, Mask, MetricWord, native_code_bits
from akidb.index.mapped_file import MappedFile
from akidb.types import VectorArray


@dataclass(frozen=True, slots=True, eq=False)
class GraphPart:
    """Rows that are merged with others': the graph over them, if there is one, and which of them are to stay, bool
    (rows,).
    """

    graph: Buffer | None
    live: Mask


def build_graph(
    vectors: VectorArray,
    metric: MetricWord,
    *,
    m: int,
    ef_construction: int,
    parts: Sequence[GraphPart] = (),
    threads: int = 0,
    seed: int = 0,
    code_bits: CodeBits = "auto",
    progress: Callable[[int, int], object] | None = None,
    stop: threading.Event | None = None,
) -> memoryview:
    """The HNSW graph (Malkov and Yashunin, arXiv 1603.09320) of float32 (n, dim) vectors in C order, as
    docs/formats/graph.md has it.

    `code_bits` 4 or 8 puts codes of the vectors beside the links, half a byte or a byte per dimension, which a search
    then compares on its way; 0 does without; "auto" takes the shortest that cost no more than a hundredth of recall on
    these vectors, if there are 1,000 or more to tell by. `threads` 0 is one per processor; the bytes depend on
    vectors, parts, m, ef_construction, seed and code_bits alone. progress(done, total) is called on this thread at
    most every 50 ms, and between the steps of sealing.

    Where `vectors` are the live rows of `parts`, one after another, their graphs are reused instead of building from
    nothing: the largest of the same m is taken over, mended where rows are left out, and the others' rows join it.

    Memory: about 8 * m + 24 bytes a vector for the graph, and while it builds codes of one byte per dimension; then, in
    place of these, the sealed form, which is the graph's size and that of its codes. `vectors` and `parts` may be
    mapped files.

    Raises InvalidInputError for m or ef_construction out of range, AkiDBError with code "cancelled" once `stop` is set,
    and what `progress` or a signal handler raises.
    """
    graph = _native.build_graph(
        vectors,
        metric,
        m=m,
        ef_construction=ef_construction,
        parts=[(part.graph, part.live) for part in parts],
        threads=threads,
        seed=seed,
        code_bits=native_code_bits(code_bits),
        progress=progress,
        stop=stop,
    )
    return graph.data


class GraphIndex:
    """Searches build_graph's bytes where they lie: nothing is parsed or copied, both buffers stay referenced.

    Opening checks the header and the sizes that follow from it and reads no other page; every link is compared with the
    number of vectors when it is followed. Raises CorruptionError for bytes that are damaged, truncated or of a graph
    over other vectors. Any number of threads may search.

    `file` is that which `vectors` lie in. Where the graph has codes, a search then reads from it the few vectors that
    it compares exactly, by pread: touching the mapping would make all of them resident in time, 64 KiB for each that is
    wanted. The page cache keeps what it has room for.
    """

    def __init__(
        self,
        vectors: VectorArray,
        graph: Buffer,
        metric: MetricWord,
        inverse_norms: VectorArray | None = None,
        *,
        file: MappedFile | None = None,
    ) -> None:
        place = None if file is None else (file, file.place_of(vectors))
        self._graph = _native.GraphIndex(vectors, graph, metric, inverse_norms, file=place)

    def __len__(self) -> int:
        return len(self._graph)

    def search(
        self,
        queries: VectorArray,
        k: int,
        *,
        ef_search: int,
        allowed: Mask | None = None,
        deadline: float | None = None,
        threads: int = 1,
    ) -> tuple[IdArray, VectorArray]:
        """Rows int64 and distances float32, both (q, k), nearest first, padded with -1 and +inf, for float32 queries
        (q, dim).

        At most rows with a true value in `allowed` (n,) are returned; few of those are scanned instead. ef =
        max(ef_search, k). Raises DeadlineExceededError once time.monotonic() passes `deadline`, CorruptionError for a
        link that leads nowhere or a vector that the file does not give.
        """
        return self._graph.search(
            queries, k, ef_search=ef_search, allowed=allowed, seconds=_remaining(deadline), threads=threads
        )

    @property
    def m(self) -> int:
        return self._graph.m

    @property
    def ef_construction(self) -> int:
        return self._graph.ef_construction

    @property
    def code_bits(self) -> int:
        """Bits per dimension of the codes beside its links; 0 without."""
        return self._graph.code_bits

    @property
    def is_calibrated(self) -> bool:
        """Whether it was measured what searches find, as it is for graphs of 1,000 vectors and more."""
        return self._graph.is_calibrated

    def ef_for(self, k: int, recall: float) -> int:
        """The ef_search at which that share of the k nearest was found when the graph was sealed. Raises
        InvalidInputError where that was not measured.
        """
        return self._graph.ef_for(k, recall)

    def validate(self) -> dict[str, int]:
        """Reads all: checksum, links, levels. Returns nodes, links, unreachable, level; raises CorruptionError."""
        return self._graph.validate()


def scan(
    vectors: VectorArray,
    metric: MetricWord,
    queries: VectorArray,
    k: int,
    *,
    allowed: Mask | None = None,
    deadline: float | None = None,
    threads: int = 1,
    inverse_norms: VectorArray | None = None,
) -> tuple[IdArray, VectorArray]:
    """The exact answer, in the form of GraphIndex.search; equal distances by smaller row. inverse_norms saves computing
    them under cosine.
    """
    return _native.scan(
        vectors,
        metric,
        queries,
        k,
        allowed=allowed,
        seconds=_remaining(deadline),
        threads=threads,
        inverse_norms=inverse_norms,
    )


def inverse_norms(vectors: VectorArray) -> VectorArray:
    """float32 (n,): 1 / |vector|, 0 for a zero vector."""
    return _native.inverse_norms(vectors, threads=0)


def _remaining(deadline: float | None) -> float | None:
    # Native code gets a span: its clock and Python's need not have the same origin.
    return None if deadline is None else deadline - time.monotonic()
