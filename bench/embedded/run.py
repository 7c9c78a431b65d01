"""Searches per second of one thread of a program with the database inside: `python -m bench.embedded.run`.

Strong and eventual reads differ by the look at the end of the log. Each figure is the best of five rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from pathlib import Path

import numpy as np

import akidb
from akidb.types import EVENTUAL, STRONG, Consistency
from bench.data import clustered

BATCH = 5000
QUERIES = 500
ROUNDS = 5


def filled(database: akidb.Connection, vectors: np.ndarray) -> akidb.Collection:
    collection = database.create_collection("bench", vectors.shape[1], metric="euclidean")
    for start in range(0, len(vectors), BATCH):
        rows = range(start, min(start + BATCH, len(vectors)))
        collection.upsert(rows, vectors[rows], [{"n": row} for row in rows])
    collection.wait_indexed()
    return collection


def per_second(collection: akidb.Collection, queries: np.ndarray, consistency: Consistency) -> float:
    seconds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for query in queries:
            collection.search(query, 10, consistency=consistency)
        seconds.append(time.perf_counter() - began)
    return len(queries) / min(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=20_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    data = clustered(options.points, options.dim, queries=QUERIES, seed=1)
    figures = []
    print(f"{platform.machine()}, {os.cpu_count()} cores; {options.points:,} points of {options.dim} dimensions")
    with tempfile.TemporaryDirectory() as folder:
        for store, where in (("memory", ":memory:"), ("folder", folder)):
            with akidb.connect(where) as database:
                collection = filled(database, data.base)
                for consistency in (STRONG, EVENTUAL):
                    rate = per_second(collection, data.queries, consistency)
                    figures.append({"store": store, "read": consistency.mode, "per_second": round(rate)})
                    print(f"{store:8}{consistency.mode:10}{rate:8,.0f} searches/s {1e6 / rate:6.0f} us")
    if options.json:
        options.json.write_text(json.dumps({"machine": platform.platform(), "figures": figures}, indent=1))


if __name__ == "__main__":
    main()
