"""Whatever was written, deleted and folded in whatever order: every read equals the dict."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from akidb.filter import parse
from akidb.query import SearchQuery, Snapshot, count, execute, fetch, matching_ids, scroll
from akidb.types import CollectionSpec, Metric
from tests.unit.query.conftest import Shard

NAMES = [*"abcdefgh", "ä", "€", "𝄞"]
FILTER = {"must": [{"field": "n", "range": {"gte": 2}}], "must_not": [{"field": "tag", "match": "x"}]}

ids = st.lists(st.sampled_from(NAMES), min_size=1, max_size=5)
coordinate = st.integers(-3, 3)
payload = st.none() | st.builds(
    lambda n, tag: json.dumps({"n": n, "tag": tag}).encode(), st.integers(0, 4), st.sampled_from("xyz")
)
point = st.tuples(st.sampled_from(NAMES), st.tuples(coordinate, coordinate), payload)
step = st.one_of(
    st.tuples(st.just("upsert"), st.lists(point, min_size=1, max_size=6)),
    st.tuples(st.just("delete"), ids),
    st.tuples(st.just("fold"), st.integers(0, 3)),
)


def passes(text: bytes | None) -> bool:
    fields = json.loads(text or b"{}")
    return bool(fields.get("n", -1) >= 2 and fields.get("tag") != "x")


def distance(metric: Metric, a: Any, b: Any) -> float:
    if metric is Metric.EUCLIDEAN:
        return float(np.sum((a - b) ** 2))
    if metric is Metric.DOT:
        return float(-np.dot(a, b))
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    return 1.0 - (float(np.dot(a, b)) / norms if norms else 0.0)


def check_search(shard: Shard, snapshot: Snapshot, query: SearchQuery) -> None:
    """Scores are the best there are; ids are right wherever a tie at the last place leaves no choice."""
    metric = shard.spec.metric
    wanted = sorted(
        (round(distance(metric, query.vector, vector), 5), id_)
        for id_, (vector, text) in shard.truth.items()
        if query.filter is None or passes(text)
    )
    (answer,) = execute(snapshot, [query])
    found = [(round(distance(metric, query.vector, shard.truth[hit.id][0]), 5), hit.id) for hit in answer]
    assert len({hit.id for hit in answer}) == len(answer)
    assert [d for d, _ in found] == [d for d, _ in wanted[: query.top_k]]
    last = found[-1][0] if found else 0.0
    assert sorted(pair for pair in found if pair[0] < last) == [pair for pair in wanted if pair[0] < last][: len(found)]
    assert set(found) <= set(wanted)
    for hit in answer:
        vector, text = shard.truth[hit.id]
        assert hit.payload_json == text
        score = distance(metric, query.vector, vector)
        expected = score**0.5 if metric is Metric.EUCLIDEAN else -score if metric is Metric.DOT else 1 - score
        assert abs(hit.score - expected) < 1e-5


@settings(max_examples=80, deadline=None)
@given(st.lists(step, max_size=12), st.sampled_from(Metric), st.integers(1, 12))
def test_every_read_equals_the_dict(steps: list[tuple[str, Any]], metric: Metric, top_k: int) -> None:
    with TemporaryDirectory() as folder:
        shard = Shard(CollectionSpec("points", 2, metric), Path(folder))
        for kind, argument in steps:
            if kind == "upsert":
                vectors = np.array([vector for _, vector, _ in argument], np.float32)
                shard.upsert([id_ for id_, _, _ in argument], vectors, [text for _, _, text in argument])
            elif kind == "delete":
                shard.delete(argument)
            else:
                shard.fold(min(argument, len(shard.segments)))
        snapshot, truth, where = shard.snapshot(), shard.truth, parse(FILTER)
        matching = sorted(id_ for id_, (_, text) in truth.items() if passes(text))
        assert snapshot.live_rows == count(snapshot) == len(truth)
        assert count(snapshot, where) == len(matching)
        assert sorted(matching_ids(snapshot)) == sorted(truth)
        assert sorted(matching_ids(snapshot, where)) == matching
        for name, found in zip([*NAMES, "?"], fetch(snapshot, [*NAMES, "?"]), strict=True):
            assert (found is None) == (name not in truth)
            if found is not None:
                assert found.id == name
                assert found.payload_json == truth[name][1]
                np.testing.assert_array_equal(found.vector, truth[name][0])
        for filter_, expected in ((None, sorted(truth)), (where, matching)):
            paged: list[str] = []
            while page := scroll(snapshot, after=paged[-1] if paged else None, limit=3, filter=filter_):
                paged += [found.id for found in page]
            assert paged == expected
            for exact in (False, True):
                vector = np.array([1.5, -0.25], np.float32)
                check_search(shard, snapshot, SearchQuery(vector, top_k=top_k, filter=filter_, exact=exact))
