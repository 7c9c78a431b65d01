"""Recall against queries per second of one set, as SVG or PNG by the file's name."""

from __future__ import annotations

from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from bench.ann.measure import Result
from bench.ann.peers import OWN, ROWS
from bench.ann.table import front

LOWEST_RECALL = 0.80
FAMILY_COLOURS = ("#c0392b", "#2c7fb8", "#31a354", "#8856a7", "#d95f0e", "#636363", "#dd1c77", "#b8860b")
MARKERS = ("o", "s", "^", "D")


def draw(results: list[Result], k: int, title: str, path: Path) -> None:
    """A package has a colour, its rows markers. The recall axis is stretched towards 1, where the curves part."""
    matplotlib.rcParams.update({"svg.hashsalt": "akidb", "svg.fonttype": "none"})  # the same file for the same figures
    figure = Figure(figsize=(10, 6), layout="constrained")
    axes = figure.subplots()
    packages = list(dict.fromkeys(row.package for row in ROWS.values()))
    for result in results:
        package = ROWS[result.library].package
        siblings = [name for name, row in ROWS.items() if row.package == package]
        points = [point for point in front(result.curve) if point.recall >= LOWEST_RECALL]
        axes.plot(
            [point.recall for point in points],
            [point.qps_one for point in points],
            color=FAMILY_COLOURS[packages.index(package)],
            marker=MARKERS[siblings.index(result.library)],
            linewidth=2.4 if result.library in OWN else 1.1,
            markersize=4,
            zorder=3 if result.library in OWN else 2,
            label=f"{result.library} {result.version}",
        )
    axes.set_xscale("function", functions=(lambda recall: -((1.002 - recall) ** 0.5), lambda x: 1.002 - x**2))
    axes.set_xlim(LOWEST_RECALL, 1.0)
    axes.set_xticks([0.80, 0.85, 0.90, 0.95, 0.97, 0.99, 1.0])
    axes.set_yscale("log")
    axes.set_xlabel(f"recall@{k}")
    axes.set_ylabel("queries per second, one per call on one thread")
    axes.grid(visible=True, which="both", linewidth=0.3, color="#cccccc")
    axes.set_title(title, fontsize=10)
    figure.legend(loc="outside right upper", fontsize=8)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
