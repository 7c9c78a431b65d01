"""A name that another node dropped and made again: the first request, whatever it is, meets the new collection."""

from typing import Any

import numpy as np
import pytest

from akidb.database import Database
from akidb.types import CollectionSpec
from tests.api.conftest import Client, settings


@pytest.fixture
async def elsewhere(filled: Client):
    """Another node over the store of `filled`."""
    assert filled.service.database is not None
    node = await Database.open(filled.service.database._store, settings())
    yield node
    await node.close()


async def made_again(elsewhere: Database) -> None:
    await elsewhere.drop_collection("compass")
    collection = await elsewhere.create_collection(CollectionSpec("compass", 3))
    await collection.upsert(["up"], np.float32([[0, 0, 1]]), [{"new": True}])


@pytest.mark.parametrize(
    ("method", "path", "body", "holds"),
    [
        ("GET", "", None, {"vector_dim": 3, "vector_count": 1}),
        ("POST", "/vectors", {"vectors": [{"id": "x", "vector": [1, 0, 0]}]}, {"upserted": 1}),
        ("POST", "/vectors/get", {"ids": ["up"]}, {"count": 1}),
        ("POST", "/vectors/delete", {"ids": ["up"]}, {"collection": "compass"}),
        ("POST", "/vectors/delete", {"filter": {"field": "new", "match": True}}, {"deleted": 1}),
        ("GET", "/vectors/up", None, {"id": "up"}),
        ("PATCH", "/vectors/up", {"payload": {"new": False}}, {"collection": "compass"}),
        ("POST", "/count", {}, {"count": 1}),
        ("POST", "/scroll", {}, {"next": None}),
        ("POST", "/search", {"vector": [0, 1, 1]}, {"count": 1}),
        ("POST", "/search", {"id": "up"}, {"count": 0}),
        ("POST", "/batch-search", {"queries": [{"vector": [0, 1, 1]}]}, {"collection": "compass"}),
    ],
    ids=str,
)
async def test_the_first_request_is_answered_by_the_new_collection(
    filled: Client, elsewhere: Database, method: str, path: str, body: Any, holds: dict[str, Any]
) -> None:
    await made_again(elsewhere)
    answer = await filled.call(method, f"/collections/compass{path}", body)
    assert answer.status == 200, answer.body
    assert answer.body | holds == answer.body


async def test_what_is_wrong_for_the_new_collection_is_told_by_it(filled: Client, elsewhere: Database) -> None:
    await made_again(elsewhere)
    answer = await filled.post("/collections/compass/search", {"vector": [0, 1]})
    assert (answer.status, answer.code) == (422, "dimension_mismatch")
    assert "the collection has 3" in answer.body["detail"]


async def test_a_name_that_was_only_dropped_is_not_found(filled: Client, elsewhere: Database) -> None:
    await elsewhere.drop_collection("compass")
    answer = await filled.post("/collections/compass/count", {})
    assert (answer.status, answer.code) == (404, "collection_not_found")


async def test_a_refusal_by_a_collection_that_is_there_is_told_once_and_changes_nothing(filled: Client) -> None:
    await filled.refused(
        "POST", "/collections/compass/search", {"vector": [1]}, status=422, code="dimension_mismatch", says="has 2"
    )
