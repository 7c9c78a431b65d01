"""Latency of searches while segments are compared with their checksums, and without: `python -m bench.storage.verify`.

One thread of a program with the database inside, over a local folder, searches at a steady rate. In each round the
folder is opened with the comparison off and searched, then opened with it on, when it begins at once, and searched.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time

import akidb
from akidb.config import Settings
from akidb.config.settings import Storage
from akidb.telemetry.metrics import METRICS
from bench.data import Vectors, clustered
from bench.merge.latency import figures


def verified_bytes() -> float:
    return float(METRICS.registry.get_sample_value("akidb_verified_bytes_total") or 0)


def fill(where: str, base: Vectors) -> int:
    with akidb.connect(where, settings=Settings(storage=Storage(verify_interval_days=0))) as database:
        collection = database.create_collection("bench", base.shape[1])
        for at in range(0, len(base), 5000):
            some = range(at, min(at + 5000, len(base)))
            payloads = [{"n": row, "text": f"text {row} " * 5} for row in some]
            collection.upsert(list(some), base[some.start : some.stop], payloads)
        collection.wait_indexed()
        while collection.info().compaction.state != "idle":
            time.sleep(0.5)
        collection.wait_indexed()
        return collection.info().bytes


def search(where: str, queries: Vectors, per_second: float, secs: float, days: int) -> tuple[list[float], float]:
    """Latencies in ms, lateness counted, and how many bytes were compared meanwhile."""
    latencies: list[float] = []
    with akidb.connect(where, settings=Settings(storage=Storage(verify_interval_days=days))) as database:
        collection = database.collection("bench")
        for query in queries[:50]:  # into the page cache
            collection.search(query, 10, consistency="eventual")
        before, began = verified_bytes(), time.perf_counter()
        due = began
        while due - began < secs:
            time.sleep(max(0.0, due - time.perf_counter()))
            collection.search(queries[len(latencies) % len(queries)], 10, consistency="eventual")
            latencies.append((time.perf_counter() - due) * 1000)
            due = max(due + 1 / per_second, time.perf_counter())
        return latencies, verified_bytes() - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--secs", type=float, default=4.0, help="of searching in each half of a round")
    parser.add_argument("--per-second", type=float, default=200.0)
    given = parser.parse_args()
    data = clustered(given.rows, given.dim, queries=1000, seed=3)
    without: list[float] = []
    beside: list[float] = []
    compared = 0.0
    with tempfile.TemporaryDirectory() as folder:
        size = fill(folder, data.base)
        for _ in range(given.rounds):
            without += search(folder, data.queries, given.per_second, given.secs, days=0)[0]
            latencies, seen = search(folder, data.queries, given.per_second, given.secs, days=7)
            beside, compared = beside + latencies, compared + seen
    result = {"mib": size >> 20, "without": figures(without), "beside": figures(beside)}
    result["compared_mib_per_s"] = round(compared / (1 << 20) / given.rounds / given.secs, 1)
    result["p99_ratio"] = round(result["beside"]["p99_ms"] / result["without"]["p99_ms"], 2)
    machine = {"machine": platform.machine(), "cores": os.cpu_count(), "load": os.getloadavg()[0]}
    print(json.dumps(machine | vars(given) | result, indent=2))


if __name__ == "__main__":
    main()
