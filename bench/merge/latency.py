"""Latency of searches while segments are merged, and when nothing is, as JSON: `python -m bench.merge.latency`.

One thread of a program with the database inside searches at a steady rate; in each round three segments are added and
searched with nothing at work, then a fourth, which sets off a merge of the four, and searched until that is done.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from typing import Any

import numpy as np

import akidb
from bench.data import Vectors, clustered

PARTS = 4


class Run:
    def __init__(self, collection: akidb.Collection, queries: Vectors, per_second: float) -> None:
        self.collection, self.queries, self.period = collection, queries, 1 / per_second
        self.asked = 0

    def search(self, seconds: float | None = None) -> list[float]:
        """Latencies in ms for so long, or until no merge is pending any more; lateness counts as latency."""
        latencies, began = [], time.perf_counter()
        due = began
        while True:
            if seconds is not None and due - began > seconds:
                return latencies
            if seconds is None and len(latencies) % 20 == 0 and self.collection.info().compaction.state == "idle":
                return latencies
            time.sleep(max(0.0, due - time.perf_counter()))
            self.collection.search(self.queries[self.asked % len(self.queries)], 10, consistency="eventual")
            self.asked += 1
            latencies.append((time.perf_counter() - due) * 1000)
            due = max(due + self.period, time.perf_counter())

    def add(self, vectors: Vectors, first: int) -> None:
        for at in range(0, len(vectors), 5000):
            some = range(at, min(at + 5000, len(vectors)))
            payloads = [{"n": row, "text": f"text {row} " * 5} for row in some]
            self.collection.upsert([first + row for row in some], vectors[some.start : some.stop], payloads)
        self.collection.wait_indexed()


def figures(latencies: list[float]) -> dict[str, Any]:
    values = np.percentile(latencies, [50, 95, 99])
    return {"searches": len(latencies)} | {
        name: round(float(value), 3) for name, value in zip(("p50_ms", "p95_ms", "p99_ms"), values, strict=True)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000, help="of each of the four segments")
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--per-second", type=float, default=200.0)
    given = parser.parse_args()
    data = clustered(given.rows * PARTS * given.rounds, given.dim, queries=1000, seed=3)
    idle: list[float] = []
    merging: list[float] = []
    with tempfile.TemporaryDirectory() as folder, akidb.connect(folder) as database:
        run = Run(database.create_collection("bench", given.dim), data.queries, given.per_second)
        for number in range(given.rounds):
            pieces = np.split(data.base[number * given.rows * PARTS :][: given.rows * PARTS], PARTS)
            for part, piece in enumerate(pieces):
                if part == PARTS - 1:
                    idle += run.search(4.0)
                run.add(piece, (number * PARTS + part) * given.rows)
            merging += run.search()
    result = {"idle": figures(idle), "merging": figures(merging)}
    ratio = round(result["merging"]["p99_ms"] / result["idle"]["p99_ms"], 2)
    machine = {"machine": platform.machine(), "cores": os.cpu_count()}
    print(json.dumps(machine | vars(given) | result | {"p99_ratio": ratio}, indent=2))


if __name__ == "__main__":
    main()
