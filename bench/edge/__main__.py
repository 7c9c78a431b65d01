"""One command for the owner of a board: what AkiDB does on this machine.

    python -m bench.edge [--rows 100000] [--out FILE]    measures (minutes), writes one JSON file, prints the report
    python -m bench.edge compare OLD.json NEW.json       two of them side by side

Nothing else should run meanwhile. Joules are told only where the machine tells them: bench/edge/power.py.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from bench.edge.measure import VERSION, measure

DIMS = (128, 768)
ROWS_MIN = 1000  # fewer say nothing of a graph
LOAD_MAX = 0.5  # a machine with nothing to do


def lines(result: dict[str, Any]) -> dict[str, float | None]:
    """The figures of a result by name."""
    found: dict[str, float | None] = {"memory copy, GB/s": result["bandwidth_gb_per_sec"]}
    for scan in result["scans"]:
        threads = "one thread" if scan["threads"] == 1 else "all threads"
        name = f"scan of {scan['dim']} dimensions in {scan['rows_in']}, {threads}"
        found[f"{name}, GB/s"] = scan["gb_per_sec"]
        if scan["of_bandwidth"] is not None:
            found[f"{name}, share of copy"] = scan["of_bandwidth"]
    for graph in result["graphs"]:
        name = f"graph of {graph['rows']} x {graph['dim']}"
        found[f"{name}, build seconds"] = graph["build_secs"]
        found[f"{name}, seal seconds"] = graph["seal_secs"]
        found[f"{name}, joules of both"] = graph["build_joules"]
        found[f"{name}, resident MiB"] = graph["resident_bytes"] / 2**20
        for search in graph["searches"]:
            at = f"{name}, ef {search['ef']}"
            found[f"{at}, recall@10"] = search["recall_at_10"]
            found[f"{at}, queries per second"] = search["queries_per_sec"]
            found[f"{at}, millijoules per query"] = (
                None if search["joules_per_query"] is None else search["joules_per_query"] * 1000
            )
    return found


def shown(value: float | None) -> str:
    if value is None:
        return "not told"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def title(result: dict[str, Any]) -> str:
    load = result["load_before"]
    busy = f"; NOT ALONE, at a load of {load:.1f} before it began" if load > LOAD_MAX else ""
    return f"{result['machine']['text']}{busy}"


def read(path: Path) -> dict[str, Any]:
    """A result of this version; anything else ends the program, saying what was found."""
    try:
        result = json.loads(path.read_text())
        version = result["version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.exit(f"bench.edge: {path} is not a result of bench.edge: {error!r}")
    if version != VERSION:
        sys.exit(f"bench.edge: {path} is of version {version}, expected {VERSION}: measure again")
    return result


def report(result: dict[str, Any]) -> str:
    return "\n".join([title(result), *(f"{name:60} {shown(value):>12}" for name, value in lines(result).items())])


def comparison(old: dict[str, Any], new: dict[str, Any]) -> str:
    """Both machines, then every figure of either, and the ratio of new to old where both tell."""
    before, after = lines(old), lines(new)
    rows = [f"{which}: {title(result)}" for which, result in (("old", old), ("new", new))]
    rows.append(f"{'':60} {'old':>12} {'new':>12} {'new/old':>8}")
    for name in {**before, **after}:
        a, b = before.get(name), after.get(name)
        ratio = f"{b / a:8.2f}" if a and b is not None else f"{'':8}"
        rows.append(f"{name:60} {shown(a):>12} {shown(b):>12} {ratio}")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        "bench.edge", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=100_000, help="vectors of each graph (100000)")
    parser.add_argument("--out", type=Path, default=Path("bench/results/edge.json"), help="bench/results/edge.json")
    actions = parser.add_subparsers(dest="action")
    compare = actions.add_parser("compare", help="two results side by side")
    compare.add_argument("old", type=Path)
    compare.add_argument("new", type=Path)
    arguments = parser.parse_args()
    if arguments.action == "compare":
        print(comparison(read(arguments.old), read(arguments.new)))
        return
    if arguments.rows < ROWS_MIN:
        parser.error(f"--rows is {arguments.rows}, expected at least {ROWS_MIN}")
    result = measure(arguments.rows, DIMS)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    print(report(result))
    print(f"written to {arguments.out}")


if __name__ == "__main__":
    main()
