"""Merging graphs against building the union's anew, as JSON: `python -m bench.merge.run [--rows N] [--dim D]`.

For each way of cutting the vectors into parts, which have graphs: CPU seconds of the merge and of a fresh build with
the same parameters, one after the other, and recall@10 of both graphs at equal ef_search. CPU seconds include sealing,
which is the same for both; both run on as many threads as there are processors.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import time
from typing import Any

import numpy as np

from akidb.index import GraphIndex, GraphPart, build_graph, scan
from akidb.index.arguments import MetricWord
from bench.data import Vectors, clustered

K = 10
EFS = (32, 64, 128)
CUTS = {
    "2 halves": ((0.5, 0.5), 0.0),
    "4 quarters": ((0.25,) * 4, 0.0),
    "9:1": ((0.9, 0.1), 0.0),
    "4 quarters, a fifth dead": ((0.25,) * 4, 0.2),
    "1 part, a quarter dead": ((1.0,), 0.25),
}


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


class Run:
    def __init__(self, vectors: Vectors, queries: Vectors, metric: MetricWord, m: int, ef_construction: int) -> None:
        self.vectors, self.queries, self.metric = vectors, queries, metric
        self.params: dict[str, Any] = {"m": m, "ef_construction": ef_construction}

    def build(self, vectors: Vectors, **more: Any) -> tuple[bytes, dict[str, float]]:
        began, cpu = time.perf_counter(), cpu_seconds()
        graph = build_graph(vectors, self.metric, **self.params, **more)
        return graph, {"cpu_s": round(cpu_seconds() - cpu, 2), "s": round(time.perf_counter() - began, 2)}

    def recalls(self, vectors: Vectors, graph: bytes) -> dict[str, float]:
        truth = scan(vectors, self.metric, self.queries, K, threads=0)[0]
        index = GraphIndex(vectors, graph, self.metric)
        out = {}
        for ef in EFS:
            found = index.search(self.queries, K, ef_search=ef, threads=0)[0]
            hits = sum(len(np.intersect1d(*pair)) for pair in zip(found, truth, strict=True))
            out[f"recall@{K} ef {ef}"] = round(hits / truth.size, 4)
        return out | {"unreachable": index.validate()["unreachable"]}

    def cut(self, shares: tuple[float, ...], dead: float) -> dict[str, Any]:
        ends = np.round(np.cumsum(shares) * len(self.vectors)).astype(int)
        pieces = np.split(self.vectors, ends[:-1])
        rng = np.random.default_rng(1)
        parts = [GraphPart(self.build(piece)[0], rng.random(len(piece)) >= dead) for piece in pieces]
        union = np.concatenate([piece[part.live] for piece, part in zip(pieces, parts, strict=True)])
        merged, merge_cost = self.build(union, parts=parts)
        fresh, fresh_cost = self.build(union)
        return {
            "rows": len(union),
            "merge": merge_cost | self.recalls(union, merged),
            "fresh": fresh_cost | self.recalls(union, fresh),
            "cpu_share": round(merge_cost["cpu_s"] / fresh_cost["cpu_s"], 3),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=40_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--metric", choices=("cosine", "l2", "ip"), default="l2")
    parser.add_argument("--m", type=int, default=16)
    parser.add_argument("--ef-construction", type=int, default=400)
    parser.add_argument("--cuts", nargs="*", choices=list(CUTS), default=list(CUTS))
    given = parser.parse_args()
    data = clustered(given.rows, given.dim, queries=1000, unit=given.metric != "l2", seed=2)
    run = Run(data.base, data.queries, given.metric, given.m, given.ef_construction)
    results = {name: run.cut(*CUTS[name]) for name in given.cuts}
    print(
        json.dumps({"machine": platform.processor() or platform.machine(), **vars(given), "results": results}, indent=2)
    )


if __name__ == "__main__":
    main()
