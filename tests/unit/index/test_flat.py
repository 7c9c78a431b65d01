"""FlatIndex against numpy."""

from __future__ import annotations

import numpy as np
import pytest

from akidb import FlatIndex
from akidb.errors import NotFoundError
from bench.data import clustered

DATA = clustered(700, 17, queries=25, seed=3)


def exact(metric: str, base: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    base, queries = base.astype(np.float64), queries.astype(np.float64)
    dots = queries @ base.T
    if metric == "ip":
        distances = -dots
    elif metric == "l2":
        distances = (queries**2).sum(1)[:, None] + (base**2).sum(1) - 2 * dots
    else:
        distances = 1 - dots / np.linalg.norm(queries, axis=1)[:, None] / np.linalg.norm(base, axis=1)
    return np.argsort(distances, axis=1, kind="stable")[:, :k]


@pytest.mark.parametrize("metric", ["cosine", "l2", "ip"])
def test_finds_what_numpy_finds_through_adds_updates_and_removes(metric: str) -> None:
    index = FlatIndex(17, metric)
    base = DATA.base.copy()
    for start in range(0, 700, 100):
        index.add(base[start : start + 100])
    np.testing.assert_array_equal(index.search(DATA.queries, 9).ids, exact(metric, base, DATA.queries, 9))
    base[50:60] = DATA.queries[:10]
    index.update(np.arange(50, 60), base[50:60])
    np.testing.assert_array_equal(index.search(DATA.queries, 9).ids, exact(metric, base, DATA.queries, 9))
    index.remove(np.arange(0, 700, 2))
    rows = exact(metric, base[1::2], DATA.queries, 9)
    np.testing.assert_array_equal(index.search(DATA.queries, 9).ids, rows * 2 + 1)
    np.testing.assert_array_equal(index.get([51]), base[51:52])


def test_equal_distances_come_in_the_order_of_adding() -> None:
    index = FlatIndex(2, "l2")
    index.add([9, 4, 7], [[1, 0], [1, 0], [1, 0]])
    assert index.search([0, 0], 3).ids.tolist() == [9, 4, 7]


def test_a_search_by_ids_sees_the_index_as_it_was_while_others_come() -> None:
    """The map of ids is one for all tables, the later ones' rows are no places of an earlier one."""
    index = FlatIndex(2, "l2")
    index.add([3, 1], [[0.0, 0.0], [1.0, 0.0]])
    places = index._table.places
    for count in (1, 50):
        first = 100 * count
        index.add(np.arange(first, first + count), np.ones((count, 2)))
        assert first in index
        assert not places.has(first)
        with pytest.raises(NotFoundError, match=f"id {first} at position 1 does not exist"):
            places.of(np.array([1, first]))
    assert places.of(np.array([1, 3])).tolist() == [1, 0]


def test_an_add_that_was_stopped_between_its_steps_is_forgotten() -> None:
    index = FlatIndex(2, "l2")
    index.add([5], [[0.0, 0.0]])
    index._table.extended(np.array([7, 8]), np.ones((2, 2), np.float32), index._space)  # and nobody took what it gave
    assert 7 not in index
    index.add([9], [[2.0, 0.0]])
    index.add([7], [[3.0, 0.0]])
    assert index.ids.tolist() == [5, 9, 7]
    assert [id in index for id in (5, 7, 8, 9)] == [True, True, False, True]
    assert index.get([7, 9]).tolist() == [[3.0, 0.0], [2.0, 0.0]]
