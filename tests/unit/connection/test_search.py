"""What a search is asked and what it refuses, over every kind of place."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import akidb
from akidb.config import Settings
from akidb.errors import InvalidInputError

DIM = 4


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"topk": 3}, "topk: is no option of a search, expected filter, ef_search.* timeout_ms, consistency, as_of$"),
        ({"exact": "yes"}, "exact: is 'yes', expected True or False"),
        ({"ef_search": 1.5}, "ef_search: is 1.5, expected an integer"),
        ({"score_threshold": "x"}, "score_threshold: is 'x', expected a number"),
        ({"timeout_ms": "1"}, "timeout_ms: is '1', expected a number of milliseconds"),
        ({"filter": 7}, "filter: is"),
    ],
)
def test_wrong_options_are_named_everywhere(
    place: tuple[str, Settings | None], options: dict[str, object], says: str
) -> None:
    where, settings = place
    with akidb.connect(where, settings=settings) as database:
        collection = database.create_collection("c", DIM)
        for search in (
            lambda: collection.search(np.ones(DIM), **options),
            lambda: collection.search_batch(np.ones((1, DIM)), **options),
        ):
            with pytest.raises(InvalidInputError, match=says):
                search()
        for index in ({"M": 3}, "hnsw", {"m": "16"}):
            with pytest.raises(InvalidInputError, match="index"):
                database.create_collection("d", DIM, index=index)


async def test_a_single_search_names_what_was_passed(place: tuple[str, Settings | None]) -> None:
    where, settings = place
    wrong: list[tuple[list[float], dict[str, Any], str]] = [
        ([1.0, 2.0], {}, "vector"),
        ([1.0, np.nan, 0.0, 0.0], {}, "vector"),
        ([1.0] * DIM, {"top_k": 0}, "top_k"),
        ([1.0] * DIM, {"target_recall": 2.0}, "target_recall"),
    ]
    async with await akidb.connect_async(where, settings=settings) as database:
        collection = await database.create_collection("c", DIM)
        for vector, options, name in wrong:
            with pytest.raises(InvalidInputError, match=rf"^{name}\b") as refused:
                await collection.search(vector, **options)
            assert [fault.loc[0] for fault in refused.value.faults] in ([name], [])  # nothing of it was sent: no places
            with pytest.raises(InvalidInputError, match=r"^(queries\.0\.|vectors\b)"):
                await collection.search_batch([vector], **options)
    with akidb.connect(where, settings=settings) as again:
        blocking = again.get_or_create_collection("c", DIM)
        for vector, options, name in wrong:
            with pytest.raises(InvalidInputError, match=rf"^{name}\b"):
                blocking.search(vector, **options)


def test_exact_compares_all_whatever_recall_is_asked(place: tuple[str, Settings | None]) -> None:
    where, settings = place
    data = np.random.default_rng(5).standard_normal((50, DIM)).astype(np.float32)
    with akidb.connect(where, settings=settings) as database:
        collection = database.create_collection("c", DIM)
        collection.upsert(list(range(50)), data)
        exact = [hit.id for hit in collection.search(data[0], 20, exact=True)]
        assert [hit.id for hit in collection.search(data[0], 20, exact=True, target_recall=0.01)] == exact
        assert [hit.id for hit in collection.search(data[0], 20, exact=True, ef_search=1)] == exact
