"""Snapshots are the same calls in this process, on a server, and without `await`."""

from __future__ import annotations

import numpy as np
import pytest

import akidb
from akidb.config import Settings
from akidb.errors import ConflictError, InvalidInputError, NotFoundError, ReadOnlyError

OLD, NEW = np.eye(3, dtype=np.float32), np.full((3, 3), 7, np.float32)


@pytest.mark.parametrize("shards", [1, 2])
def test_a_snapshot_is_read_and_reverted_to(place: tuple[str, Settings | None], shards: int) -> None:
    where, settings = place
    with akidb.connect(where, settings=settings) as database:
        points = database.create_collection("points", 3, metric="euclidean", shard_count=shards)
        points.upsert(["a", "b", "c"], OLD)
        made = points.create_snapshot("first")
        assert (made.name, made.lsn, made.points, made.complete) == ("first", 1, 3, True)
        assert points.list_snapshots() == [made]
        points.upsert(["a", "b", "d"], NEW)
        assert points.search(OLD[0], 9, as_of="first", exact=True)[0].id == "a"
        assert len(points.search(id="a", top_k=9, as_of="first")) == 2
        assert [len(found) for found in points.search_batch(OLD, 9, as_of="first")] == [3, 3, 3]
        assert (points.count(as_of="first"), points.count()) == (3, 4)
        assert [point.id for point in points.scroll(as_of="first")] == ["a", "b", "c"]
        kept, missing = points.get(["a", "d"], as_of="first")
        assert missing is None
        assert kept is not None
        np.testing.assert_array_equal(kept.vector, OLD[0])
        done = points.revert("first", idempotency_key="k")
        assert points.revert("first", idempotency_key="k") == done
        assert (done.lsn, points.count(), points.count(as_of=done.before)) == (3, 3, 4)
        assert points.count(consistency={"session": points.token}) == 3
        points.drop_snapshot("first")
        assert [made.name for made in points.list_snapshots()] == [done.before]


def test_what_can_not_be_is_refused(place: tuple[str, Settings | None]) -> None:
    where, settings = place
    with akidb.connect(where, settings=settings) as database:
        points = database.create_collection("points", 3)
        points.create_snapshot("first")
        for name, call in (("", points.create_snapshot), ("a/b", points.create_snapshot)):
            with pytest.raises(InvalidInputError) as refused:
                call(name)
            assert refused.value.code == "invalid_snapshot"
        with pytest.raises(ConflictError):
            points.create_snapshot("first")
        for call in (points.drop_snapshot, points.revert, lambda name: points.count(as_of=name)):
            with pytest.raises(NotFoundError) as missing:
                call("none")
            assert missing.value.code == "snapshot_not_found"
        with pytest.raises(InvalidInputError):
            points.count(as_of=3)  # type: ignore[arg-type]
        if where == ":memory:":
            return
        with akidb.connect(where, settings=settings, read_only=True) as reader:
            held = reader.collection("points")
            assert (held.count(as_of="first"), len(held.list_snapshots())) == (0, 1)
            with pytest.raises(ReadOnlyError):
                held.create_snapshot("second")
            with pytest.raises(ReadOnlyError):
                held.revert("first")
