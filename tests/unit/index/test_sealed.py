"""A sealed index: codes on the way, vectors at the end."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from akidb import FlatIndex, HnswIndex
from akidb.errors import CorruptionError, InvalidInputError
from akidb.index import GraphIndex, MappedFile, build_graph
from bench.data import clustered

DATA = clustered(4000, 72, queries=50, seed=1)
METRICS = ("cosine", "l2", "ip")
IDS = np.arange(4000) * 2 + 1


def built(metric: str = "l2") -> HnswIndex:
    index = HnswIndex(72, metric, m=8, ef_construction=60)
    index.add(IDS, DATA.base)
    return index


def exact(metric: str = "l2") -> FlatIndex:
    index = FlatIndex(72, metric)
    index.add(IDS, DATA.base)
    return index


def recall(found: np.ndarray, truth: np.ndarray) -> float:
    return float(np.mean([np.isin(a, b).mean() for a, b in zip(found, truth, strict=True)]))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("code_bits", [0, 4, 8])
def test_sealing_costs_no_recall_and_distances_are_exact(metric: str, code_bits: int) -> None:
    index, flat = built(metric), exact(metric)
    truth = flat.search(DATA.queries, 10)
    sealed = index.seal(code_bits)
    assert (sealed.code_bits, len(sealed), sealed.dim, sealed.metric) == (code_bits, 4000, 72, metric)
    found = sealed.search(DATA.queries, 10, ef_search=100)
    plain = recall(index.search(DATA.queries, 10, ef_search=100).ids, truth.ids)
    assert recall(found.ids, truth.ids) >= plain - 0.01 >= 0.94
    all_ids, all_distances = flat.search(DATA.queries[0], 4000)
    everything = dict(zip(all_ids, all_distances, strict=True))
    np.testing.assert_array_equal(found.distances[0], [everything[id] for id in found.ids[0]])
    assert (np.diff(found.distances, axis=1) >= 0).all()


def test_it_stays_as_it_was_while_the_index_goes_on() -> None:
    index = built()
    sealed = index.seal()
    before = sealed.search(DATA.queries, 10)
    index.remove(IDS[:2000])
    index.add(np.arange(2000) * 2, DATA.base[:2000] + 100)
    after = sealed.search(DATA.queries, 10)
    np.testing.assert_array_equal(before.ids, after.ids)
    np.testing.assert_array_equal(before.distances, after.distances)
    assert not (after.ids % 2 == 0).any()


@pytest.mark.parametrize("share", [0.9, 0.05, 0.002])  # walked, and scanned twice
@pytest.mark.parametrize("code_bits", [4, 8])
def test_a_filter_holds_and_costs_no_recall(share: float, code_bits: int) -> None:
    allowed = np.random.default_rng(5).choice(IDS, int(len(IDS) * share), replace=False)
    found = built().seal(code_bits).search(DATA.queries, 10, ef_search=100, filter=allowed)
    flat = FlatIndex(72, "l2")
    flat.add(allowed, DATA.base[(allowed - 1) // 2])
    k = min(10, len(allowed))
    assert np.isin(found.ids[found.ids >= 0], allowed).all()
    assert recall(found.ids[:, :k], flat.search(DATA.queries, k).ids) >= 0.94
    assert (found.ids[:, k:] == -1).all()


@pytest.mark.parametrize("code_bits", [0, 4, 8])
@pytest.mark.parametrize("share", [1.0, 0.5, 0.03])
def test_many_are_found(code_bits: int, share: float, tmp_path: Path) -> None:
    """From k of tens to all there are: walks, scans of codes that keep many, and of vectors."""
    allowed = np.random.default_rng(6).permutation(IDS)[: int(len(IDS) * share)]
    flat = exact()
    built().seal(code_bits).save(tmp_path / "i")
    for sealed in (built().seal(code_bits), HnswIndex.view(tmp_path / "i")):
        for k in (30, 100, 300, 1000, 2000, 4000, 4001):
            found = sealed.search(DATA.queries, k, ef_search=4 * k, filter=allowed)
            truth = flat.search(DATA.queries, k, filter=allowed)
            there = min(k, len(allowed))
            assert (found.ids[:, there:] == -1).all()
            assert (np.diff(found.distances[:, :there]) >= 0).all()
            assert all(len(np.unique(ids)) == there for ids in found.ids[:, :there])
            assert recall(found.ids[:, :there], truth.ids[:, :there]) >= 0.98, k


def test_a_wider_search_tells_a_dense_cluster_apart() -> None:
    """The points of each lie nearer one another than codes tell, the fine ones included: the nearest are anywhere among
    what a walk ends with.
    """
    rng = np.random.default_rng(9)
    centres = rng.standard_normal((25, 16))
    base, queries = (
        (np.repeat(centres, n, axis=0) + 1e-3 * rng.standard_normal((25 * n, 16))).astype(np.float32) for n in (400, 2)
    )
    index, flat = HnswIndex(16, "l2", m=8, ef_construction=60), FlatIndex(16, "l2")
    for each in (index, flat):
        each.add(base)
    truth = flat.search(queries, 10).ids
    assert recall(index.seal(4).search(queries, 10, ef_search=400).ids, truth) >= 0.8


def test_saved_viewed_and_loaded_again(tmp_path: Path) -> None:
    path = tmp_path / "sealed.aki"
    sealed = built("cosine").seal()
    sealed.save(path)
    view = HnswIndex.view(path)
    assert view.code_bits == 4
    assert view.validate() == sealed.validate()
    assert (view.validate()["nodes"], view.validate()["unreachable"]) == (4000, 0)
    assert view.calibration == sealed.calibration
    expected = sealed.search(DATA.queries, 10)
    np.testing.assert_array_equal(view.search(DATA.queries, 10).ids, expected.ids)
    np.testing.assert_array_equal(view.get([7, 1]), DATA.base[[3, 0]])
    grown = HnswIndex.load(path)
    grown.add([0], DATA.queries[:1])
    assert grown.search(DATA.queries[0], 1).ids[0] == 0


def test_empty_small_and_k_beyond_all() -> None:
    index = HnswIndex(3, "l2")
    assert index.seal().search([1, 2, 3], 5).ids.tolist() == [-1] * 5
    index.add([7], [[1, 2, 3]])
    found = index.seal().search([1, 2, 3], 3)
    assert (found.ids.tolist(), found.distances.tolist()) == ([7, -1, -1], [0, np.inf, np.inf])


def test_constant_and_equal_vectors_are_found() -> None:
    index = HnswIndex(8, "cosine")
    index.add(np.ones((50, 8)))
    found = index.seal().search(np.ones(8), 50, ef_search=50)
    assert sorted(found.ids) == list(range(50))


@pytest.mark.parametrize("code_bits", [1, 16, "4", True, 4.5, None])
def test_other_code_bits_are_refused_by_name(code_bits: object) -> None:
    with pytest.raises(InvalidInputError, match=r"code_bits is .*, expected \"auto\", 4, 8, or 0"):
        built().seal(code_bits)  # type: ignore[arg-type]


@pytest.mark.parametrize(("queries", "what"), [([np.nan] * 72, "query 0 holds NaN"), ([0.0] * 72, "query 0 is zero")])
def test_bad_queries_are_refused(queries: list[float], what: str) -> None:
    with pytest.raises(InvalidInputError, match=what):
        built("cosine").seal().search(queries, 1)


def test_damaged_bytes_are_an_error_or_another_answer_but_never_a_crash() -> None:
    graph = build_graph(DATA.base, "l2", m=8, ef_construction=60, code_bits=4)
    rng = np.random.default_rng(11)
    for _ in range(200):
        bytes_ = np.frombuffer(graph, np.uint8).copy()
        bytes_[rng.integers(0, len(bytes_), 8)] ^= rng.integers(1, 256, 8).astype(np.uint8)
        try:
            opened = GraphIndex(DATA.base, bytes_, "l2")
        except CorruptionError:
            continue
        with pytest.raises(CorruptionError):
            opened.validate()
        try:
            rows, _ = opened.search(DATA.queries[:2], 5, ef_search=20)
        except CorruptionError:
            continue
        assert ((rows >= -1) & (rows < 4000)).all()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.999])
def test_truncated_bytes_are_refused(share: float) -> None:
    graph = build_graph(DATA.base, "l2", m=8, ef_construction=60, code_bits=8)
    with pytest.raises(CorruptionError, match="bytes"):
        GraphIndex(DATA.base, graph[: int(len(graph) * share)], "l2")


@pytest.mark.parametrize("code_bits", [0, 4, 8])
def test_a_file_is_searched_as_was_measured_in_memory(code_bits: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    base, queries = (rng.standard_normal((n, 64), dtype=np.float32) for n in (2000, 100))
    index, flat = HnswIndex(64, "l2"), FlatIndex(64, "l2")
    for each in (index, flat):
        each.add(base)
    index.seal(code_bits).save(tmp_path / "i")
    view = HnswIndex.view(tmp_path / "i")
    for k in (10, 100, 200):
        truth = flat.search(queries, k).ids
        for target in (0.9, 0.95, 0.99):
            assert recall(view.search(queries, k, target_recall=target).ids, truth) >= target - 0.007, (k, target)


@pytest.mark.parametrize("metric", METRICS)
def test_a_recall_can_be_asked_for(metric: str) -> None:
    sealed, flat = built(metric).seal(), exact(metric)
    for k in (1, 10, 15, 20, 30, 50, 70, 100, 150):
        truth = flat.search(DATA.queries, k).ids
        for target in (0.8, 0.9, 0.95):
            found = recall(sealed.search(DATA.queries, k, target_recall=target).ids, truth)
            assert found >= target - 0.02, (k, target)
    measured = sealed.calibration
    assert measured["queries"] == 200
    assert measured["recall@10"] == sorted(measured["recall@10"])
    assert 0.9 < measured["recall@10"][-1] <= 1


def test_a_recall_that_cannot_be_given_is_refused() -> None:
    sealed = built().seal()
    with pytest.raises(InvalidInputError, match="ef_search and target_recall are both given"):
        sealed.search(DATA.queries, 1, ef_search=10, target_recall=0.9)
    for wrong in (0, 1, 95, "0.9", True, float("nan")):
        with pytest.raises(InvalidInputError, match=r"target_recall is .*, expected a number between 0 and 1"):
            sealed.search(DATA.queries, 1, target_recall=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [0, 1, 2, 999])
def test_too_few_vectors_to_measure_are_all_compared(count: int, tmp_path: Path) -> None:
    small, flat = HnswIndex(72, "l2", m=2, ef_construction=2), FlatIndex(72, "l2")
    for index in (small, flat):
        index.add(DATA.base[:count])
    assert small.seal().code_bits == 0
    small.save(tmp_path / "i")
    for sealed in (small.seal(), HnswIndex.view(tmp_path / "i")):
        found, truth = sealed.search(DATA.queries, 10, target_recall=0.9), flat.search(DATA.queries, 10)
        np.testing.assert_array_equal(found.ids, truth.ids)


def test_a_recall_asked_of_what_was_never_sealed_is_refused_with_what_to_do(tmp_path: Path) -> None:
    index = built()
    for asked in (0.9, 1.5):
        with pytest.raises(InvalidInputError, match=r"search what seal\(\) gives, or give ef_search"):
            index.search(DATA.queries, 1, target_recall=asked)
    index.save(tmp_path / "plain.aki")
    with pytest.raises(InvalidInputError, match="seal the index and save what that gives"):
        HnswIndex.view(tmp_path / "plain.aki").search(DATA.queries, 1, target_recall=0.9)


def test_data_on_which_short_codes_fail_gets_longer_ones_or_none() -> None:
    """One dimension is far wider than the others, which tell neighbours apart: a step that covers both is too wide."""
    rng = np.random.default_rng(3)
    assert built().seal().code_bits == 4
    for width, bits in ((10, 8), (10_000, 0)):
        vectors = DATA.base.copy()
        vectors[:, 0] = width * rng.integers(-1, 2, len(vectors))
        index, flat = HnswIndex(72, "l2", m=8, ef_construction=60), FlatIndex(72, "l2")
        index.add(vectors)
        flat.add(vectors)
        sealed = index.seal()
        assert sealed.code_bits == bits
        found = sealed.search(vectors[:50], 10, ef_search=100).ids
        assert recall(found, flat.search(vectors[:50], 10).ids) >= 0.9


def test_the_same_index_is_sealed_to_the_same_bytes() -> None:
    graphs = [build_graph(DATA.base, "l2", m=8, ef_construction=60, threads=threads) for threads in (1, 1)]
    assert graphs[0] == graphs[1]


def test_stats_tell_what_it_is_and_holds() -> None:
    index = built()
    what = {"vectors": 4000, "dim": 72, "metric": "l2", "m": 8, "ef_construction": 60, "ef_search": 200}
    what |= {"dtype": "float32", "bytes_per_vector": 288}
    assert index.stats() == what | {"bytes": index.nbytes}
    assert index.nbytes > 4000 * (72 * 4 + 16 * 4 + 8)
    sealed = index.seal(8)
    assert sealed.stats().items() >= what.items()
    assert sealed.stats()["calibration"] == sealed.calibration
    parts = sealed.stats()["bytes"]
    assert (parts["ids"], parts["vectors"], parts["norms"]) == (4000 * 8, 4000 * 72 * 4, 0)
    assert parts["graph"] > 4000 * (16 * 12 / 8 + 128 + 8)  # 12 bits a link


def test_what_a_sealed_index_shares_cannot_be_written_to() -> None:
    index = built()
    sealed = index.seal()
    with pytest.raises(ValueError, match="read-only"):
        sealed.ids[0] = 9


def test_k_of_nothing_is_nothing() -> None:
    graph = GraphIndex(DATA.base, build_graph(DATA.base, "l2", m=8, ef_construction=60), "l2")
    rows, distances = graph.search(DATA.queries[:3], 0, ef_search=10)
    assert rows.shape == distances.shape == (3, 0)


def test_equal_vectors_do_not_spoil_what_is_measured() -> None:
    index = HnswIndex(72, "l2", m=8, ef_construction=60)
    index.add(np.repeat(DATA.base[:20], 200, axis=0))
    assert index.seal().calibration["recall@10"][-1] == 1.0


def test_a_whole_neighbourhood_may_be_removed() -> None:
    index, flat = built(), exact()
    query = DATA.queries[0]
    gone = flat.search(query, 600).ids
    index.remove(gone)
    flat.remove(gone)
    found = index.search(query, 10, ef_search=100).ids
    assert np.isin(found, flat.search(query, 10).ids).mean() >= 0.9


def test_a_recall_asked_for_is_found_where_walks_fail() -> None:
    # Of vectors of lengths far apart the short ones are all near a query: walks find few of the nearest, and the search
    # goes over to comparing all at an ef between two that were measured.
    rng = np.random.default_rng(3)
    lengths = 10 ** rng.uniform(-4, 4, (3050, 1))
    vectors = (rng.standard_normal((3050, 64)) * lengths).astype(np.float32)
    index, flat = HnswIndex(64, "l2", 8, 60), FlatIndex(64, "l2")
    index.add(vectors[:3000])
    flat.add(vectors[:3000])
    sealed, truth = index.seal(), flat.search(vectors[3000:], 10)
    for target in (0.5, 0.7, 0.9, 0.99):
        found = sealed.search(vectors[3000:], 10, target_recall=target)
        assert np.mean(found.distances <= truth.distances[:, -1:]) >= target - 0.05


def test_vectors_read_from_the_file_are_those_of_the_mapping(tmp_path: Path) -> None:
    path, before = tmp_path / "vectors", b"64 bytes of something else first".ljust(64)
    graph = build_graph(DATA.base, "l2", m=8, ef_construction=60, code_bits=4)
    expected = GraphIndex(DATA.base, graph, "l2").search(DATA.queries, 10, ef_search=50)
    path.write_bytes(before + DATA.base.tobytes())
    file = MappedFile(path)
    mapped = np.frombuffer(file.data[len(before) :], np.float32).reshape(DATA.base.shape)
    reader = GraphIndex(mapped, graph, "l2", file=file)
    found = reader.search(DATA.queries, 10, ef_search=50)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


def test_a_file_that_is_cut_short_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "vectors"
    path.write_bytes(DATA.base.tobytes())
    file = MappedFile(path)
    mapped = np.frombuffer(file.data, np.float32).reshape(DATA.base.shape)
    index = GraphIndex(mapped, build_graph(DATA.base, "l2", m=8, ef_construction=60, code_bits=4), "l2", file=file)
    os.truncate(path, 1000)  # a mapping would end the process
    with pytest.raises(CorruptionError, match=r"the file ends within vector \d+"):
        index.search(DATA.queries, 10, ef_search=50)


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs Linux's account of what is resident")
def test_searching_a_view_leaves_the_vectors_out_of_memory(tmp_path: Path) -> None:
    path = tmp_path / "sealed.aki"
    index = HnswIndex(512, "l2", m=4, ef_construction=20)
    index.add(np.tile(DATA.base, (1, 8))[:, :512])  # 8 MB
    index.seal(4).save(path)
    view = HnswIndex.view(path)
    queries = np.tile(DATA.queries, (1, 8))[:, :512]
    read = view.search(queries, 10, ef_search=100)
    assert resident_bytes(path) < view.stats()["bytes"]["graph"] + 2**19
    mapping = HnswIndex.view(path, map_vectors=True)
    mapped = mapping.search(queries, 10, ef_search=100)
    assert resident_bytes(path) > 2 * view.stats()["bytes"]["graph"] + 2**20
    np.testing.assert_array_equal(read.ids, mapped.ids)
    np.testing.assert_array_equal(read.distances, mapped.distances)


def resident_bytes(path: Path) -> int:
    """Of all mappings of a file."""
    mappings = Path("/proc/self/smaps").read_text().split(str(path))[1:]
    shown = (next(line for line in mapping.splitlines() if line.startswith("Rss:")) for mapping in mappings)
    return sum(int(line.split()[1]) * 1024 for line in shown)
