"""Saved indexes: what comes back, and which files are refused."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pytest

from akidb import HnswIndex
from akidb._native import crc32c
from akidb.errors import AkiDBError, CorruptionError, InvalidInputError, NotFoundError
from akidb.index import GraphIndex, build_graph
from akidb.index.file import write
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
            other.search(DATA.queries, 5, filter=[300, 302, 300]).ids,
            index.search(DATA.queries, 5, filter=[302, 300]).ids,
        )
        mask = np.arange(2000) % 3 == 0
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


def test_a_view_validates_the_file_it_has_open(index: HnswIndex, tmp_path: Path) -> None:
    path = tmp_path / "vectors.aki"
    index.save(path)
    view = HnswIndex.view(path)
    index.save(path)
    path.write_bytes(b"another file by now")
    assert view.validate()["nodes"] == 900
    path.unlink()
    assert view.validate()["nodes"] == 900


@pytest.mark.parametrize("size", [0, 100, 5000, -1])
def test_a_view_whose_file_was_cut_short_says_so(index: HnswIndex, tmp_path: Path, size: int) -> None:
    path = tmp_path / "vectors.aki"
    index.save(path)
    view = HnswIndex.view(path)
    os.truncate(path, size % path.stat().st_size)
    with pytest.raises(CorruptionError, match=r"vectors\.aki: it was cut short"):
        view.validate()


def test_a_view_tells_what_it_is(index: HnswIndex, tmp_path: Path) -> None:
    index.save(tmp_path / "vectors.aki")
    view = HnswIndex.view(tmp_path / "vectors.aki")
    assert repr(view) == f"HnswView(dim=20, metric='{view.metric}', m=8, code_bits=0, dtype='float32') with 900 vectors"
    assert [each in view for each in (200, np.int32(1998), 100, 201, "200", -1)] == [True, True, *[False] * 4]
    view.ef_search = 7
    with pytest.raises(InvalidInputError, match="ef_search is 0"):
        view.ef_search = 0
    assert view.stats()["ef_search"] == 7


def test_a_link_to_a_file_is_followed(index: HnswIndex, tmp_path: Path) -> None:
    (tmp_path / "link.aki").symlink_to(tmp_path / "vectors.aki")
    index.save(tmp_path / "link.aki")
    assert (tmp_path / "link.aki").is_symlink()
    assert len(HnswIndex.load(tmp_path / "vectors.aki")) == len(HnswIndex.load(tmp_path / "link.aki")) == 900


def test_a_name_may_be_as_long_as_the_file_system_takes(index: HnswIndex, tmp_path: Path) -> None:
    name = "n" * 255
    index.save(os.fsencode(tmp_path / name))  # a path of bytes, as for load
    assert len(HnswIndex.load(tmp_path / name)) == 900


def test_ids_that_contradict_each_other_are_noticed(tmp_path: Path) -> None:
    made = HnswIndex(20, "l2", m=4, ef_construction=30)
    made.add(DATA.base[:50])
    parts = made._native.parts()
    for id_, message in ((-1, "id -1, which is negative"), (8, "id 8 twice")):
        write(tmp_path / "wrong.aki", made._space, {**parts, "ids": np.where(parts["ids"] == 7, id_, parts["ids"])})
        with pytest.raises(CorruptionError, match=message):
            HnswIndex.load(tmp_path / "wrong.aki")
        with pytest.raises(CorruptionError, match=message):
            HnswIndex.view(tmp_path / "wrong.aki").validate()


def test_an_empty_index_is_saved_too(tmp_path: Path) -> None:
    HnswIndex(4, "l2").save(tmp_path / "empty.aki")
    for empty in (HnswIndex.load(tmp_path / "empty.aki"), HnswIndex.view(tmp_path / "empty.aki")):
        assert empty.search(np.ones(4), 1).ids.tolist() == [-1]
        assert len(empty) == 0


def test_an_index_that_grew_takes_what_it_needs_once_loaded(tmp_path: Path) -> None:
    grown, exact = HnswIndex(20, "l2", m=4, ef_construction=30), HnswIndex(20, "l2", m=4, ef_construction=30)
    grown.add(DATA.base[:800])
    grown.add(DATA.base[800:801])
    exact.add(DATA.base[:801])
    assert 1.4 * exact.nbytes < grown.nbytes < 1.6 * exact.nbytes
    grown.save(tmp_path / "vectors.aki")
    assert HnswIndex.load(tmp_path / "vectors.aki").nbytes < 1.05 * exact.nbytes


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
        in_section = r"the checksum of its (ids|vectors|norms|graph) does not match" if at >= starts[0] else ""
        with pytest.raises(CorruptionError, match=rf"vectors\.aki: .*{in_section}"):
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


def test_bytes_that_belong_to_no_section_are_refused_at_once(tmp_path: Path) -> None:
    path, good = saved_bytes(tmp_path)
    ids_end = 4096 + 200 * 8
    for at in (132, 4095, ids_end, 8191):
        damaged = bytearray(good)
        damaged[at] ^= 0x01
        path.write_bytes(damaged)
        for opened in (HnswIndex.load, HnswIndex.view):
            with pytest.raises(CorruptionError, match=rf"vectors\.aki: byte {at} is 1, expected 0"):
                opened(path)
    path.write_bytes(good + b"\0")
    for opened in (HnswIndex.load, HnswIndex.view):
        with pytest.raises(CorruptionError, match=f"it has {len(good) + 1} bytes, expected {len(good)}"):
            opened(path)


def test_sections_lie_one_after_another(tmp_path: Path) -> None:
    path, good = saved_bytes(tmp_path)
    moved = bytearray(good)
    struct.pack_into("<Q", moved, 56, 4096)
    struct.pack_into("<I", moved, 128, crc32c(bytes(moved[:128])))
    path.write_bytes(moved)
    for opened in (HnswIndex.load, HnswIndex.view):
        with pytest.raises(CorruptionError, match="its vectors begin at 4096, expected 8192"):
            opened(path)


def test_files_that_are_no_index_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"not an index" * 1000)
    with pytest.raises(CorruptionError, match="does not begin with AkiIndex"):
        HnswIndex.load(tmp_path / "text")
    with pytest.raises(FileNotFoundError):
        HnswIndex.view(tmp_path / "missing")
    for opened in (HnswIndex.load, HnswIndex.view):
        with pytest.raises(IsADirectoryError, match=str(tmp_path)):
            opened(tmp_path)
    with pytest.raises(InvalidInputError, match="folder"):
        HnswIndex(3).save(tmp_path)


def test_a_file_that_cannot_be_written_is_named_as_it_was_given(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "vectors.aki"
    with pytest.raises(FileNotFoundError) as refused:
        HnswIndex(3).save(path)
    assert (refused.value.filename, refused.value.filename2) == (str(path), None)


def test_a_pipe_is_neither_replaced_nor_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InvalidInputError, match="device, pipe or socket"):
        HnswIndex(3).save(tmp_path / "pipe")
    assert (tmp_path / "pipe").is_fifo()
    with pytest.raises(OSError, match="is no regular file"):
        HnswIndex.load(tmp_path / "pipe")


def test_a_graph_over_other_vectors_is_refused() -> None:
    graph = build_graph(DATA.base, "l2", m=4, ef_construction=30)
    for vectors, metric in ((DATA.base[:-1], "l2"), (DATA.base[:, :19].copy(), "l2"), (DATA.base, "ip")):
        with pytest.raises(CorruptionError, match="built over"):
            GraphIndex(vectors, graph, metric)
    with pytest.raises(AkiDBError):
        GraphIndex(DATA.base, graph[:-64], "l2")
    with pytest.raises(AkiDBError):
        GraphIndex(DATA.base, b"", "l2")
