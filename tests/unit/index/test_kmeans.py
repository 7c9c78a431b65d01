"""Clusters hold every row once, are near and bounded, and do not depend on how sums are added up."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from akidb.index import Grid, chained, clusters
from akidb.index.kmeans import assign, kmeans


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 400), st.integers(1, 40), st.integers(1, 30), st.integers(1, 5), st.integers(0, 9))
def test_every_row_is_in_one_cluster_of_bounded_size(count: int, dim: int, wanted: int, values: int, seed: int) -> None:
    vectors = np.random.default_rng(seed).integers(0, values, (count, dim)).astype(np.float32)
    found = list(clusters(count, vectors.__getitem__, Grid.over(vectors), rows_per_cluster=wanted))
    assert np.array_equal(np.sort(np.concatenate([rows for rows, _ in found])), np.arange(count))
    assert max(len(rows) for rows, _ in found) <= 2 * wanted
    assert all((np.diff(rows) > 0).all() for rows, _ in found)


def test_clusters_are_those_that_were_drawn() -> None:
    rng = np.random.default_rng(3)
    drawn = rng.integers(0, 20, 2000)
    vectors = (rng.normal(size=(20, 32))[drawn] * 10 + rng.normal(size=(2000, 32)) * 0.1).astype(np.float32)
    found = list(clusters(2000, vectors.__getitem__, Grid.over(vectors), rows_per_cluster=100))
    pure = sum(np.bincount(drawn[rows]).max() for rows, _ in found)
    assert pure >= 0.95 * 2000


@pytest.mark.parametrize("dim", [1, 3, 384, 4096])
def test_the_largest_numbers_are_compared_exactly(dim: int) -> None:
    grid = Grid.over(np.full((1, dim), 7, np.float32))
    points = grid.numbers(np.full((2, dim), 1000, np.float32))
    centres = points.copy()
    centres[0, 0] -= 1  # by one less in one of 4,096 dimensions, and before the other in order
    assert assign(points, centres).tolist() == [1, 1]


def test_centres_do_not_depend_on_the_order_of_adding() -> None:
    vectors = np.random.default_rng(4).normal(size=(500, 24)).astype(np.float32)
    points = Grid.over(vectors).numbers(vectors)
    turned = points[:, ::-1].copy()  # a product of rows adds these the other way round
    there = kmeans(points, 8, np.random.Generator(np.random.PCG64(1)))
    back = kmeans(turned, 8, np.random.Generator(np.random.PCG64(1)))
    assert np.array_equal(there, back[:, ::-1])
    assert np.array_equal(there, np.rint(there))


def test_an_outlier_does_not_spoil_the_grid() -> None:
    vectors = np.random.default_rng(5).normal(size=(3000, 4)).astype(np.float32)
    vectors[0] = 1e6
    numbers = Grid.over(vectors).numbers(vectors)
    assert np.abs(numbers).max() <= 127
    assert np.unique(numbers[1:, 0]).size > 50


@pytest.mark.parametrize("count", [1, 2, 60])
def test_each_centre_is_followed_by_the_nearest_of_those_that_are_left(count: int) -> None:
    centres = np.random.default_rng(6).integers(-9, 10, (count, 8)).astype(np.float32)
    order = chained(centres).tolist()
    assert sorted(order) == list(range(count))
    for at, (before, after) in enumerate(itertools.pairwise(order)):
        lengths = np.square(centres[order[at + 1 :]] - centres[before]).sum(axis=1)
        assert np.square(centres[after] - centres[before]).sum() == lengths.min()
