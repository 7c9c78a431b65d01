"""Recall and queries per second of a sealed index under filters, from all points passing to one in ten thousand.

    python -m bench.ann.filtered 128-l2

A filter is independent of the query, correlated with it (points near a place near the query pass), or anti-correlated
(points far from it pass). Searches ask for a recall, and the same setting is used for all; queries go one by one on one
thread. QPS by CPU time, of the best of five rounds; searches without a filter take turns with those under it, and the
share of their QPS is what holds on a machine that does other things as well.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from akidb.index import GraphIndex, build_graph, scan
from bench.ann.measure import recall
from bench.ann.run import machine
from bench.ann.sets import add_arguments, load

SHARES = (1.0, 0.999, 0.99, 0.9, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.003, 0.001, 0.0001)
KINDS = ("independent", "correlated", "anti-correlated")
Vectors = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


def masks(base: Vectors, queries: Vectors, kind: str, share: float, rng: np.random.Generator) -> Iterator[Mask]:
    """bool (n,) per query."""
    count = max(1, round(len(base) * share))
    for query in queries:
        allowed = np.zeros(len(base), np.bool_)
        if kind == "independent":
            allowed[rng.choice(len(base), count, replace=False)] = True
        else:
            place = query + 0.3 * np.linalg.norm(query) * rng.standard_normal(query.shape) / np.sqrt(query.size)
            distances = ((base - place.astype(np.float32)) ** 2).sum(axis=1)
            nearest_first = np.argpartition(distances, count - 1 if kind == "correlated" else len(base) - count)
            allowed[nearest_first[:count] if kind == "correlated" else nearest_first[len(base) - count :]] = True
        yield allowed


def measure(
    index: GraphIndex, base: Vectors, queries: Vectors, metric: str, kind: str, share: float, ef: int
) -> tuple[float, float, float]:
    """Recall@10 (of as many as pass), queries per second, and their share of those without a filter."""
    rng = np.random.default_rng(7)
    asked: list[tuple[Vectors, Mask | None]] = [(query, None) for query in queries[:, None]]
    filtered = asked
    if share < 1.0:
        filtered = list(zip(queries[:, None], masks(base, queries, kind, share, rng), strict=True))
    k = min(10, max(1, round(len(base) * share)))
    truth = [scan(base, metric, query, k, allowed=mask)[0] for query, mask in filtered]
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(5):
        for times, searches in zip(seconds, (asked, filtered), strict=True):
            began = time.process_time()
            found = [index.search(query, 10, ef_search=ef, allowed=mask)[0] for query, mask in searches]
            times.append(time.process_time() - began)
    free, under = map(min, seconds)
    return recall(np.concatenate(found)[:, :k], np.concatenate(truth)), len(queries) / under, free / under


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.ann.filtered", description=__doc__.splitlines()[0])
    add_arguments(parser, n=100_000, queries=100)
    parser.add_argument("--recall", type=float, default=0.95)
    args = parser.parse_args()
    chosen = load(args.set, args.n, args.queries, args.metric, seed=0)
    base, queries, metric = chosen.base, chosen.queries, chosen.metric
    graph = GraphIndex(base, build_graph(base, metric, m=16, ef_construction=200), metric)
    ef = graph.ef_for(10, args.recall)
    print(json.dumps({"n": len(base), "dim": base.shape[1], "metric": metric, "ef": ef, **machine()}))
    print("| passing | " + " | ".join(f"{kind}: recall@10, QPS, share" for kind in KINDS) + " |")
    print("|---|" + "---|" * len(KINDS))
    for share in SHARES:
        cells = [measure(graph, base, queries, metric, kind, share, ef) for kind in KINDS]
        print(
            f"| {share:.2%} | "
            + " | ".join(f"{found:.3f}, {qps:,.0f}, {part:.2f}" for found, qps, part in cells)
            + " |",
            flush=True,
        )


if __name__ == "__main__":
    main()
