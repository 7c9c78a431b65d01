"""Searches for many nearest: an index sealed, in memory and in its file, before sealing, and exact search.

    python -m bench.ann.many 128-l2 --n 20000

Queries go one by one on one thread, in turns of the rows of the table; microseconds by CPU time, of the best of five
rounds, and recall@k, at target_recall and, before sealing, at the ef that gave.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from akidb import FlatIndex, HnswIndex
from akidb.index.result import SearchResult
from bench.ann.measure import recall
from bench.ann.run import machine
from bench.ann.sets import add_arguments, load

KS = (10, 30, 100, 300, 1000, 3000, 10_000)
Search = Callable[[npt.NDArray[np.float32]], SearchResult]


def by_turns(
    ways: dict[str, Search], queries: npt.NDArray[np.float32]
) -> dict[str, tuple[float, npt.NDArray[np.int64]]]:
    """Microseconds a query and ids (q, k) of each way."""
    best = dict.fromkeys(ways, float("inf"))
    found = {}
    for _ in range(5):
        for name, search in ways.items():
            began = time.process_time()
            ids = [search(query).ids for query in queries]
            best[name] = min(best[name], (time.process_time() - began) / len(queries) * 1e6)
            found[name] = np.stack(ids)
    return {name: (best[name], found[name]) for name in ways}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.ann.many", description=__doc__.splitlines()[0])
    add_arguments(parser, n=20_000, queries=50)
    parser.add_argument("--recall", type=float, default=0.95)
    args = parser.parse_args()
    chosen = load(args.set, args.n, args.queries, args.metric, seed=0)
    index, flat = HnswIndex(chosen.base.shape[1], chosen.metric), FlatIndex(chosen.base.shape[1], chosen.metric)
    for each in (index, flat):
        each.add(chosen.base)
    sealed = index.seal()
    print(
        json.dumps(
            {"n": len(index), "dim": index.dim, "metric": index.metric, "code_bits": sealed.code_bits, **machine()}
        )
    )
    with tempfile.TemporaryDirectory() as folder:
        sealed.save(Path(folder) / "index")
        view = HnswIndex.view(Path(folder) / "index")
        print("| k | exact, us | unsealed | sealed | in its file |")
        print("|---|---|---|---|---|")
        for k in (k for k in KS if k <= len(index)):
            ef = sealed._native.ef_for(k, args.recall)
            ways: dict[str, Search] = {
                "exact": partial(flat.search, k=k, threads=1),
                "unsealed": partial(index.search, k=k, ef_search=ef, threads=1),
                "sealed": partial(sealed.search, k=k, target_recall=args.recall, threads=1),
                "file": partial(view.search, k=k, target_recall=args.recall, threads=1),
            }
            measured = by_turns(ways, chosen.queries)
            truth = measured["exact"][1]
            cells = [f"{us:,.0f} ({recall(ids, truth):.3f})" for us, ids in list(measured.values())[1:]]
            print(f"| {k:,} | {measured['exact'][0]:,.0f} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
