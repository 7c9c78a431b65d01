"""Queries per second over recall, build time and memory of AkiDB's HNSW and its peers, same data, m, ef_construction
and threads.

    pip install hnswlib faiss-cpu usearch
    python -m bench.ann --n 100000 --dim 128 --metric l2
    python -m bench.ann --data debian-packages.parquet --metric cosine

Libraries take turns at every point of the curve, so what else the machine does hits all of them; the figure of a point
is the median of its rounds. Beside wall time stands CPU time, which a loaded machine distorts less.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from bench import data
from bench.ann.libraries import LIBRARIES, Ids, Library, Vectors

EFS = (10, 15, 20, 30, 40, 60, 80, 120, 160, 240, 320, 480, 640, 960)
RECALLS = (0.90, 0.95, 0.99)


@dataclass
class Point:
    """Medians at one ef: of one query per call on one thread, by wall time and CPU time, and of all in one call."""

    ef: int
    recall: float
    qps_one: float
    qps_cpu: float
    qps_all: float


@dataclass
class Result:
    library: str
    build_seconds: float
    build_cpu_seconds: float
    resident_bytes: int
    curve: list[Point] = field(default_factory=list)

    def at(self, recall: float, figure: str) -> float | None:
        """A figure at a recall, between the neighbouring points of the curve; None where it isn't reached."""
        for left, right in zip(self.curve, self.curve[1:], strict=False):
            if left.recall < recall <= right.recall:
                share = (recall - left.recall) / (right.recall - left.recall)
                low, high = getattr(left, figure), getattr(right, figure)
                return float(low ** (1 - share) * high**share)
        first = self.curve[0]
        return float(getattr(first, figure)) if first.recall >= recall else None


def resident_bytes() -> int:
    gc.collect()
    # glibc keeps freed memory, which the next library would get for nothing.
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def build(library: Library, base: Vectors) -> Result:
    before, start, cpu = resident_bytes(), time.perf_counter(), time.process_time()
    library.build(base)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    return Result(library.name, seconds, cpu_seconds, resident_bytes() - before)


def truth(base: Vectors, queries: Vectors, metric: str, k: int) -> Ids:
    from akidb import FlatIndex

    index = FlatIndex(base.shape[1], metric)
    index.add(base)
    return index.search(queries, k).ids


def recall(found: Ids, true: Ids) -> float:
    hits = [len(np.intersect1d(a, b)) for a, b in zip(found, true, strict=True)]
    return float(np.sum(hits) / true.size)


def timed(work: Callable[[], Sequence[Ids]], queries: int) -> tuple[float, float, Sequence[Ids]]:
    start, cpu = time.perf_counter(), time.process_time()
    found = work()
    return queries / (time.perf_counter() - start), queries / (time.process_time() - cpu), found


def one_by_one(library: Library, queries: Vectors, k: int) -> list[Ids]:
    return [library.search_one(query, k) for query in queries]


def measure(libraries: list[Library], results: list[Result], queries: Vectors, true: Ids, rounds: int) -> None:
    k = true.shape[1]
    done: set[str] = set()
    for ef in EFS:
        taken: dict[str, list[tuple[float, float, float]]] = {library.name: [] for library in libraries}
        quality: dict[str, float] = {}
        for _ in range(rounds):
            for library in libraries:
                if library.name in done:
                    continue
                library.set_ef(ef)
                one, cpu, found = timed(partial(one_by_one, library, queries, k), len(queries))
                every, _, _ = timed(partial(library.search_all, queries, k), len(queries))
                quality[library.name] = recall(np.asarray(found), true)
                taken[library.name].append((one, cpu, every))
        for library, result in zip(libraries, results, strict=True):
            if library.name in done:
                continue
            one, cpu, every = (statistics.median(column) for column in zip(*taken[library.name], strict=True))
            result.curve.append(Point(ef, quality[library.name], one, cpu, every))
            if quality[library.name] > 0.998:
                done.add(library.name)


def table(results: list[Result]) -> str:
    head = (
        "| library | build s (CPU s) | MiB | " + " | ".join(f"QPS at {r:.2f}: one (CPU) / all" for r in RECALLS) + " |"
    )
    lines = [head, "|" + " --- |" * (head.count("|") - 1)]
    for result in results:
        cells = [result.library, f"{result.build_seconds:.1f} ({result.build_cpu_seconds:.1f})"]
        cells.append(f"{result.resident_bytes / 2**20:.0f}")
        for target in RECALLS:
            one, cpu, every = (result.at(target, figure) for figure in ("qps_one", "qps_cpu", "qps_all"))
            reached = one is not None and cpu is not None and every is not None
            cells.append(f"{one:,.0f} ({cpu:,.0f}) / {every:,.0f}" if reached else "not reached")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def machine() -> dict[str, object]:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "machine": platform.machine(),
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
        "commit": commit.stdout.strip(),
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.ann", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="a .npy, .fvecs, .fbin or .parquet file; default: generated vectors")
    parser.add_argument("--n", type=int, default=100_000, help="vectors to generate, or at most to read")
    parser.add_argument("--dim", type=int, default=128, help="of generated vectors")
    parser.add_argument("--metric", choices=("cosine", "l2", "ip"), default="l2")
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--m", type=int, default=16)
    parser.add_argument("--ef-construction", type=int, default=200)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--libraries", default="akidb,hnswlib,faiss,usearch")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    return parser.parse_args()


def vectors(args: argparse.Namespace) -> tuple[Vectors, Vectors]:
    if args.data is None:
        made = data.clustered(args.n, args.dim, queries=args.queries, unit=args.metric == "cosine", seed=args.seed)
        return made.base, made.queries
    rows = data.read(args.data)[: args.n + args.queries]
    rows = rows[np.random.default_rng(args.seed).permutation(len(rows))]
    return np.ascontiguousarray(rows[args.queries :]), np.ascontiguousarray(rows[: args.queries])


def main() -> None:
    args = arguments()
    base, queries = vectors(args)
    true = truth(base, queries, args.metric, args.k)
    chosen = [kind for kind in LIBRARIES if kind.name in args.libraries.split(",")]
    libraries = [kind(base.shape[1], args.metric, args.m, args.ef_construction, args.threads) for kind in chosen]
    results = [build(library, base) for library in libraries]
    measure(libraries, results, queries, true, args.rounds)
    setting = {"n": len(base), "dim": base.shape[1], "metric": args.metric, "k": args.k, "m": args.m}
    setting |= {"ef_construction": args.ef_construction, "threads": args.threads, **machine()}
    print(json.dumps(setting))
    print(table(results))
    if args.out is not None:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps({**setting, "results": [asdict(result) for result in results]}, indent=1))
