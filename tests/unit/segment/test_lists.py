"""Lists hold every row, its id and where its payload lies; damage in them is told."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from akidb.errors import CorruptionError
from akidb.segment import (
    ListDirectory,
    MemTable,
    RowList,
    Segment,
    Source,
    decode_block,
    decode_directory,
    lists,
    write_segment,
)
from akidb.segment.lists_format import NO_PAYLOAD, PROBES
from akidb.types import CollectionSpec, Metric, VectorArray

SEGMENT, COPY = UUID(int=1), UUID(int=2)
ROWS, DIM = 700, 11  # an odd dimension: the last byte of a code is half empty


@pytest.fixture(autouse=True)
def small_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "LISTS_BYTES_MIN", 1)
    monkeypatch.setattr(lists, "ROWS_PER_LIST", 32)


def _write(path: Path, vectors: VectorArray, metric: Metric = Metric.COSINE) -> Segment:
    spec = CollectionSpec("p", vectors.shape[1], metric)
    table = MemTable(spec)
    ids = [f"ä{i}" for i in range(len(vectors))]
    payloads = [None if i % 3 == 0 else b"" if i % 3 == 1 else b'{"t":"%s"}' % (b"x" * i) for i in range(len(vectors))]
    table.apply_upsert(ids, vectors, payloads, 1)
    write_segment(path, uuid=SEGMENT, spec=spec, sources=[Source(table.snapshot())])
    return Segment.open(path, name="s", verify=True)


@pytest.fixture
def segment(tmp_path: Path) -> Segment:
    return _write(tmp_path / "s", np.random.default_rng(1).normal(size=(ROWS, DIM)).astype(np.float32))


def _directory(segment: Segment) -> ListDirectory:
    return decode_directory(segment.regions["coarse"], name="s", segment=segment.uuid)


@pytest.mark.parametrize("metric", Metric)
def test_lists_hold_every_row_and_say_where_its_parts_are(tmp_path: Path, metric: Metric) -> None:
    segment = _write(tmp_path / "s", np.random.default_rng(1).normal(size=(ROWS, DIM)).astype(np.float32), metric)
    data, directory = (tmp_path / "s").read_bytes(), _directory(segment)
    seen: list[int] = []
    for number in range(len(directory)):
        start, end = directory.range_of(number)
        found = RowList(data[start:end], number, directory, name="s")
        rows = found.entries["row"].astype(np.int64)
        seen += rows.tolist()
        assert [found.id_at(row) for row in range(found.rows)] == segment.id_at(rows)
        exact = segment.vectors[rows]
        if segment.inverse_norms is not None:
            exact = exact * segment.inverse_norms[rows][:, None]
        # half a step, and rounding
        near = -found.distances(np.eye(DIM, dtype=np.float32), Metric.DOT).T
        assert (np.abs(near - exact) <= 0.501 * found.entries["step"][:, None] + 1e-6).all()
        queries = np.random.default_rng(3).normal(size=(4, DIM)).astype(np.float32)
        squares = np.square(queries[:, None] - near[None]).sum(axis=2)
        assert np.allclose(found.distances(queries, Metric.EUCLIDEAN), squares, rtol=1e-4, atol=1e-4)
        assert np.allclose(found.distances(queries, Metric.COSINE), -queries @ near.T, rtol=1e-4, atol=1e-4)
        for entry, payload in zip(found.entries, segment.payloads(rows), strict=True):
            assert _payload(data, directory, entry) == payload
    assert sorted(seen) == list(range(ROWS))


def _payload(data: bytes, directory: ListDirectory, entry: np.void) -> bytes | None:
    if entry["bytes"] == NO_PAYLOAD:
        return None
    if not entry["bytes"]:
        return b""
    at = directory.payloads_at + int(entry["place"])
    block = decode_block(memoryview(data)[at : at + int(entry["packed"])], int(entry["unpacked"]))
    return block[int(entry["start"]) : int(entry["start"]) + int(entry["bytes"])]


def test_a_copy_with_a_graph_keeps_its_lists(segment: Segment, tmp_path: Path) -> None:
    spec = CollectionSpec("p", DIM)
    stats = write_segment(tmp_path / "c", uuid=COPY, spec=spec, sources=[Source(segment)], graph=memoryview(bytes(999)))
    data = (tmp_path / "c").read_bytes()
    copy = Segment.open(tmp_path / "c", name="c", verify=True)
    assert copy.regions["lists"] == segment.regions["lists"]
    directory = decode_directory(data[len(data) - stats.coarse_bytes :], name="c", segment=COPY)
    start, end = directory.range_of(0)
    assert data[start:end] == bytes(copy.regions["lists"][: end - start])
    assert data[directory.vectors_at :].startswith(bytes(copy.regions["vectors"]))
    assert data[directory.payloads_at :].startswith(bytes(copy.regions["paydata"]))


def test_small_segments_have_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "LISTS_BYTES_MIN", 4 * ROWS * DIM + 1)
    assert "coarse" not in _write(tmp_path / "s", np.ones((ROWS, DIM), np.float32)).regions


def test_any_flipped_bit_is_told(segment: Segment) -> None:
    directory = _directory(segment)
    whole = bytes(segment.regions["coarse"])
    for at in np.random.default_rng(2).integers(0, 8 * len(whole), 300).tolist():
        damaged = bytearray(whole)
        damaged[at // 8] ^= 1 << at % 8
        with pytest.raises(CorruptionError, match="object s: region coarse"):
            decode_directory(bytes(damaged), name="s", segment=SEGMENT)
    start, end = directory.range_of(3)
    first = directory.range_of(0)[0]
    piece = bytes(segment.regions["lists"][start - first : end - first])
    RowList(piece, 3, directory, name="s")
    with pytest.raises(CorruptionError, match="object s: list 3"):
        RowList(piece[:-1] + bytes([piece[-1] ^ 8]), 3, directory, name="s")
    with pytest.raises(CorruptionError, match="object s: list 3"):
        RowList(piece[:-1], 3, directory, name="s")


@pytest.mark.parametrize("length", [0, 30, 80, 200])
def test_a_short_directory_is_told(segment: Segment, length: int) -> None:
    with pytest.raises(CorruptionError, match="region coarse"):
        decode_directory(bytes(segment.regions["coarse"][:length]), name="s", segment=SEGMENT)


def test_the_directory_of_another_segment_is_told(segment: Segment) -> None:
    with pytest.raises(CorruptionError, match="it is of segment"):
        decode_directory(segment.regions["coarse"], name="s", segment=COPY)


@given(st.floats(0, 1))
def test_more_lists_are_read_for_more_recall(recall: float) -> None:
    measured = np.linspace(0.2, 0.9, len(PROBES)).astype(np.float32)
    table = np.zeros(300, np.dtype([("start", "<u8")]))
    empty = np.empty(0, np.uint32)
    directory = ListDirectory(SEGMENT, 1, 1, 1.0, 0, 0, 0, measured, table, empty, np.empty((0, 1), np.int8))
    count = directory.lists_for(recall)
    assert 1 <= count <= 300
    assert count <= directory.lists_for(min(1.0, recall + 0.1))
    if recall > measured[-1]:
        assert count == 300


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 90), st.integers(1, 40))
def test_recall_is_measured_on_any_number_of_rows(
    tmp_path_factory: pytest.TempPathFactory, rows: int, dim: int
) -> None:
    vectors = np.random.default_rng(rows).normal(size=(rows, dim)).astype(np.float32)
    directory = _directory(_write(tmp_path_factory.mktemp("s") / "s", vectors))
    assert (np.diff(directory.recall) >= 0).all()
    assert directory.recall[-1] == 1
