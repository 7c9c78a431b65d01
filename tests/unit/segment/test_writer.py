"""What is written is read back: any rows, any mixture of sources, the same bytes each time."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from akidb.codec.frame import ENTRY, HEADER
from akidb.errors import AkiDBError, CorruptionError, StorageFullError
from akidb.index import build_graph
from akidb.segment import MemTable, Segment, Source, write_segment
from akidb.segment.format import ALIGNMENT, SMALL_ALIGNMENT, FrameWriter
from akidb.types import CollectionSpec, Metric
from tests.unit.segment.conftest import Made, table_of

UUID_1 = UUID(int=1)

ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=128)
payloads = (
    st.none() | st.just(b"") | st.just(b"{}") | st.integers(0, 20_000).map(lambda n: b'{"t":"' + b"y" * n + b'"}')
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(ids, payloads, max_size=40), st.sampled_from(Metric), st.lists(ids, max_size=5))
def test_write_segment_keeps_every_column(points: dict[str, bytes | None], metric: Metric, others: list[str]) -> None:
    spec = CollectionSpec("points", 3, metric)
    view = table_of(spec, list(points), list(points.values()), lsn=7).snapshot()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "segment"
        stats = write_segment(path, uuid=UUID_1, spec=spec, sources=[Source(view)])
        segment = Segment.open(path, name="seg/1", verify=True)
    rows = np.arange(len(points))
    assert (stats.rows, stats.bytes) == (len(points), segment.bytes)
    assert (stats.lsn_min, stats.lsn_max) == ((7, 6 + len(points)) if points else (0, 0))
    assert segment.uuid == UUID_1
    assert segment.id_at(rows) == list(points)
    assert segment.payloads(rows) == list(points.values())
    np.testing.assert_array_equal(segment.vectors, view.vectors)
    np.testing.assert_array_equal(segment.lsns, view.lsns)
    if metric is Metric.COSINE:
        np.testing.assert_array_equal(segment.inverse_norms, view.inverse_norms)
    else:
        assert segment.inverse_norms is None
    wanted = [*others, *points]
    assert segment.find(wanted).tolist() == [list(points).index(id_) if id_ in points else -1 for id_ in wanted]
    assert segment.id_at(segment.following(None, 100, None)) == sorted(points)


def test_write_segment_takes_ids_of_512_bytes(tmp_path: Path, spec: CollectionSpec) -> None:
    names = ["é" * 256, "a" * 512, "𝄞" * 128, "\0", "a\0", "a"]
    view = table_of(spec, names, [None] * 6).snapshot()
    write_segment(tmp_path / "s", uuid=UUID_1, spec=spec, sources=[Source(view)])
    segment = Segment.open(tmp_path / "s", name="seg/1")
    assert segment.find(names).tolist() == list(range(6))
    assert segment.id_at(segment.following("a", 9, None)) == ["a\0", "a" * 512, "é" * 256, "𝄞" * 128]


def test_write_segment_merges_the_live_rows_of_all_sources(
    make: Callable[..., Made], tmp_path: Path, spec: CollectionSpec
) -> None:
    one, two = make(500), make(300)
    table = table_of(spec, ["m1", "m2", "m1"], [b'{"n":1}', None, b'{"n":3}'], lsn=2000)
    view = table.snapshot()
    masks = [np.arange(500) % 2 == 0, np.arange(300) > 290]
    sources = [Source(view, view.live), Source(one.segment, masks[0]), Source(two.segment, masks[1])]
    stats = write_segment(tmp_path / "merged", uuid=UUID_1, spec=spec, sources=sources)
    merged = Segment.open(tmp_path / "merged", name="seg/merged", verify=True)
    expected = ["m2", "m1", *one.ids[::2], *two.ids[291:]]
    assert merged.id_at(np.arange(merged.rows)) == expected
    assert merged.payloads(np.arange(merged.rows)) == [None, b'{"n":3}', *one.payloads[::2], *two.payloads[291:]]
    np.testing.assert_array_equal(merged.vectors[2:], np.concatenate([one.vectors[::2], two.vectors[291:]]))
    np.testing.assert_array_equal(merged.lsns[:4], [2001, 2002, 1, 3])
    assert (stats.lsn_min, stats.lsn_max) == (1, 2002)


def test_write_segment_gives_the_same_bytes_for_the_same_rows(
    make: Callable[..., Made], tmp_path: Path, spec: CollectionSpec
) -> None:
    made = make(700)
    mask = np.ones(700, np.bool_)
    for name in ("a", "b"):
        write_segment(tmp_path / name, uuid=UUID_1, spec=spec, sources=[Source(made.segment, mask)])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_write_segment_adds_a_graph_to_a_whole_segment(
    make: Callable[..., Made], tmp_path: Path, spec: CollectionSpec
) -> None:
    made = make(600)
    graph = build_graph(made.segment.vectors, "cosine", m=8, ef_construction=40)
    write_segment(tmp_path / "g", uuid=UUID(int=9), spec=spec, sources=[Source(made.segment)], graph=graph)
    segment = Segment.open(tmp_path / "g", name="seg/g", verify=True)
    assert segment.uuid == UUID(int=9)
    assert {name: bytes(region) for name, region in made.segment.regions.items()} == {
        name: bytes(region) for name, region in segment.regions.items() if name != "graph"
    }
    assert bytes(segment.regions["graph"]) == graph
    assert segment.has_graph
    assert not made.segment.has_graph
    assert made.segment.graph is None
    assert segment.graph is not None
    assert segment.graph is segment.graph
    rows, _ = segment.graph.search(made.vectors[:5], 1, ef_search=50)
    assert rows[:, 0].tolist() == [0, 1, 2, 3, 4]


def test_large_regions_lie_at_64_kib_and_small_ones_are_packed(make: Callable[..., Made]) -> None:
    assert make(3).segment.bytes < 4096
    data = make(9000).path.read_bytes()
    header = HEADER.unpack_from(data)
    entries = [ENTRY.unpack_from(data, header[6] + i * ENTRY.size) for i in range(header[8])]
    large = [offset for _, offset, length, _, _ in entries if length >= ALIGNMENT]
    assert len(large) >= 5
    assert all(offset % ALIGNMENT == 0 for offset in large)
    assert all(offset % SMALL_ALIGNMENT == 0 for _, offset, _, _, _ in entries)


def test_write_segment_refuses_an_id_that_is_live_twice(
    make: Callable[..., Made], tmp_path: Path, spec: CollectionSpec
) -> None:
    made = make(20)
    view = table_of(spec, [made.ids[7]], [None]).snapshot()
    with pytest.raises(AkiDBError, match=made.ids[7]):
        write_segment(tmp_path / "twice", uuid=UUID_1, spec=spec, sources=[Source(made.segment), Source(view)])
    assert list(tmp_path.iterdir()) == [made.path]


@pytest.mark.parametrize("graph", [None, b"graph"])
def test_write_segment_refuses_a_damaged_source(
    make: Callable[..., Made], tmp_path: Path, spec: CollectionSpec, graph: bytes | None
) -> None:
    made = make(50)
    data = bytearray(made.path.read_bytes())
    data[data.index(made.vectors[17].tobytes()) + 3] ^= 0x10
    damaged = Segment(memoryview(bytes(data)), name="seg/damaged")
    with pytest.raises(CorruptionError, match=r"seg/damaged.*vectors"):
        write_segment(tmp_path / "x", uuid=UUID_1, spec=spec, sources=[Source(damaged)], graph=graph)
    assert list(tmp_path.iterdir()) == [made.path]


def test_write_segment_leaves_nothing_on_a_full_disk(
    tmp_path: Path, spec: CollectionSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(FrameWriter, "finish", full)
    with pytest.raises(StorageFullError, match="No space left"):
        write_segment(tmp_path / "s", uuid=UUID_1, spec=spec, sources=[])
    assert list(tmp_path.iterdir()) == []


def test_payload_schema_keeps_fields_out_of_the_index(tmp_path: Path) -> None:
    spec = CollectionSpec("points", 2, payload_schema={"body": {"index": False}})
    table = MemTable(spec)
    table.apply_upsert(["a"], np.ones((1, 2), np.float32), [b'{"body":"long text","tag":"x"}'], 1)
    write_segment(tmp_path / "s", uuid=UUID_1, spec=spec, sources=[Source(table.snapshot())])
    fields = bytes(Segment.open(tmp_path / "s", name="s").regions["fields"])
    assert b"tag" in fields
    assert b"long text" not in fields
