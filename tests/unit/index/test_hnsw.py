"""What HnswIndex has beyond FlatIndex: parameters, progress, interruption, and work without the GIL."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable

import numpy as np
import pytest

from akidb import FlatIndex, HnswIndex
from akidb.errors import AkiDBError, InvalidInputError
from akidb.index import GraphIndex, build_graph
from bench.data import clustered

DATA = clustered(4000, 32, queries=50, seed=1)


def built(**parameters: int) -> HnswIndex:
    index = HnswIndex(32, "l2", **{"m": 8, "ef_construction": 50, **parameters})
    index.add(DATA.base)
    return index


def test_distances_are_those_of_exact_search() -> None:
    for metric in ("cosine", "l2", "ip"):
        index, flat = HnswIndex(32, metric, 16, 100), FlatIndex(32, metric)
        index.add(DATA.base[:300])
        flat.add(DATA.base[:300])
        found, exact = index.search(DATA.queries, 5, ef_search=300), flat.search(DATA.queries, 5)
        np.testing.assert_array_equal(found.ids, exact.ids)
        np.testing.assert_array_equal(found.distances, exact.distances)


def test_one_thread_and_a_seed_give_the_same_graph() -> None:
    first, again, other = (
        build_graph(DATA.base, "l2", m=8, ef_construction=50, threads=1, seed=seed) for seed in (3, 3, 4)
    )
    assert first == again
    assert first != other


def test_more_ef_search_finds_no_less() -> None:
    index, flat = built(), FlatIndex(32, "l2")
    flat.add(DATA.base)
    exact = flat.search(DATA.queries, 10).ids
    hits = [np.isin(index.search(DATA.queries, 10, ef_search=ef).ids, exact).sum() for ef in (10, 40, 160, 640)]
    assert hits == sorted(hits)
    assert hits[0] < hits[-1]


def test_ef_is_at_least_k_and_has_a_default() -> None:
    index = built()
    assert (index.search(DATA.queries, 100, ef_search=1).ids >= 0).all()
    index.ef_search = 7
    np.testing.assert_array_equal(index.search(DATA.queries, 5).ids, index.search(DATA.queries, 5, ef_search=7).ids)
    with pytest.raises(InvalidInputError, match="ef_search is 0"):
        index.ef_search = 0
    with pytest.raises(InvalidInputError, match="ef_search is 70000"):
        index.search(DATA.queries, ef_search=70_000)


def test_threads_do_not_change_answers() -> None:
    index = built()
    np.testing.assert_array_equal(index.search(DATA.queries, threads=1).ids, index.search(DATA.queries, threads=4).ids)


def test_get_returns_vectors_as_sent() -> None:
    index = HnswIndex(32, "cosine")
    index.add([5, 3], DATA.base[:2] * 17)
    np.testing.assert_array_equal(index.get([3, 5, 3]), (DATA.base[:2] * 17)[[1, 0, 1]])
    assert index.get(5).shape == (32,)


def test_update_replaces_and_remove_and_add_bring_back() -> None:
    index = built()
    index.update([10, 11], DATA.queries[:2])
    assert index.search(DATA.queries[0], 1).ids[0] == 10
    index.remove([10])
    assert 10 not in index.search(DATA.queries[0], 50).ids
    index.add([10], DATA.queries[:1])
    assert index.search(DATA.queries[0], 1).ids[0] == 10
    assert len(index) == 4000


def test_the_entry_point_may_be_removed_again_and_again() -> None:
    index = built()
    ids = index.ids
    for _ in range(8):
        gone = ids[: len(ids) // 2]
        index.remove(gone)
        ids = ids[len(ids) // 2 :]
        assert index.validate()["nodes"] >= len(index) == len(ids)
        assert np.isin(index.search(DATA.queries, 5).ids, ids).all()
    index.remove(ids)
    assert (index.search(DATA.queries, 5).ids == -1).all()
    index.add(DATA.base[:100])
    assert sorted(index.search(DATA.base[:100], 1).ids.ravel().tolist()) == list(range(100))


def test_progress_rises_to_the_total() -> None:
    seen: list[tuple[int, int]] = []
    index = HnswIndex(32, "l2", 16, 200)
    index.add(DATA.base, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (4000, 4000)
    assert seen == sorted(seen)


class EnoughError(Exception):
    pass


def test_what_progress_raises_stops_the_build_and_leaves_nothing() -> None:
    def stop(done: int, total: int) -> None:
        raise EnoughError

    index = HnswIndex(32, "l2", 16, 400)
    with pytest.raises(EnoughError):
        index.add(DATA.base, progress=stop)
    assert len(index) == 0
    assert index.nbytes < 1000
    assert index.validate() == {"nodes": 0, "links": 0, "unreachable": 0, "level": 0}
    assert (index.search(DATA.queries, 3).ids == -1).all()
    index.add(DATA.base[:10])
    assert len(index) == 10


def test_what_progress_raises_at_the_end_leaves_nothing() -> None:
    def stop(done: int, total: int) -> None:
        if done == total:
            raise EnoughError

    index = HnswIndex(32, "l2", 8, 50)
    with pytest.raises(EnoughError):
        index.add(DATA.base[:100], progress=stop)
    assert len(index) == 0
    index.add(DATA.base[:100])
    with pytest.raises(EnoughError):
        index.update([3], DATA.base[200:201], progress=stop)
    np.testing.assert_array_equal(index.get(3), DATA.base[3])
    assert index.search(DATA.base[3], 1).ids[0] == 3


def test_updates_keep_neither_old_vectors_nor_room_for_more() -> None:
    index = HnswIndex(32, "l2", 8, 50)
    index.add(DATA.base[:1000])
    size = index.nbytes
    for first in range(0, 3000, 500):
        for ids in (np.arange(1000), np.arange(200), np.arange(7)):
            index.update(ids, DATA.base[first : first + len(ids)])
            assert index.validate()["nodes"] <= 1000 * 4 // 3
    assert index.nbytes <= 2.5 * size
    np.testing.assert_array_equal(index.get(np.arange(7)), DATA.base[2500:2507])
    assert (index.search(DATA.base[2700:3500], 1).ids.ravel() == np.arange(200, 1000)).mean() > 0.99


def test_ctrl_c_stops_a_build() -> None:
    index = HnswIndex(32, "l2", 32, 1000)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    previous = signal.signal(signal.SIGALRM, lambda *_: signal.default_int_handler(signal.SIGINT, None))

    def add_for_ever() -> None:
        while True:
            index.add(DATA.base)

    try:
        with pytest.raises(KeyboardInterrupt):
            add_for_ever()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert len(index) % 4000 == 0


@pytest.mark.parametrize("kind", ["HnswIndex", "HnswView", "FlatIndex"])
def test_ctrl_c_stops_a_search(kind: str) -> None:
    flat = FlatIndex(32, "l2")
    flat.add(DATA.base)
    index = {"HnswIndex": built, "HnswView": lambda: built().seal(8), "FlatIndex": lambda: flat}[kind]()
    reached: list[int] = []
    many = np.repeat(DATA.queries, 2000, axis=0)

    def interrupt(*_: object) -> None:
        reached.append(1)
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        with pytest.raises(KeyboardInterrupt):
            index.search(many, threads=1)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert reached == [1]


def test_a_stop_event_ends_build_graph() -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(AkiDBError) as stopped:
        build_graph(DATA.base, "l2", m=32, ef_construction=1000, stop=stop)
    assert stopped.value.code == "cancelled"


def counted_meanwhile(work: Callable[[], object]) -> int:
    """How far another thread counts while `work` runs on this one; it could not begin if this one kept the GIL."""
    started, finished = threading.Event(), threading.Event()
    count = 0

    def counting() -> None:
        nonlocal count
        started.wait()
        while not finished.is_set():
            count += 1

    thread = threading.Thread(target=counting)
    thread.start()
    started.set()
    count = 0
    work()
    reached = count
    finished.set()
    thread.join()
    return reached


def test_the_gil_is_released_while_searching_building_and_scanning() -> None:
    index, flat = built(), FlatIndex(32, "l2")
    flat.add(DATA.base)
    many = np.repeat(DATA.queries, 100, axis=0)
    # Each takes far longer than a switch of threads, so a GIL kept by native code would show as a count of about 0.
    assert counted_meanwhile(lambda: index.search(many, ef_search=400, threads=1)) > 10_000
    assert counted_meanwhile(lambda: flat.search(many, threads=1)) > 10_000
    assert counted_meanwhile(lambda: HnswIndex(32, "l2", 16, 400).add(DATA.base, threads=1)) > 10_000


def test_searches_see_what_is_added_while_they_run() -> None:
    index = HnswIndex(32, "l2", 8, 50)
    index.add(DATA.base[:100])
    finished = threading.Event()
    unknown: list[int] = []

    def searching() -> None:
        while not finished.is_set():
            ids = index.search(DATA.queries, 5, threads=1).ids
            unknown.extend(ids[(ids < 0) | (ids >= 4000)].tolist())

    threads = [threading.Thread(target=searching) for _ in range(2)]
    for thread in threads:
        thread.start()
    for start in range(100, 4000, 300):
        index.add(np.arange(start, min(start + 300, 4000)), DATA.base[start : start + 300])
    finished.set()
    for thread in threads:
        thread.join()
    assert unknown == []
    assert (index.search(DATA.base, 1).ids.ravel() == np.arange(4000)).mean() > 0.99


def test_graph_over_foreign_vectors_finds_the_same_as_the_index() -> None:
    graph = GraphIndex(DATA.base, build_graph(DATA.base, "l2", m=8, ef_construction=50), "l2")
    flat = FlatIndex(32, "l2")
    flat.add(DATA.base)
    allowed = np.arange(4000) % 3 == 0
    rows, distances = graph.search(DATA.queries, 10, ef_search=400, allowed=allowed)
    exact = flat.search(DATA.queries, 10, filter=np.flatnonzero(allowed))
    assert np.isin(rows, exact.ids).mean() > 0.99
    assert allowed[rows].all()
    assert distances.shape == (50, 10)
    assert graph.validate()["nodes"] == 4000


def test_a_filter_of_fewer_ids_than_were_removed_finds_them() -> None:
    index = built()
    index.remove(index.ids[:900])  # short of the quarter at which the graph is mended
    wanted = np.arange(1000, 1050)
    assert sorted(index.search(DATA.queries[0], 50, filter=wanted).ids) == wanted.tolist()
    mask = np.zeros(4000, np.bool_)
    mask[850:950] = True
    assert sorted(index.search(DATA.queries[0], 50, filter=mask).ids) == list(range(900, 950))


def test_an_id_is_found_however_often_it_gets_the_vector_it_has() -> None:
    index = HnswIndex(32, "l2", 4, 50)
    index.add(DATA.base)
    for _ in range(50):
        index.update([7], DATA.base[7:8])
    assert index.search(DATA.base[7], 1).ids.tolist() == [7]
    assert index.validate()["unreachable"] == 0
