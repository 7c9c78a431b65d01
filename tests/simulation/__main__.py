"""python -m tests.simulation --seed N: one run, or --seeds FIRST LAST: many. The same seed is the same run."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections import Counter

from tests.simulation.world import simulate


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this one")
    parser.add_argument("--clones", action="store_true", help="with clients that make clones, and use and drop them")
    parser.add_argument("--seeds", type=int, nargs=2, metavar=("FIRST", "LAST"), help="run these")
    parser.add_argument("--forwarding", action="store_true", help="nodes send batches to each other")
    chosen = parser.parse_args()
    first, last = chosen.seeds or (chosen.seed or 0, chosen.seed or 0)
    failed, faults, secs = [], Counter[str](), 0.0
    for seed in range(first, last + 1):
        try:
            report = simulate(seed, forwarding=chosen.forwarding, clones=chosen.clones)
        except Exception:
            failed.append(seed)
            print(f"seed {seed}:", flush=True)
            traceback.print_exc(file=sys.stdout)
            continue
        faults += report.faults
        secs += report.secs
        if first == last:
            print(report)
    hours = f"{secs / 3600:.2f} hours simulated, {sum(faults.values())} faults"
    print(f"{last - first + 1} seeds, {hours}, failed: {failed}")
    print(", ".join(f"{kind} {count}" for kind, count in sorted(faults.items())))
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
