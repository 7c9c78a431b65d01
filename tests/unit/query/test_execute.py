"""Searches: what they show, how they run side by side, and when they stop."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest

from akidb.errors import DeadlineExceededError
from akidb.filter import parse
from akidb.query import Part, SearchQuery, Snapshot, execute
from akidb.query.execute import run
from akidb.segment import MemTable
from akidb.types import CollectionSpec, Metric
from tests.unit.query.conftest import Shard


def spread(shard: Shard, parts: int, rows: int, *, graph: bool = False) -> Shard:
    """`parts` segments of `rows` points each and a memtable of as many."""
    rng = np.random.default_rng(11)
    for at in range(parts + 1):
        ids = [f"{at}-{i}" for i in range(rows)]
        payloads = [b'{"even":%s}' % (b"true" if i % 2 == 0 else b"false") for i in range(rows)]
        shard.upsert(ids, rng.normal(size=(rows, shard.spec.dim)).astype(np.float32), payloads)
        if at < parts:
            shard.fold(graph=graph)
    return shard


def nearest(shard: Shard, vector: np.ndarray[tuple[int], np.dtype[np.float32]], k: int) -> list[str]:
    ids = list(shard.truth)
    vectors = np.array([shard.truth[id_][0] for id_ in ids])
    return [ids[i] for i in np.argsort(((vectors - vector) ** 2).sum(axis=1))[:k]]


@pytest.mark.parametrize("max_parallel", [1, 2, 7])
def test_a_batch_over_many_parts_equals_one_sort(shard: Callable[..., Shard], max_parallel: int) -> None:
    made = spread(shard(16, Metric.EUCLIDEAN), 5, 400)
    vectors = np.random.default_rng(2).normal(size=(60, 16)).astype(np.float32)
    queries = [SearchQuery(vector, top_k=3 + i % 4) for i, vector in enumerate(vectors)]
    answers = execute(made.snapshot(), queries, max_parallel=max_parallel)
    for query, answer in zip(queries, answers, strict=True):
        assert [hit.id for hit in answer] == nearest(made, query.vector, query.top_k)
        assert [hit.score for hit in answer] == sorted(hit.score for hit in answer)


def test_answers_show_what_each_query_asks_for(shard: Callable[..., Shard]) -> None:
    made = spread(shard(4), 1, 20)
    vector = np.ones(4, np.float32)
    bare, whole = execute(
        made.snapshot(), [SearchQuery(vector, with_payload=False), SearchQuery(vector, with_vector=True)]
    )
    assert [hit.id for hit in bare] == [hit.id for hit in whole]
    assert all(hit.payload_json is None and hit.vector is None for hit in bare)
    for hit in whole:
        np.testing.assert_array_equal(hit.vector, made.truth[hit.id][0])
        assert hit.payload_json == made.truth[hit.id][1]
        assert type(hit.score) is float


@pytest.mark.parametrize("metric", Metric)
def test_score_threshold_drops_the_worse(shard: Callable[..., Shard], metric: Metric) -> None:
    made = spread(shard(4, metric), 2, 30)
    query = SearchQuery(np.ones(4, np.float32), top_k=40)
    (everything,) = execute(made.snapshot(), [query])
    threshold = everything[17].score
    (kept,) = execute(made.snapshot(), [SearchQuery(np.ones(4, np.float32), top_k=40, score_threshold=threshold)])
    assert [hit.id for hit in kept] == [hit.id for hit in everything[:18]]


def test_fewer_matches_than_top_k_give_fewer_answers(shard: Callable[..., Shard]) -> None:
    made = spread(shard(4), 2, 10)
    vector = np.ones(4, np.float32)
    even, none, every = execute(
        made.snapshot(),
        [
            SearchQuery(vector, top_k=99, filter=parse({"field": "even", "match": True})),
            SearchQuery(vector, filter=parse({"field": "even", "match": "true"})),
            SearchQuery(vector, top_k=99),
        ],
    )
    assert (len(even), len(none), len(every)) == (15, 0, 30)
    assert execute(made.snapshot(), []) == []
    assert execute(Snapshot((), (0,), made.spec), [SearchQuery(vector)]) == [[]]


def test_deadline_in_the_past_is_an_error(shard: Callable[..., Shard]) -> None:
    made = spread(shard(4), 1, 10)
    query = SearchQuery(np.ones(4, np.float32))
    with pytest.raises(DeadlineExceededError):
        execute(made.snapshot(), [query], deadline=time.monotonic() - 1)
    assert len(execute(made.snapshot(), [query], deadline=time.monotonic() + 60)[0]) == 10


def test_equal_scores_come_in_id_order_from_all_parts(shard: Callable[..., Shard]) -> None:
    made = shard(2)
    for id_ in ["c", "a", "e", "b", "d"]:
        made.upsert([id_], np.ones((1, 2), np.float32), [None])
        if id_ != "d":
            made.fold()
    (answer,) = execute(made.snapshot(), [SearchQuery(np.ones(2, np.float32), top_k=4)])
    assert [hit.id for hit in answer] == ["a", "b", "c", "d"]


def test_run_gives_results_in_order_on_at_most_so_many_threads() -> None:
    busy, most, lock = 0, 0, threading.Lock()
    gate = threading.Barrier(2, timeout=30)

    def job(i: int) -> int:
        nonlocal busy, most
        with lock:
            busy, most = busy + 1, max(most, busy + 1)
        if i < 2:
            gate.wait()  # only passed when two jobs are at work at once
        with lock:
            busy -= 1
        return i

    assert run([partial(job, i) for i in range(40)], 2) == list(range(40))
    assert most == 2


def test_run_raises_the_first_error_and_starts_no_more() -> None:
    started: list[int] = []

    def job(i: int) -> int:
        started.append(i)
        if i == 3:
            raise DeadlineExceededError("time ran out")
        return i

    for workers in (1, 2):
        started.clear()
        with pytest.raises(DeadlineExceededError):
            run([partial(job, i) for i in range(10_000)], workers)
        assert len(started) < 10_000


def test_run_ends_while_the_pool_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = ThreadPoolExecutor(1)
    release = threading.Event()
    try:
        pool.submit(release.wait)
        monkeypatch.setattr(sys.modules[run.__module__], "_pool", lambda: pool)
        assert run([partial(pow, i, 2) for i in range(9)], 8) == [i * i for i in range(9)]
    finally:
        release.set()
        pool.shutdown()


def test_searches_agree_with_their_snapshot_while_the_memtable_grows() -> None:
    """Slot n writes one point at coordinate n: a snapshot after slot n holds 0 to n, and the nearest to n + 9 is n."""
    spec = CollectionSpec("points", 1, Metric.EUCLIDEAN)
    table = MemTable(spec)
    snapshots: list[Snapshot] = []
    done = threading.Event()
    failures: list[str] = []

    def search() -> None:
        rng = np.random.default_rng(threading.get_ident() % 1000)
        while not done.is_set() or not snapshots:
            if not snapshots:
                continue
            snapshot = snapshots[int(rng.integers(len(snapshots)))]
            n = snapshot.lsn
            (answer,) = execute(snapshot, [SearchQuery(np.array([n + 9], np.float32), top_k=3)])
            if [hit.id for hit in answer] != [str(i) for i in range(n, max(n - 3, -1), -1)]:
                failures.append(f"after slot {n}: {answer}")

    readers = [threading.Thread(target=search) for _ in range(3)]
    for reader in readers:
        reader.start()
    for n in range(3000):
        table.apply_upsert([str(n)], np.array([[n]], np.float32), [b'{"n":%d}' % n], n)
        snapshots.append(Snapshot((Part(table.snapshot()),), (n,), spec))
    done.set()
    for reader in readers:
        reader.join()
    assert failures == []
