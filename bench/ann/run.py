"""Queries per second over recall, build time and memory of AkiDB's index and its peers: same data, m, ef_construction
and threads.

    make bench-ann                                               the standard sets, all libraries
    python -m bench.ann 128-l2 768-cosine --n 1000000 --libraries akidb,hnswlib
    python -m bench.ann vectors.fvecs --metric l2 --out results

A set is a dimension and metric to generate, or a file: .npy, .fvecs, .fbin, .hdf5 as ann-benchmarks has them, .parquet.
Each writes <out>/ann-<set>.json and .svg. README.md beside this file says what the figures are.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
from dataclasses import asdict
from pathlib import Path

from bench.ann import plot, sets
from bench.ann.measure import Plan, measure
from bench.ann.peers import ROWS
from bench.ann.table import table


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.ann", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sets", nargs="*", default=sets.STANDARD, help=f"default: {' '.join(sets.STANDARD)}")
    parser.add_argument("--n", type=int, default=100_000, help="vectors to generate, or at most to read")
    parser.add_argument(
        "--metric", choices=("cosine", "l2", "ip"), help="of files; default: an .hdf5 file's, or cosine"
    )
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--m", type=int, default=16)
    parser.add_argument("--ef-construction", type=int, default=200)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="to build, and for all in one call")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--libraries", default=",".join(ROWS), help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("bench/results"), help="folder; default: %(default)s")
    parser.add_argument("--plot", choices=("svg", "png"), default="svg")
    args = parser.parse_args()
    unknown = set(args.libraries.split(",")) - set(ROWS)
    if unknown:
        parser.error(f"--libraries: {', '.join(sorted(unknown))} is none of {', '.join(ROWS)}")
    return args


def machine() -> dict[str, object]:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    model = platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = f"{model}, {names[0]}" if names else model
    return {
        "machine": model,
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        "commit": commit.stdout.strip(),
    }


def run(source: str, args: argparse.Namespace) -> None:
    data = sets.load(source, args.n, args.queries, args.metric, args.seed)
    plan = Plan(tuple(args.libraries.split(",")), args.m, args.ef_construction, args.threads, args.rounds, args.k)
    outcome = measure(data, plan)
    facts = {"set": data.name, "n": len(data.base), "dim": data.base.shape[1], "metric": data.metric}
    facts |= {"queries": len(data.queries), **asdict(plan), **machine(), "load": outcome.load}
    del facts["libraries"]
    title = (
        f"{data.name}: {len(data.base):,} x {data.base.shape[1]} {data.metric}, m {args.m}, "
        f"ef_construction {args.ef_construction}\n{facts['machine']}, {facts['processors']} processors, "
        f"load {outcome.load[0]:.1f} to {outcome.load[1]:.1f}, commit {facts['commit']}"
    )
    print(f"{title}, {args.threads} threads, medians of {args.rounds}\n\n{table(outcome)}\n", flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    written = {**facts, "missing": outcome.missing, "results": [asdict(result) for result in outcome.results]}
    (args.out / f"ann-{data.name}.json").write_text(json.dumps(written, indent=1) + "\n")
    plot.draw(outcome.results, args.k, title, args.out / f"ann-{data.name}.{args.plot}")


def main() -> None:
    args = arguments()
    for source in args.sets:
        run(source, args)
