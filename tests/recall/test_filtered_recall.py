"""Filters that hold: recall of a calibrated index from one in a thousand points passing to all, whatever the filter has
to do with the query.
"""

from __future__ import annotations

import numpy as np
import pytest

from akidb import FlatIndex, HnswIndex
from akidb.index import HnswView
from bench.data import clustered

N, DIM, K = 20_000, 64, 10
DATA = clustered(N, DIM, queries=30, seed=4)
TARGET = 0.95


@pytest.fixture(scope="module", params=["auto", 0])
def sealed(request: pytest.FixtureRequest) -> HnswView:
    index = HnswIndex(DIM, "l2", 16, 100)
    index.add(DATA.base)
    return index.seal(request.param)


def allowed(kind: str, share: float, query: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Ids that pass: any, those nearest to a place near the query, those farthest from it, or from the query itself."""
    count = max(1, round(N * share))
    if kind == "independent":
        return rng.choice(N, count, replace=False)
    place = query + 0.3 * np.linalg.norm(query) * rng.standard_normal(DIM) / np.sqrt(DIM)
    if kind == "without the nearest":
        place = query
    order = np.argsort(((DATA.base - place.astype(np.float32)) ** 2).sum(axis=1))
    return order[:count] if kind == "correlated" else order[N - count :]


@pytest.mark.parametrize("share", [1.0, 0.999, 0.99, 0.9, 0.5, 0.2, 0.1, 0.03, 0.01, 0.001])
@pytest.mark.parametrize("kind", ["independent", "correlated", "anti-correlated", "without the nearest"])
def test_recall_holds_at_every_share_and_correlation(sealed: HnswView, kind: str, share: float) -> None:
    rng = np.random.default_rng(6)
    hits = []
    for query in DATA.queries:
        ids = allowed(kind, share, query, rng)
        flat = FlatIndex(DIM, "l2")
        flat.add(ids, DATA.base[ids])
        truth = flat.search(query, min(K, len(ids))).ids
        found = sealed.search(query, K, target_recall=TARGET, filter=ids).ids
        assert np.isin(found[found >= 0], ids).all()
        hits.append(np.isin(truth, found).mean())
    assert np.mean(hits) >= TARGET - 0.01
