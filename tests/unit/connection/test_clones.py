"""Clones are the same calls in this process, on a server, and without `await`; they are there after a restart."""

from __future__ import annotations

import numpy as np
import pytest

import akidb
from akidb.config import Settings
from akidb.errors import ConflictError, InvalidInputError, NotFoundError, ReadOnlyError

OLD, NEW = np.eye(3, dtype=np.float32), np.full((3, 3), 7, np.float32)


def test_a_clone_is_made_and_goes_its_own_way(place: tuple[str, Settings | None]) -> None:
    where, settings = place
    with akidb.connect(where, settings=settings) as database:
        points = database.create_collection("points", 3, metric="euclidean", index={"m": 8})
        points.upsert(["a", "b", "c"], OLD)
        points.create_snapshot("first")
        points.upsert(["a", "b", "d"], NEW)
        now = database.clone_collection("points", "now", idempotency_key="k")
        then = database.clone_collection("points", "then", as_of="first")
        assert database.clone_collection("points", "now", idempotency_key="k").name == "now"
        assert (now.count(), then.count()) == (4, 3)
        assert (then.dim, then.metric, then.info().spec.index.m) == (3, akidb.Metric.EUCLIDEAN, 8)
        now.delete(["a"])
        then.upsert(["a"], NEW[:1])
        database.drop_collection("points")
        assert (now.count(), then.count()) == (3, 3)
        assert then.search(NEW[0], 1)[0].id == "a"
    if where == ":memory:":
        return
    with akidb.connect(where, settings=settings) as database:
        assert database.list_collections() == ["now", "then"]
        points = database.collection("then")
        assert [point.vector.tolist() for point in points.get(["a", "b"]) if point is not None] == [
            NEW[0].tolist(), OLD[1].tolist(),
        ]  # fmt: skip


def test_what_can_not_be_is_refused(place: tuple[str, Settings | None]) -> None:
    where, settings = place
    with akidb.connect(where, settings=settings) as database:
        database.create_collection("points", 3)
        with pytest.raises(ConflictError):
            database.clone_collection("points", "points")
        with pytest.raises(NotFoundError):
            database.clone_collection("none", "trial")
        with pytest.raises(NotFoundError):
            database.clone_collection("points", "trial", as_of="none")
        for name, as_of in (("a/b", None), ("trial", 3)):
            with pytest.raises(InvalidInputError):
                database.clone_collection("points", name, as_of=as_of)  # type: ignore[arg-type]
        assert database.list_collections() == ["points"]
        if where == ":memory:":
            return
        with akidb.connect(where, settings=settings, read_only=True) as reader, pytest.raises(ReadOnlyError):
            reader.clone_collection("points", "trial")
