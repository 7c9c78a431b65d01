"""What bench.edge measures on one machine, as one JSON object."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

import akidb
from akidb.cli.doctor import look_at_machine
from bench.data import clustered
from bench.edge.power import metered
from bench.memory import resident_bytes

VERSION = 3
EFS = (16, 32, 64, 128, 256)
SECONDS = 2.0
MEMORY_BYTES = 512 << 20


def rate(call: Callable[[], object], seconds: float) -> float:
    """Calls per second: the best of three runs, since what disturbs a run only makes it slower."""
    call()
    best = 0.0
    for _ in range(3):
        calls, began = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - began) < seconds / 3 or calls == 0:
            call()
            calls += 1
        best = max(best, calls / elapsed)
    return best


def bandwidth_gb_per_sec(size: int, seconds: float) -> float:
    """Bytes read and written by copying `size` bytes, too many for any cache, on one thread."""
    source = np.ones(size // 8, np.uint64)
    target = np.empty_like(source)
    return 2 * source.nbytes * rate(lambda: np.copyto(target, source), seconds) / 1e9


def scan(dim: int, bandwidth: float, memory_bytes: int, seconds: float) -> list[dict[str, object]]:
    """Exact search: one pass of the float32 kernel over rows that lie in L2, and in memory."""
    found: list[dict[str, object]] = []
    for place, size in (("L2", 256 << 10), ("memory", memory_bytes // 2)):
        rows = max(64, size // (4 * dim))
        index = akidb.FlatIndex(dim, "l2")
        index.add(np.arange(rows), np.random.default_rng(2).random((rows, dim), np.float32))
        query = np.random.default_rng(3).random((1, dim), np.float32)
        for threads in (1, 0):
            passes = rate(partial(index.search, query, 10, threads=threads), seconds)
            gb_per_sec = passes * rows * dim * 4 / 1e9
            share = gb_per_sec / bandwidth if place == "memory" else None
            found.append(
                {"dim": dim, "rows_in": place, "threads": threads, "gb_per_sec": gb_per_sec, "of_bandwidth": share}
            )
    return found


def recall(found: npt.NDArray[np.int64], truth: npt.NDArray[np.int64]) -> float:
    return float(np.mean([len(np.intersect1d(a, b)) / truth.shape[1] for a, b in zip(found, truth, strict=True)]))


def graph(rows: int, dim: int, seconds: float) -> dict[str, object]:
    """Build, seal, and searches of one query at a time on one thread; joules of building are also sealing's, resident
    bytes are what the process has more of with the sealed index than before it.
    """
    data = clustered(rows, dim, queries=500)
    exact = akidb.FlatIndex(dim, "l2")
    exact.add(np.arange(rows), data.base)
    truth = exact.search(data.queries, 10).ids
    del exact
    before = resident_bytes()
    index = akidb.HnswIndex(dim, "l2", 16, 200)
    with metered() as building:
        began = time.perf_counter()
        index.add(np.arange(rows), data.base)
        build_secs = time.perf_counter() - began
        sealed = index.seal()
        seal_secs = time.perf_counter() - began - build_secs
    del index
    searches = []
    for ef in EFS:
        with metered() as energy:
            began, done = time.perf_counter(), 0
            while (elapsed := time.perf_counter() - began) < seconds:
                sealed.search(data.queries[done % 500 : done % 500 + 1], 10, ef_search=ef, threads=1)
                done += 1
        searches.append(
            {
                "ef": ef,
                "recall_at_10": recall(sealed.search(data.queries, 10, ef_search=ef).ids, truth),
                "queries_per_sec": done / elapsed,
                "joules_per_query": None if energy.joules is None else energy.joules / done,
            }
        )
    return {
        "rows": rows,
        "dim": dim,
        "build_secs": build_secs,
        "seal_secs": seal_secs,
        "build_joules": building.joules,
        "energy_source": building.source,
        "resident_bytes": resident_bytes() - before,
        "searches": searches,
    }


def measure(
    rows: int, dims: tuple[int, ...], *, seconds: float = SECONDS, memory_bytes: int = MEMORY_BYTES
) -> dict[str, Any]:
    """`seconds` is how long each figure of speed is measured; `memory_bytes` are too many for any cache."""
    load_before = os.getloadavg()[0]
    bandwidth = bandwidth_gb_per_sec(memory_bytes, seconds)
    return {
        "version": VERSION,
        "machine": look_at_machine(),
        "load_before": load_before,
        "bandwidth_gb_per_sec": bandwidth,
        "scans": [row for dim in dims for row in scan(dim, bandwidth, memory_bytes, seconds)],
        "graphs": [graph(rows, dim, seconds) for dim in dims],
    }
