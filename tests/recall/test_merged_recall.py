"""Recall@10 where graphs live on: merged with others, and with half of their points replaced ten times over.

The floor is a hundredth under a graph built anew over the same vectors.
"""

from __future__ import annotations

import numpy as np
import pytest

from akidb import HnswIndex
from akidb.index import GraphIndex, GraphPart, build_graph, scan
from akidb.index.arguments import MetricWord
from bench.data import Vectors, clustered
from tests.recall.test_hnsw_recall import recall

N, DIM, K, EF, EF_CONSTRUCTION = 8000, 64, 10, 48, 120
LOSS_MAX = 0.01


@pytest.fixture(scope="module", params=["cosine", "l2", "ip"])
def metric(request: pytest.FixtureRequest) -> MetricWord:
    return request.param  # type: ignore[no-any-return]


def built(vectors: Vectors, metric: MetricWord, parts: list[GraphPart] | None = None) -> memoryview:
    return build_graph(vectors, metric, m=16, ef_construction=EF_CONSTRUCTION, parts=parts or ())


def found(vectors: Vectors, graph: memoryview, metric: MetricWord, queries: Vectors) -> float:
    index = GraphIndex(vectors, graph, metric)
    assert index.validate()["unreachable"] == 0
    exact = scan(vectors, metric, queries, K)[0]
    return recall(index.search(queries, K, ef_search=EF)[0], exact)


def test_merged_twice_with_rows_left_out(metric: MetricWord) -> None:
    """Eight graphs to two, these to one, a fifth of the rows left out each time."""
    data = clustered(N, DIM, queries=500, unit=metric == "ip", seed=11)
    rng = np.random.default_rng(12)
    level = [(piece, built(piece, metric)) for piece in np.array_split(data.base, 8)]
    while len(level) > 1:
        merged = []
        for group in (level[at : at + 4] for at in range(0, len(level), 4)):
            parts = [GraphPart(graph, rng.random(len(vectors)) >= 0.2) for vectors, graph in group]
            union = np.concatenate([vectors[part.live] for (vectors, _), part in zip(group, parts, strict=True)])
            merged.append((union, built(union, metric, parts)))
        level = merged
    ((vectors, graph),) = level
    assert N * 0.6 < len(vectors) < N * 0.7
    fresh = found(vectors, built(vectors, metric), metric, data.queries)
    assert found(vectors, graph, metric, data.queries) >= fresh - LOSS_MAX


def test_each_vector_finds_itself_after_merges_that_leave_rows_out() -> None:
    """Of clusters with a dense core and few outer points: a fifth goes and as much comes, eight times."""
    rng, n = np.random.default_rng(15), N // 2
    centres = rng.standard_normal((60, DIM)) * 3

    def draw(count: int) -> Vectors:
        spread = rng.standard_normal((count, DIM)) * rng.uniform(0.1, 1, (count, 1))
        return (centres[rng.integers(0, len(centres), count)] + spread).astype(np.float32)

    vectors = draw(n)
    graph = built(vectors, "l2")
    for _ in range(8):
        new = draw(n // 5)
        parts = [
            GraphPart(graph, rng.random(len(vectors)) >= 0.2),
            GraphPart(built(new, "l2"), np.ones(len(new), bool)),
        ]
        vectors = np.concatenate([vectors[parts[0].live], new])
        graph = built(vectors, "l2", parts)
    rows = GraphIndex(vectors, graph, "l2").search(vectors, 1, ef_search=50)[0][:, 0]
    assert (rows != np.arange(len(vectors))).sum() <= n // 1000


@pytest.mark.parametrize("way", ["update", "remove and add"])
def test_half_of_the_points_replaced_ten_times(metric: MetricWord, way: str) -> None:
    data = clustered(6 * N // 2, DIM, queries=500, unit=metric == "ip", seed=13)
    rng, ids = np.random.default_rng(14), np.arange(N // 2)
    now = data.base[: len(ids)].copy()
    index = HnswIndex(DIM, metric, 16, EF_CONSTRUCTION)
    index.add(ids, now)
    for _ in range(10):
        chosen = rng.permutation(ids)[: len(ids) // 2]
        now[chosen] = data.base[rng.integers(0, len(data.base), len(chosen))]
        if way == "update":
            index.update(chosen, now[chosen])
        else:
            index.remove(chosen)
            index.add(chosen, now[chosen])
    fresh = HnswIndex(DIM, metric, 16, EF_CONSTRUCTION)
    fresh.add(ids, now)
    exact = scan(now, metric, data.queries, K)[0]
    each = [recall(graph.search(data.queries, K, ef_search=EF).ids, exact) for graph in (index, fresh)]
    assert each[0] >= each[1] - LOSS_MAX
    assert np.array_equal(index.get(ids), now)
    index.seal(0)  # connects what is left to be connected, as every search of a sealed or saved one has it
    assert index.validate()["unreachable"] == 0
