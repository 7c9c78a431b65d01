"""Exact search against the memory's speed and the peers: `python bench/flat/run.py [--dim N] [--gib N] [--json FILE]`.

First what the machine reads, by numpy's fastest reduction over the same array. Then batches of 1, 8, 64 and 256
queries, k 10, squared L2, over a set far larger than the caches: queries per second, and the bytes of all rows times
queries per second as GB/s, which for one query is the share of the memory's speed and for batches tells how often what
was read is used. Libraries take turns within each round, and each figure is the best round's, since what disturbs one
only ever makes it slower; calls of more than two seconds are not repeated. Peers that are not installed are left out:
`scripts/setup.sh bench peers`.

With one thread `--clock cpu` counts the process's own seconds, for a machine that others work on as well.
"""

from __future__ import annotations

import argparse
import importlib
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from akidb import FlatIndex, simd_info
from bench.ann.run import machine

BATCHES = (1, 8, 64, 256)
K = 10
Search = Callable[[np.ndarray], np.ndarray]


def akidb(base: np.ndarray, threads: int, dtype: str = "float32") -> Search:
    index = FlatIndex(base.shape[1], "hamming" if dtype == "binary" else "l2", dtype=dtype)
    index.add(cast(base, dtype))
    return lambda queries: index.search(cast(queries, dtype), K, threads=threads).ids


def cast(rows: np.ndarray, dtype: str) -> np.ndarray:
    """Whole numbers fit every dtype, and lose nothing in any of them; a bit tells which half a number is of."""
    return (
        np.packbits(rows > 63, axis=1) if dtype == "binary" else rows.astype(np.dtype("f4" if "b" in dtype else dtype))
    )


def faiss(base: np.ndarray, threads: int) -> Search:
    library = importlib.import_module("faiss")
    library.omp_set_num_threads(threads)
    index = library.IndexFlatL2(base.shape[1])
    index.add(base)
    return lambda queries: index.search(queries, K)[1]


def hnswlib(base: np.ndarray, threads: int) -> Search:
    index = importlib.import_module("hnswlib").BFIndex("l2", base.shape[1])
    index.init_index(len(base))
    index.add_items(base)
    return lambda queries: index.knn_query(queries, K, num_threads=threads)[0]


def usearch(base: np.ndarray, threads: int) -> Search:
    library = importlib.import_module("usearch.index")
    return lambda queries: library.search(base, queries, K, library.MetricKind.L2sq, exact=True, threads=threads).keys


LIBRARIES: dict[str, Callable[[np.ndarray, int], Search]] = {
    "akidb": akidb,
    "akidb-float16": lambda base, threads: akidb(base, threads, "float16"),
    "akidb-bfloat16": lambda base, threads: akidb(base, threads, "bfloat16"),
    "akidb-int8": lambda base, threads: akidb(base, threads, "int8"),
    "akidb-binary": lambda base, threads: akidb(base, threads, "binary"),
    "faiss": faiss,
    "hnswlib": hnswlib,
    "usearch": usearch,
}
ROW_BITS = {"akidb-float16": 16, "akidb-bfloat16": 16, "akidb-int8": 8, "akidb-binary": 1}


def reader(base: np.ndarray, threads: int) -> Callable[[], object]:
    parts = np.array_split(base.reshape(-1).view(np.int64), threads)
    pool = ThreadPoolExecutor(threads)
    return lambda: list(pool.map(np.bitwise_or.reduce, parts)) if threads > 1 else np.bitwise_or.reduce(parts[0])


def measure(args: argparse.Namespace) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    count = (args.gib << 30) // (4 * args.dim) // 8 * 8
    base = rng.integers(0, 127, (count, args.dim), np.int8).astype(np.float32)
    queries = rng.integers(0, 127, (max(BATCHES), args.dim), np.int8).astype(np.float32)
    clock = time.process_time if args.clock == "cpu" else time.perf_counter
    searches: dict[str, Search] = {}
    for name in args.libraries.split(","):
        try:
            searches[name] = LIBRARIES[name](base, args.threads)
        except ImportError as missing:
            print(f"{name}: not installed ({missing})")
    calls: dict[tuple[str, int], Callable[[], object]] = {("memory", 0): reader(base, args.threads)}
    for name, search in searches.items():
        for batch in BATCHES:
            calls[name, batch] = lambda search=search, batch=batch: search(queries[:batch])
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(args.rounds):
        for key, call in calls.items():
            if 2 < best[key] < float("inf"):
                continue
            started = clock()
            call()
            best[key] = min(best[key], clock() - started)
    read = base.nbytes / best["memory", 0] / 1e9
    rows = []
    for name in searches:
        size = base.nbytes * ROW_BITS.get(name, 32) / 32 / 1e9
        for batch in BATCHES:
            seconds = best[name, batch]
            rows.append({"library": name, "batch": batch, "qps": batch / seconds, "gb_per_s": batch * size / seconds})
    facts = {"count": count, "dim": args.dim, "threads": args.threads, "clock": args.clock, "rounds": args.rounds}
    return {**facts, **machine(), "simd": simd_info()["level"], "read_gb_per_s": read, "results": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--gib", type=int, default=1, help="float32 vectors, default: %(default)s")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--libraries", default=",".join(LIBRARIES), help="default: %(default)s")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.clock == "cpu" and args.threads != 1:
        parser.error("--clock cpu is for one thread")
    found = measure(args)
    print(f"{found['count']:,} x {args.dim}, {found['machine']}, {found['simd']}, threads {args.threads}, {args.clock}")
    print(f"memory reads {found['read_gb_per_s']:.1f} GB/s")
    print(f"{'library':<16}{'batch':>6}{'queries/s':>12}{'GB/s':>8}{'share':>8}")
    for row in found["results"]:
        share = f"{row['gb_per_s'] / found['read_gb_per_s']:.2f}" if row["batch"] == 1 else ""
        print(f"{row['library']:<16}{row['batch']:>6}{row['qps']:>12,.1f}{row['gb_per_s']:>8.1f}{share:>8}")
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
