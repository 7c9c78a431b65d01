"""The table of one set: each library's figures at fixed recalls, and AkiDB's against the best of the peers'."""

from __future__ import annotations

from itertools import pairwise

from bench.ann.measure import Outcome, Point, Result
from bench.ann.peers import OWN

RECALLS = (0.90, 0.95, 0.99)
MEMORY_RECALL = 0.99


def front(curve: list[Point]) -> list[Point]:
    """The points by recall; of a grid of several knobs those that no other beats in recall and speed both."""
    if all(len(point.setting) == 1 for point in curve):
        return sorted(curve, key=lambda point: point.recall)
    best: list[Point] = []
    for point in sorted(curve, key=lambda point: (-point.recall, -point.qps_one)):
        if not best or point.qps_one > best[-1].qps_one:
            best.append(point)
    return best[::-1]


def at(result: Result, recall: float, figure: str) -> float | None:
    """A figure at a recall, between the neighbouring points of the front; None where it isn't reached."""
    points = front(result.curve)
    if not points or points[-1].recall < recall:
        return None
    if points[0].recall >= recall:
        return float(getattr(points[0], figure))
    left, right = next(pair for pair in pairwise(points) if pair[1].recall >= recall)
    share = (recall - left.recall) / (right.recall - left.recall)
    low, high = getattr(left, figure), getattr(right, figure)
    return float(low ** (1 - share) * high**share)


def resident_bytes(result: Result) -> int:
    """After the first queries that reach MEMORY_RECALL, or after the last."""
    reached = (point for point in result.curve if point.recall >= MEMORY_RECALL)
    return next(reached, result.curve[-1]).resident_bytes


def table(outcome: Outcome) -> str:
    columns = ["library", "build s (CPU s)", "MiB", *(f"QPS at {r:.2f}: one (CPU) / all" for r in RECALLS)]
    lines = [columns, ["---"] * len(columns), *(_row(result) for result in outcome.results)]
    own = next((result for result in outcome.results if result.library == OWN[0]), None)
    peers = [result for result in outcome.results if result.library not in OWN]
    if own and peers:
        lines.append(_against(own, peers))
    text = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join(text + [f"left out: {name}: {reason}" for name, reason in outcome.missing.items()])


def _row(result: Result) -> list[str]:
    cells = [f"{result.library} {result.version}", f"{result.build_seconds:.1f} ({result.build_cpu_seconds:.1f})"]
    cells.append(f"{resident_bytes(result) / 2**20:.0f}")
    for target in RECALLS:
        one, cpu, every = (at(result, target, figure) for figure in ("qps_one", "qps_cpu", "qps_all"))
        reached = one is not None and cpu is not None and every is not None
        cells.append(f"{one:,.0f} ({cpu:,.0f}) / {every:,.0f}" if reached else "not reached")
    return cells


def _against(own: Result, peers: list[Result]) -> list[str]:
    """Of builds those peers count that reach the highest recall AkiDB does; memory is compared with hnswlib's."""
    goal = max((r for r in RECALLS if at(own, r, "qps_one") is not None), default=RECALLS[0])
    equal = [peer for peer in peers if at(peer, goal, "qps_one") is not None]
    quickest = min(equal, key=lambda peer: peer.build_seconds, default=None)
    usual = next((peer for peer in peers if peer.library == "hnswlib"), None)
    cells = [
        f"{OWN[0]} / best peer",
        f"{own.build_seconds / quickest.build_seconds:.2f} x {quickest.library}" if quickest else "-",
        f"{resident_bytes(own) / resident_bytes(usual):.2f} x hnswlib" if usual else "-",
    ]
    for target in RECALLS:
        best = max(peers, key=lambda peer: at(peer, target, "qps_one") or 0.0)
        one, cpu = (_share(own, best, target, figure) for figure in ("qps_one", "qps_cpu"))
        cells.append(f"{one:.2f} ({cpu:.2f}) x {best.library}" if one and cpu else "-")
    return cells


def _share(own: Result, peer: Result, recall: float, figure: str) -> float | None:
    ours, theirs = at(own, recall, figure), at(peer, recall, figure)
    return ours / theirs if ours and theirs else None
