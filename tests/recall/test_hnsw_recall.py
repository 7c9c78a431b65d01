"""Recall@10 of HnswIndex through its life, against FlatIndex, with a floor per phase.

The floors lie a little under what was seen over ten seeds, so that they hold on every machine (threads insert in a
different order each time) and fail when the graph gets worse.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from akidb import FlatIndex, HnswIndex
from bench.data import clustered, local_intrinsic_dimension

N, DIM, K, EF = 8000, 64, 10, 100


@pytest.fixture(scope="module", params=["cosine", "l2", "ip"])
def metric(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Pair:
    """The index and its oracle, given the same."""

    def __init__(self, metric: str, n: int = N, ef_construction: int = 100) -> None:
        # Under the inner product lengths are made equal: else the longest vectors are everybody's neighbours.
        self.data = clustered(2 * n, DIM, queries=200, unit=metric == "ip", seed=4)
        self.hnsw = HnswIndex(DIM, metric, 16, ef_construction)
        self.flat = FlatIndex(DIM, metric)
        self.add(np.arange(n))

    def add(self, ids: np.ndarray) -> None:
        self.hnsw.add(ids, self.data.base[ids])
        self.flat.add(ids, self.data.base[ids])

    def remove(self, ids: np.ndarray) -> None:
        self.hnsw.remove(ids)
        self.flat.remove(ids)

    def recall(self, queries: np.ndarray | None = None, filter: np.ndarray | None = None, ef: int = EF) -> float:
        queries = self.data.queries if queries is None else queries
        return recall(
            self.hnsw.search(queries, K, ef_search=ef, filter=filter).ids,
            self.flat.search(queries, K, filter=filter).ids,
        )


def recall(found: np.ndarray, exact: np.ndarray) -> float:
    hits = sum(len(np.intersect1d(a, b[b >= 0])) for a, b in zip(found, exact, strict=True))
    return float(hits / (exact >= 0).sum())


@pytest.fixture
def pair(metric: str) -> Pair:
    return Pair(metric)


def test_generated_data_is_as_hard_as_real_data() -> None:
    data = clustered(20_000, 128, queries=100, seed=5)
    flat = FlatIndex(128, "l2")
    flat.add(data.base)
    distances = np.sqrt(flat.search(data.queries, 100).distances)
    assert 14 < local_intrinsic_dimension(distances) < 26


def test_built(pair: Pair) -> None:
    assert pair.recall() >= 0.97
    assert pair.recall(pair.data.shifted) >= 0.95
    assert pair.hnsw.validate()["unreachable"] <= N // 500


def test_grown_in_small_steps(pair: Pair) -> None:
    for start in range(N, 2 * N, 500):
        pair.add(np.arange(start, start + 500))
    assert pair.recall() >= 0.96


def test_removed_and_mended(pair: Pair) -> None:
    order = np.random.default_rng(6).permutation(N)
    for start in range(0, N // 2, 400):
        pair.remove(order[start : start + 400])
        assert pair.recall() >= 0.96


def test_turned_over_completely(pair: Pair) -> None:
    for start in range(0, N, 1000):
        pair.remove(np.arange(start, start + 1000))
        pair.add(np.arange(N + start, N + start + 1000))
    assert len(pair.hnsw) == N
    assert pair.recall() >= 0.96


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_each_vector_finds_itself_after_turnovers_by_small_steps(metric: str) -> None:
    """Clusters of a dense core and few outer points, which are hardly anybody's neighbours: the first to be lost."""
    rng, n, step = np.random.default_rng(9), 5000, 250
    centres = rng.standard_normal((75, DIM)) * 3
    spread = rng.standard_normal((3 * n, DIM)) * rng.uniform(0.1, 1, (3 * n, 1))
    base = (centres[rng.integers(0, len(centres), 3 * n)] + spread).astype(np.float32)
    hnsw = HnswIndex(DIM, metric, 16, 200)
    hnsw.add(np.arange(n), base[:n])
    for new in range(n, 3 * n, step):
        hnsw.remove(np.arange(new - n, new - n + step))
        hnsw.add(np.arange(new, new + step), base[new : new + step])
    ids = np.arange(2 * n, 3 * n)
    for index in (hnsw, hnsw.seal(0)):
        lost = (index.search(base[ids], 1, ef_search=50).ids[:, 0] != ids).sum()
        assert lost <= n // 1000


@pytest.mark.parametrize("share", [0.5, 0.2, 0.05, 0.01, 0.001])
def test_filtered(pair: Pair, share: float) -> None:
    allowed = np.flatnonzero(np.random.default_rng(7).random(N) < share)
    assert pair.recall(filter=allowed) >= 0.97


def test_filtered_to_one_region(pair: Pair) -> None:
    """Correlated with the queries: what passes is far from most of them."""
    allowed = pair.flat.search(pair.data.base[0], N // 5).ids
    assert pair.recall(filter=allowed) >= 0.97


def test_reopened(pair: Pair, tmp_path: Path) -> None:
    pair.hnsw.save(tmp_path / "index.aki")
    exact = pair.flat.search(pair.data.queries, K).ids
    for again in (HnswIndex.load(tmp_path / "index.aki"), HnswIndex.view(tmp_path / "index.aki")):
        assert recall(again.search(pair.data.queries, K, ef_search=EF).ids, exact) >= 0.97


def test_half_of_the_vectors_are_one(metric: str) -> None:
    """A clump of equal vectors must neither hide the others nor be lost itself."""
    pair = Pair(metric, n=3000)
    clump = np.arange(100_000, 102_000)
    same = np.repeat(pair.data.base[:1], len(clump), axis=0)
    pair.hnsw.add(clump, same)
    pair.flat.add(clump, same)
    assert np.isin(pair.hnsw.search(same[0], K, ef_search=EF).ids, [0, *clump]).all()
    assert pair.recall() >= 0.95


@pytest.mark.slow
def test_defaults_at_100k() -> None:
    data = clustered(100_000, 128, queries=500, seed=8)
    hnsw, flat = HnswIndex(128, "l2"), FlatIndex(128, "l2")
    hnsw.add(data.base)
    flat.add(data.base)
    assert recall(hnsw.search(data.queries, 10, ef_search=200).ids, flat.search(data.queries, 10).ids) >= 0.99
