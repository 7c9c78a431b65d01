"""Which queries share a native call, and when a scan is the cheaper way."""

from __future__ import annotations

import numpy as np
import pytest

from akidb.errors import InvalidInputError
from akidb.filter import parse
from akidb.query.plan import SearchQuery, batches
from akidb.types import CollectionSpec, IndexParams

SPEC = CollectionSpec("points", 3, index=IndexParams(ef_search=50))


def query(value: float, **options: object) -> SearchQuery:
    return SearchQuery(np.full(3, value, np.float32), **options)  # type: ignore[arg-type]


def test_batches_group_equal_parameters() -> None:
    one, same, other = (parse({"field": "a", "match": value}) for value in (1, 1.0, 2))
    queries = [query(0), query(1, filter=one), query(2), query(3, filter=same), query(4, filter=other)]
    queries += [query(5, score_threshold=0.5), query(6, ef_search=50), query(7, exact=True), query(8, top_k=11)]
    found = batches(queries, SPEC)
    assert [batch.positions for batch in found] == [[0, 2, 5, 6], [1, 3], [4], [7], [8]]
    assert found[0].vectors[:, 0].tolist() == [0, 2, 5, 6]
    assert found[0].vectors.dtype == np.float32


def test_ef_search_is_never_below_top_k() -> None:
    assert [batches([q], SPEC)[0].ef_search for q in (query(0), query(0, top_k=80), query(0, ef_search=5))] == [
        50,
        80,
        10,
    ]


@pytest.mark.parametrize("vector", [np.ones(2), np.ones((1, 3)), np.ones(4), np.float32(1)])
def test_batches_refuse_another_shape(vector: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> None:
    with pytest.raises(InvalidInputError, match=r"queries\.1\.vector: has shape .*dimension 3") as caught:
        batches([query(0), SearchQuery(vector)], SPEC)
    assert caught.value.code == "dimension_mismatch"
    assert caught.value.faults[0].loc == ("queries", 1, "vector")


def test_batches_refuse_top_k_below_one() -> None:
    with pytest.raises(InvalidInputError, match="top_k: is 0, expected at least 1"):
        batches([query(0, top_k=0)], SPEC)
