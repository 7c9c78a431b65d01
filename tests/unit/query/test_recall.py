"""Recall under filters of every selectivity, whichever way the planner takes, against the exact answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from akidb.filter import Filter, parse
from akidb.index import GraphIndex
from akidb.query import SearchQuery, Snapshot, execute
from akidb.types import CollectionSpec, IndexParams, Metric, VectorArray
from tests.unit.query.conftest import Shard

ROWS, DIM, QUERIES = 12_000, 32, 40


def generated(rows: int, seed: int) -> VectorArray:
    """Ten latent dimensions and a little noise: near neighbours mean something, as in embeddings."""
    latent = np.random.default_rng(1).normal(size=(10, DIM))
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(rows, 10)) @ latent + 0.3 * rng.normal(size=(rows, DIM))).astype(np.float32)


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """One graph of all points. Of 0 to 999, `u` is independent of the vector and `near` rises with its first axis."""
    spec = CollectionSpec("points", DIM, Metric.COSINE, IndexParams(m=16, ef_construction=100))
    shard = Shard(spec, tmp_path_factory.mktemp("recall"))
    vectors = generated(ROWS, seed=2)
    uniform = np.random.default_rng(3).integers(0, 1000, ROWS).tolist()
    near = np.argsort(np.argsort(vectors[:, 0])) * 1000 // ROWS
    payloads = [b'{"u":%d,"near":%d}' % pair for pair in zip(uniform, near.tolist(), strict=True)]
    shard.upsert([str(i) for i in range(ROWS)], vectors, payloads)
    shard.fold(graph=True)
    return shard.snapshot()


def recall(snapshot: Snapshot, queries: Sequence[SearchQuery]) -> float:
    answers = execute(snapshot, queries)
    truth = execute(snapshot, [replace(query, exact=True) for query in queries])
    hits = [len({a.id for a in found} & {b.id for b in best}) for found, best in zip(answers, truth, strict=True)]
    return sum(hits) / sum(map(len, truth))


def singles(snapshot: Snapshot, queries: Sequence[SearchQuery]) -> float:
    """Recall of queries sent one at a time."""
    return float(np.mean([recall(snapshot, [query]) for query in queries]))


@pytest.mark.parametrize("ef_search", [50, 200])
@pytest.mark.parametrize("field", ["u", "near"])
@pytest.mark.parametrize("per_mille", [1, 10, 50, 100, 300, 500, 700, 900, 1000])
def test_recall_holds_at_every_selectivity(snapshot: Snapshot, field: str, per_mille: int, ef_search: int) -> None:
    where: Filter = parse({"field": field, "range": {"gte": 1000 - per_mille}})
    vectors = generated(QUERIES, seed=4)
    queries = [SearchQuery(vector, filter=where, ef_search=ef_search) for vector in vectors]
    assert singles(snapshot, queries) >= 0.95
    assert recall(snapshot, queries) >= 0.95


def test_recall_holds_without_a_filter(snapshot: Snapshot) -> None:
    assert singles(snapshot, [SearchQuery(vector) for vector in generated(QUERIES, seed=5)]) >= 0.99


@pytest.mark.parametrize("target", [0.9, 0.97])
def test_a_recall_that_is_asked_for_is_given(snapshot: Snapshot, target: float) -> None:
    queries = [SearchQuery(vector, target_recall=target) for vector in generated(QUERIES, seed=6)]
    assert recall(snapshot, queries) >= target - 0.015


def test_a_recall_asked_for_decides_how_widely_a_graph_is_walked(
    snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    widths: list[int] = []
    search = GraphIndex.search

    def seen(self: GraphIndex, *args: Any, **options: Any) -> Any:
        widths.append(options["ef_search"])
        return search(self, *args, **options)

    monkeypatch.setattr(GraphIndex, "search", seen)
    vector = generated(1, seed=7)[0]
    for target in (0.5, 0.99):
        execute(snapshot, [SearchQuery(vector, target_recall=target)])
    assert 10 <= widths[0] < widths[1]
