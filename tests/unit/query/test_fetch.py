"""Reads by id and in id order: what is shown, and where pages end."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from akidb.query import Snapshot, count, fetch, matching_ids, scroll
from tests.unit.query.conftest import Shard


def filled(shard: Shard, rows: int) -> Shard:
    """Half of the points in a segment, half in the memtable, ids interleaved."""
    ids = [f"{i:04d}" for i in range(rows)]
    vectors = np.random.default_rng(3).normal(size=(rows, shard.spec.dim)).astype(np.float32)
    payloads = [b'{"i":%d}' % i for i in range(rows)]
    shard.upsert(ids[::2], vectors[::2], payloads[::2])
    shard.fold()
    shard.upsert(ids[1::2], vectors[1::2], payloads[1::2])
    return shard


def test_fetch_keeps_order_and_repeats(shard: Callable[..., Shard]) -> None:
    snapshot = filled(shard(), 10).snapshot()
    found = fetch(snapshot, ["0007", "none", "0002", "0007"])
    assert [None if point is None else point.id for point in found] == ["0007", None, "0002", "0007"]
    assert fetch(snapshot, []) == []


def test_fetch_shows_what_is_asked_for(shard: Callable[..., Shard]) -> None:
    made = filled(shard(), 10)
    for id_ in ("0002", "0003"):
        (whole,) = fetch(made.snapshot(), [id_])
        (bare,) = fetch(made.snapshot(), [id_], with_vector=False, with_payload=False)
        assert whole is not None
        assert bare is not None
        np.testing.assert_array_equal(whole.vector, made.truth[id_][0])
        assert whole.payload == {"i": int(id_)}
        assert (bare.vector, bare.payload_json) == (None, None)


def test_scroll_pages_across_parts(shard: Callable[..., Shard]) -> None:
    made = filled(shard(), 25)
    made.delete(["0003", "0004"])
    snapshot = made.snapshot()
    assert [point.id for point in scroll(snapshot, limit=5)] == ["0000", "0001", "0002", "0005", "0006"]
    assert [point.id for point in scroll(snapshot, after="0003", limit=2)] == ["0005", "0006"]
    assert [point.id for point in scroll(snapshot, after="0022x", limit=9)] == ["0023", "0024"]
    assert scroll(snapshot, after="0024") == []
    (point,) = scroll(snapshot, after="0010", limit=1, with_vector=True)
    np.testing.assert_array_equal(point.vector, made.truth["0011"][0])


def test_a_snapshot_does_not_see_later_writes(shard: Callable[..., Shard]) -> None:
    made = filled(shard(), 20)
    snapshot = made.snapshot()
    made.delete([f"{i:04d}" for i in range(20)])
    made.upsert(["new"], np.ones((1, 4), np.float32), [None])
    assert count(snapshot) == 20
    assert fetch(snapshot, ["new"]) == [None]
    assert sorted(matching_ids(made.snapshot())) == ["new"]


def test_an_empty_snapshot_answers(shard: Callable[..., Shard]) -> None:
    snapshot = Snapshot((), (0,), shard().spec)
    assert (count(snapshot), scroll(snapshot), matching_ids(snapshot), fetch(snapshot, ["a"])) == (0, [], [], [None])
