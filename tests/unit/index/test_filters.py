"""A filter means the same in whichever form it is given: what the others find is held against the mask of their ids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from akidb import FlatIndex, HnswIndex
from bench.data import clustered

N, DIM = 3000, 24
DATA = clustered(N, DIM, queries=20, seed=3)
IDS = np.random.default_rng(2).permutation(2 * N)[:N]  # with gaps, in no order
DTYPES = [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64, ">i4", ">u8"]
SHARES = [1.0, 0.9, 0.5, 0.1, 0.01]
Ids = npt.NDArray[np.int64]


@pytest.fixture(scope="module", params=["flat", "growing", "sealed", "sealed by codes", "view"])
def index(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    made: Any = FlatIndex(DIM, "l2") if request.param == "flat" else HnswIndex(DIM, "l2", m=8, ef_construction=60)
    made.add(IDS, DATA.base)
    if request.param.startswith("sealed"):
        return made.seal(4 if request.param.endswith("codes") else 0)
    if request.param == "view":
        path: Path = tmp_path_factory.mktemp("view") / "index"
        made.seal(8).save(path)
        return HnswIndex.view(path)
    return made


def check(index: Any, ids: Ids, form: Any) -> None:
    mask = np.isin(np.arange(2 * N), ids)
    expected, found = index.search(DATA.queries, 10, filter=mask), index.search(DATA.queries, 10, filter=form)
    assert np.isin(found.ids[found.ids >= 0], ids).all()
    assert (found.ids >= 0).sum(axis=1).tolist() == [min(10, len(ids))] * len(DATA.queries)
    np.testing.assert_array_equal(found.ids, expected.ids)
    np.testing.assert_array_equal(found.distances, expected.distances)


@pytest.mark.parametrize("share", SHARES)
def test_ids_in_any_order_and_named_again(index: Any, share: float) -> None:
    rng = np.random.default_rng(5)
    ids = rng.choice(IDS, round(N * share), replace=False)
    for form in (ids, np.sort(ids), np.sort(ids)[::-1], np.repeat(ids, 2), rng.permutation(np.repeat(ids, 3))):
        check(index, ids, form)


@pytest.mark.parametrize("form", [list, tuple, np.ndarray.tolist, lambda ids: np.repeat(ids, 2)[::2]])
def test_ids_in_any_sequence(index: Any, form: Any) -> None:
    ids = np.random.default_rng(6).choice(IDS, N // 2, replace=False)
    check(index, ids, form(ids))


@pytest.mark.parametrize("dtype", DTYPES)
def test_ids_of_any_dtype(index: Any, dtype: Any) -> None:
    ids = np.random.default_rng(7).permutation(IDS[np.iinfo(dtype).max >= IDS])
    check(index, ids, ids.astype(dtype))


@pytest.mark.parametrize("share", SHARES)
def test_a_mask_that_reaches_beyond_the_ids(index: Any, share: float) -> None:
    ids = np.random.default_rng(8).choice(IDS, round(N * share), replace=False)
    check(index, ids, np.isin(np.arange(3 * N), ids))
