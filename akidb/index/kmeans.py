"""Clusters of vectors that lie near each other: k-means by halves, with the same result on every machine.

Lloyd, "Least squares quantization in PCM", IEEE Trans. Inf. Theory 28(2), 1982; applied again inside each cluster that
is too large, as a vocabulary tree (Nister and Stewenius, CVPR 2006): a million vectors cost a hundredth of one pass
over a thousand centres each. All sums are of whole numbers that float32 holds exactly, so neither the order in which a
matrix product adds nor the processor changes a bit of the outcome.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from akidb.types import VectorArray

Rows = npt.NDArray[np.int64]

_BRANCHES_MAX = 64
_SAMPLE_PER_CENTRE = 128
_SAMPLE_MAX = 4096
_ITERATIONS = 8
_CHUNK_ROWS = 8192
_QUANTILE = 0.999


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """The whole numbers that vectors are taken for: value = number * `unit`, at most `largest` either way."""

    unit: np.float32
    largest: int

    @classmethod
    def over(cls, sample: VectorArray) -> Grid:
        """Fine enough for all but the outermost 0.1 % of values, which are cut off."""
        dim = sample.shape[1]
        largest = int(min(127, np.sqrt((1 << 22) / dim)))  # dim * largest^2 below 2^22: twice that still is exact
        reach = np.float32(np.quantile(np.abs(sample), _QUANTILE, method="lower")) if sample.size else np.float32(0)
        return cls(np.float32(max(reach, np.finfo(np.float32).tiny * 256) / np.float32(largest)), largest)

    def numbers(self, vectors: VectorArray) -> VectorArray:
        """Float32 whole numbers, shaped like `vectors`."""
        return np.asarray(np.clip(np.rint(vectors / self.unit), -self.largest, self.largest), np.float32)


def clusters(
    count: int, take: Callable[[Rows], VectorArray], grid: Grid, *, rows_per_cluster: int, seed: int = 0
) -> Iterator[tuple[Rows, VectorArray]]:
    """Cuts rows 0 to `count` - 1 into clusters of about `rows_per_cluster`, never more than twice that.

    Args:
        take: the vectors of some rows, float32 (n, dim).

    Yields each cluster's rows, ascending, and its centre in the grid's numbers, float32 (dim,).
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    yield from _split(np.arange(count, dtype=np.int64), take, grid, rows_per_cluster, rng)


def _split(
    rows: Rows, take: Callable[[Rows], VectorArray], grid: Grid, wanted: int, rng: np.random.Generator
) -> Iterator[tuple[Rows, VectorArray]]:
    if len(rows) <= 2 * wanted:
        yield rows, _mean(grid.numbers(take(rows)))
        return
    branches = min(_BRANCHES_MAX, -(-len(rows) // wanted))
    sample = np.sort(rng.choice(rows, min(len(rows), _SAMPLE_MAX, branches * _SAMPLE_PER_CENTRE), replace=False))
    centres = kmeans(grid.numbers(take(sample)), branches, rng)
    nearest = np.concatenate([
        assign(grid.numbers(take(rows[at : at + _CHUNK_ROWS])), centres) for at in range(0, len(rows), _CHUNK_ROWS)
    ])  # fmt: skip
    order = np.argsort(nearest, kind="stable")
    bounds = np.searchsorted(nearest[order], np.arange(branches + 1))
    if (np.diff(bounds) == len(rows)).any():  # equal vectors cannot be told apart: any cut is as good
        order, bounds = np.arange(len(rows)), np.linspace(0, len(rows), branches + 1).astype(np.int64)
    for start, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        if end > start:
            yield from _split(rows[order[start:end]], take, grid, wanted, rng)


def kmeans(points: VectorArray, count: int, rng: np.random.Generator) -> VectorArray:
    """`count` centres (count, dim) of whole-number points (n, dim), n >= count; whole numbers too."""
    centres = points[np.sort(rng.choice(len(points), count, replace=False))]
    for _ in range(_ITERATIONS):
        nearest = assign(points, centres)
        order = np.argsort(nearest, kind="stable")
        found, starts = np.unique(nearest[order], return_index=True)
        sums = np.add.reduceat(points[order], starts, axis=0)
        moved = centres.copy()  # a centre that lost all its points stays where it was
        moved[found] = np.rint(sums / np.bincount(nearest)[found].astype(np.float32)[:, None])
        if (moved == centres).all():
            break
        centres = moved
    return centres


def assign(points: VectorArray, centres: VectorArray) -> npt.NDArray[np.int64]:
    """The number of the nearest centre by Euclidean distance, of equal ones the first; exact for whole numbers."""
    lengths = np.square(centres).sum(axis=1)
    return np.asarray(np.argmax(points @ (2 * centres.T) - lengths, axis=1), np.int64)


def chained(centres: VectorArray) -> Rows:
    """The order in which each whole-number centre (n, dim), n >= 1, is followed by the nearest of those that are left.

    What a query needs then lies together more often than in the order of the halves: a fifth fewer runs of neighbours
    among the lists that a search reads. An order by the graph's Laplacian was worse, exchanges of edges no better.
    """
    lengths = np.square(centres).sum(axis=1)
    order = np.zeros(len(centres), np.int64)
    left = np.ones(len(centres), np.bool_)
    for i in range(1, len(centres)):
        left[order[i - 1]] = False
        nearness = centres @ (2 * centres[order[i - 1]]) - lengths
        order[i] = np.argmax(np.where(left, nearness, -np.inf))
    return order


def _mean(points: VectorArray) -> VectorArray:
    return np.asarray(np.rint(points.sum(axis=0) / np.float32(len(points))), np.float32)
