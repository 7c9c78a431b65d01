"""Masks and bitmaps say the same, whichever containers roaring chose."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from pyroaring import BitMap

from akidb.filter import from_mask, from_rows, to_mask

Mask = npt.NDArray[np.bool_]


def masks() -> dict[str, Mask]:
    rng = np.random.default_rng(11)
    edges = np.zeros(3 * 65_536 + 7, np.bool_)
    edges[[0, 65_535, 65_536, 2 * 65_536, 3 * 65_536 + 6]] = True
    runs = np.zeros(400_000, np.bool_)
    for start in range(0, 400_000, 1_000):
        runs[start : start + 613] = True
    few = np.zeros(70_000, np.bool_)
    few[:4_096] = True
    many = np.zeros(70_000, np.bool_)
    many[:4_097] = True
    return {
        "empty": np.zeros(100, np.bool_),
        "no rows": np.zeros(0, np.bool_),
        "all": np.ones(200_000, np.bool_),
        "sparse": rng.random(300_000) < 0.001,
        "dense": rng.random(300_000) < 0.4,
        "edges": edges,
        "runs": runs,
        "many runs": np.arange(200_000) % 100 < 50,
        "array at its limit": few,
        "bitset at its limit": many,
    }


@pytest.mark.parametrize("name", masks())
def test_masks_come_back(name: str) -> None:
    mask = masks()[name]
    bitmap = from_mask(mask)
    assert bitmap == BitMap(np.flatnonzero(mask).tolist())
    for optimized in (False, True):
        if optimized:
            bitmap.run_optimize()
        assert np.array_equal(to_mask(bitmap, len(mask)), mask)


@pytest.mark.parametrize("n", [0, 1, 100, 65_536, 65_537, 200_000, 400_000])
@pytest.mark.parametrize("optimized", [False, True])
def test_to_mask_cuts_off_and_fills_up(n: int, optimized: bool) -> None:
    mask = masks()["runs"][:250_000]
    bitmap = from_mask(mask)
    if optimized:
        bitmap.run_optimize()
    expected = np.zeros(n, np.bool_)
    expected[: len(mask)] = mask[:n]
    found = to_mask(bitmap, n)
    assert found.dtype == np.bool_
    assert found.flags.c_contiguous
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("count", [0, 1, 50, 5_000, 90_000])
def test_from_rows_takes_any_order_and_repeats(count: int) -> None:
    rows = np.random.default_rng(3).integers(0, 100_000, count).astype(np.uint32)
    assert from_rows(rows, 100_000) == BitMap(rows.tolist())
