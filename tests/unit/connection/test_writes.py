"""Conditional and repeated writes through every kind of place."""

from __future__ import annotations

import numpy as np
import pytest

import akidb
from akidb.config import Settings
from akidb.errors import ConflictError, InvalidInputError

DIM = 4


def test_conditions_hold_everywhere(place: tuple[str, Settings | None]) -> None:
    where, settings = place
    with akidb.connect(where, settings=settings) as database:
        collection = database.create_collection("c", DIM, metric="l2")
        first = collection.upsert(["a", "b"], np.eye(2, DIM), if_absent=True)
        assert [point.version for point in collection.get(["a", "b"])] == [first, first]
        with pytest.raises(ConflictError) as exists:
            collection.upsert(["c", "a"], np.eye(2, DIM), if_absent=True)
        with pytest.raises(ConflictError) as differs:
            collection.upsert(["a", "b"], np.eye(2, DIM), if_version=[first, first + 1])
        assert [caught.value.code for caught in (exists, differs)] == ["point_exists", "version_mismatch"]
        assert differs.value.faults[0].loc[-2:] in [("if_version", 1), (1, "if_version")]
        second = collection.patch("a", {"n": 1}, if_version=first)
        with pytest.raises(ConflictError, match=f"has version {second}, expected version {first}"):
            collection.patch("a", {"n": 1}, if_version=first)
        with pytest.raises(ConflictError):
            collection.delete(["a", "b"], if_version=first)
        collection.upsert(["b", "c"], np.eye(2, DIM), if_version=[None, 0])
        with pytest.raises(InvalidInputError) as both:
            collection.upsert(["a"], np.eye(1, DIM), if_absent=True, if_version=1)
        assert both.value.code == "invalid_condition"
        collection.delete(["a"], if_version=second)
        assert [point.id for point in collection.scroll()] == ["b", "c"]


def test_a_request_sent_again_is_done_once_everywhere(place: tuple[str, Settings | None]) -> None:
    where, settings = place
    with akidb.connect(where, settings=settings) as database:
        collection = database.create_collection("c", DIM, metric="l2")

        def write() -> list[int]:
            return [
                collection.upsert(["a", "b", "c"], np.eye(3, DIM), [{"n": 1}, None, None], idempotency_key="1"),
                collection.patch("b", {"n": 1}, idempotency_key="2"),
                collection.delete_where({"field": "n", "match": 1}, idempotency_key="3"),
                collection.delete(["x"], idempotency_key="4"),
            ]

        first = write()
        assert first == [1, 2, 2, 4]
        collection.upsert(["a"], np.eye(1, DIM), [{"n": 1}])
        assert write() == first
        assert [point.id for point in collection.scroll()] == ["a", "c"]
        with pytest.raises(InvalidInputError) as other:
            collection.delete(["a"], idempotency_key="1")
        assert other.value.code == "idempotency_key_reused"
        with pytest.raises(InvalidInputError) as bad:
            collection.delete(["a"], idempotency_key="a b")
        assert bad.value.code == "invalid_idempotency_key"
