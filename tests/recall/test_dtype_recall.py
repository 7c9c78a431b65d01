"""Recall@10 of HnswIndex by dtype, live and sealed, against FlatIndex of the same, with a floor under what was seen."""

from __future__ import annotations

import numpy as np
import pytest

from akidb import FlatIndex, HnswIndex
from bench.data import clustered

N, DIM, K = 6000, 64, 10
DATA = clustered(N, DIM, queries=150, seed=4)


def as_dtype(values: np.ndarray, dtype: str) -> np.ndarray:
    """Values spread over the dtype's range; bits that tell on which side of each of many directions a vector lies."""
    if dtype == "binary":
        directions = np.random.default_rng(5).standard_normal((DIM, 4 * DIM))
        return (values - DATA.base.mean(axis=0)) @ directions > 0
    scale = 120 / np.abs(DATA.base).max()
    if dtype == "int8":
        return np.clip(np.rint(values * scale), -128, 127).astype(np.int8)
    if dtype == "uint8":
        return np.clip(np.rint(values * scale + 128), 0, 255).astype(np.uint8)
    return values


@pytest.mark.parametrize(
    ("dtype", "metric"),
    [
        ("float16", "cosine"),
        ("bfloat16", "l2"),
        ("int8", "l2"),
        ("int8", "cosine"),
        ("uint8", "l2"),
        ("binary", "hamming"),
    ],
)
def test_recall_of_every_dtype(dtype: str, metric: str) -> None:
    base, queries = as_dtype(DATA.base, dtype), as_dtype(DATA.queries, dtype)
    dim = base.shape[1]
    flat, index = FlatIndex(dim, metric, dtype=dtype), HnswIndex(dim, metric, 16, 100, dtype=dtype)
    flat.add(base)
    index.add(base)
    farthest = flat.search(queries, K).distances[:, -1:]  # of many at the same distance any will do
    for searched in (index, index.seal()):
        assert (searched.search(queries, K, ef_search=100).distances <= farthest).mean() >= 0.97
