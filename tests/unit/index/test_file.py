"""Saved indexes: what comes back, and which files are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from akidb import HnswIndex
from akidb.errors import AkiDBError, CorruptionError, InvalidInputError, NotFoundError
from akidb.index import GraphIndex, build_graph
from bench.data import clustered

DATA = clustered(1000, 20, queries=20, seed=2)


@pytest.fixture(params=["cosine", "l2", "ip"])
def index(request: pytest.FixtureRequest) -> HnswIndex:
    made = HnswIndex(20, request.param, m=8, ef_construction=60, seed=9)
    made.add(np.arange(1000) * 2, DATA.base)
    made.remove(np.arange(100) * 2)
    return made


def test_load_and_view_answer_as_the_saved_index(index: HnswIndex, tmp_path: Path) -> None:
    index.save(tmp_path / "vectors.aki")
    wanted = index.search(DATA.queries, 10, ef_search=50)
    loaded, view = HnswIndex.load(tmp_path / "vectors.aki"), HnswIndex.view(tmp_path / "vectors.aki")
    for other in (loaded, view):
        found = other.search(DATA.queries, 10, ef_search=50)
        np.testing.assert_array_equal(found.ids, wanted.ids)
        np.testing.assert_array_equal(found.distances, wanted.distances)
        assert (other.dim, other.metric, len(other)) == (20, index.metric, 900)
        np.testing.assert_array_equal(other.get([300, 1998]), DATA.base[[150, 999]])
        np.testing.assert_array_equal(
            other.search(DATA.queries, 5, filter=[300, 302, 0]).ids,
            index.search(DATA.queries, 5, filter=[302, 300]).ids,
        )
        mask = np.arange(1200) % 3 == 0
        np.testing.assert_array_equal(
            other.search(DATA.queries, 5, filter=mask).ids, index.search(DATA.queries, 5, filter=mask).ids
        )
        assert other.validate()["nodes"] == 900
    assert (loaded.m, loaded.ef_construction) == (8, 60)
    loaded.add(DATA.base[:100])
    assert len(loaded) == 1000


def test_saving_over_a_viewed_file_leaves_the_view_alone(index: HnswIndex, tmp_path: Path) -> None:
    path = tmp_path / "vectors.aki"
    index.save(path)
    view = HnswIndex.view(path)
    before = view.search(DATA.queries, 5).ids
    index.remove(index.ids[:500])
    index.save(path)
    np.testing.assert_array_equal(view.search(DATA.queries, 5).ids, before)
    assert len(HnswIndex.view(path)) == 400
    assert [each.name for each in tmp_path.iterdir()] == ["vectors.aki"]


def test_an_empty_index_is_saved_too(tmp_path: Path) -> None:
    HnswIndex(4, "l2").save(tmp_path / "empty.aki")
    for empty in (HnswIndex.load(tmp_path / "empty.aki"), HnswIndex.view(tmp_path / "empty.aki")):
        assert empty.search(np.ones(4), 1).ids.tolist() == [-1]
        assert len(empty) == 0


def test_a_view_names_unknown_ids(index: HnswIndex, tmp_path: Path) -> None:
    index.save(tmp_path / "vectors.aki")
    with pytest.raises(NotFoundError, match="id 301 at position 1"):
        HnswIndex.view(tmp_path / "vectors.aki").get([300, 301])


def saved_bytes(tmp_path: Path) -> tuple[Path, bytes]:
    made = HnswIndex(20, "cosine", m=4, ef_construction=30)
    made.add(DATA.base[:200])
    path = tmp_path / "vectors.aki"
    made.save(path)
    return path, path.read_bytes()


def test_every_damaged_region_is_noticed_by_load_and_validate(tmp_path: Path) -> None:
    path, good = saved_bytes(tmp_path)
    view = HnswIndex.view(path)
    starts = [4096]  # the sections, each of which begins at a multiple of 4096
    for size in (200 * 8, 200 * 20 * 4, 200 * 4):
        starts.append(-(-(starts[-1] + size) // 4096) * 4096)
    for at in (0, 9, 40, *starts, starts[-1] + 200, len(good) - 1):
        damaged = bytearray(good)
        damaged[at] ^= 0x40
        path.write_bytes(damaged)
        with pytest.raises(CorruptionError, match=r"vectors\.aki|graph"):
            HnswIndex.load(path)
        with pytest.raises(CorruptionError):
            view.validate()


@pytest.mark.parametrize("size", [0, 1, 100, 4096, 5000, -4096, -1])
def test_truncated_files_are_refused_at_once(tmp_path: Path, size: int) -> None:
    path, good = saved_bytes(tmp_path)
    path.write_bytes(good[:size])
    for opened in (HnswIndex.load, HnswIndex.view):
        with pytest.raises(CorruptionError, match=r"vectors\.aki"):
            opened(path)


def test_files_that_are_no_index_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"not an index" * 1000)
    with pytest.raises(CorruptionError, match="does not begin with AkiIndex"):
        HnswIndex.load(tmp_path / "text")
    with pytest.raises(FileNotFoundError):
        HnswIndex.view(tmp_path / "missing")
    with pytest.raises(InvalidInputError, match="folder"):
        HnswIndex(3).save(tmp_path)


def test_a_graph_over_other_vectors_is_refused() -> None:
    graph = build_graph(DATA.base, "l2", m=4, ef_construction=30)
    for vectors, metric in ((DATA.base[:-1], "l2"), (DATA.base[:, :19].copy(), "l2"), (DATA.base, "ip")):
        with pytest.raises(CorruptionError, match="built over"):
            GraphIndex(vectors, graph, metric)
    with pytest.raises(AkiDBError):
        GraphIndex(DATA.base, graph[:-64], "l2")
    with pytest.raises(AkiDBError):
        GraphIndex(DATA.base, b"", "l2")
