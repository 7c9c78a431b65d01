"""One command for the owner of a board: what AkiDB does on this machine.

    python -m bench.edge [--rows 100000] [--out FILE]    measures (minutes), writes one JSON file, prints the report
    python -m bench.edge compare OLD.json NEW.json       two of them side by side

Nothing else should run meanwhile. Joules are told only where the machine tells them: bench/edge/power.py.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

DIMS = (128, 768)


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
        found[f"{name}, build joules"] = graph["build_joules"]
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


def report(result: dict[str, Any]) -> str:
    machine = result["machine"]
    head = f"{machine['model']}: {machine['text']}"
    return "\n".join([head, *(f"{name:60} {shown(value):>12}" for name, value in lines(result).items())])


def comparison(old: dict[str, Any], new: dict[str, Any]) -> str:
    """Figures that both have, and the ratio of new to old."""
    before, after = lines(old), lines(new)
    rows = [f"{'':60} {'old':>12} {'new':>12} {'new/old':>8}"]
    for name in before:
        if name not in after:
            continue
        a, b = before[name], after[name]
        ratio = f"{b / a:8.2f}" if a and b is not None else f"{'':8}"
        rows.append(f"{name:60} {shown(a):>12} {shown(b):>12} {ratio}")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000, help="vectors of each graph (100000)")
    parser.add_argument("--out", type=Path, default=Path("bench/results/edge.json"), help="bench/results/edge.json")
    actions = parser.add_subparsers(dest="action")
    compare = actions.add_parser("compare", help="two results side by side")
    compare.add_argument("old", type=Path)
    compare.add_argument("new", type=Path)
    arguments = parser.parse_args()
    if arguments.action == "compare":
        print(comparison(json.loads(arguments.old.read_text()), json.loads(arguments.new.read_text())))
        return
    from bench.edge.measure import measure

    result = measure(arguments.rows, DIMS)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    print(report(result))
    print(f"written to {arguments.out}")


if __name__ == "__main__":
    main()
