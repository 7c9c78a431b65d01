"""Golden segments of every version stay readable; docs/formats/segment.md shows the bytes that are written."""

from __future__ import annotations

import re
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest

from akidb.filter import evaluate, parse
from akidb.segment import (
    MemTable,
    RowList,
    Segment,
    Source,
    decode_deletes,
    decode_directory,
    encode_deletes,
    lists,
    write_segment,
)
from akidb.types import CollectionSpec, Metric

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden"
SEGMENT = UUID(int=0x66)
VECTORS = np.array([[3, 4], [0, -2]], np.float32)


def undumped(text: str) -> bytes:
    """The bytes of a dump of lines of 16; `*` stands for lines of zeros."""
    data = bytearray()
    for line in text.splitlines():
        if line != "*":
            data += bytes(int(line[:4], 16) - len(data)) + bytes.fromhex(line[6:])
    return bytes(data)


@pytest.mark.parametrize(("at", "name"), [(0, "segment-1.0.bin"), (1, "deletes-1.0.bin")])
def test_the_worked_examples_are_the_golden_files(at: int, name: str) -> None:
    dumps = re.findall(r"```\n(0000 .*?)```", (ROOT / "docs" / "formats" / "segment.md").read_text(), re.DOTALL)
    assert undumped(dumps[at]) == (GOLDEN / name).read_bytes()


def test_segment_1_0_is_what_is_written(tmp_path: Path) -> None:
    spec = CollectionSpec("points", 2, Metric.COSINE)
    table = MemTable(spec)
    table.apply_upsert(["é", "b"], VECTORS, [b'{"n":1}', None], 5)
    write_segment(tmp_path / "s", uuid=SEGMENT, spec=spec, sources=[Source(table.snapshot())])
    assert (tmp_path / "s").read_bytes() == (GOLDEN / "segment-1.0.bin").read_bytes()


def test_segment_1_0_is_read() -> None:
    segment = Segment.open(GOLDEN / "segment-1.0.bin", name="segment-1.0.bin", verify=True)
    assert (segment.uuid, segment.rows, segment.meta.metric) == (SEGMENT, 2, Metric.COSINE)
    assert segment.id_at([0, 1]) == ["é", "b"]
    assert segment.find(["b", "a", "é"]).tolist() == [1, -1, 0]
    assert segment.following(None, 2, None).tolist() == [1, 0]
    assert segment.payloads([0, 1]) == [b'{"n":1}', None]
    assert segment.lsns.tolist() == [5, 5]
    assert segment.graph is None
    assert evaluate(parse({"field": "n", "match": 1}), segment.fields).to_array().tolist() == [0]
    np.testing.assert_array_equal(segment.vectors, VECTORS)
    np.testing.assert_array_equal(segment.inverse_norms, np.array([0.2, 0.5], np.float32))


def test_the_worked_example_of_lists_is_in_the_golden_file() -> None:
    dumps = re.findall(r"```\n(0000 .*?)```", (ROOT / "docs" / "formats" / "lists.md").read_text(), re.DOTALL)
    segment = Segment.open(GOLDEN / "segment-lists-1.0.bin", name="golden", verify=True)
    assert [undumped(dump) for dump in dumps] == [bytes(segment.regions[name]) for name in ("lists", "coarse")]


def test_segment_with_lists_1_0_is_read_and_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    golden = (GOLDEN / "segment-lists-1.0.bin").read_bytes()
    segment = Segment.open(GOLDEN / "segment-lists-1.0.bin", name="golden", verify=True)
    directory = decode_directory(segment.regions["coarse"], name="golden", segment=SEGMENT)
    start, end = directory.range_of(0)
    rows = RowList(golden[start:end], 0, directory, name="golden")
    assert [rows.id_at(row) for row in range(rows.rows)] == ["é", "b"]
    near = -rows.distances(np.eye(2, dtype=np.float32), Metric.COSINE).T
    np.testing.assert_allclose(near, [[0.6, 0.8], [0, -1]], atol=0.1)
    monkeypatch.setattr(lists, "LISTS_BYTES_MIN", 1)
    spec = CollectionSpec("points", 2, Metric.COSINE)
    table = MemTable(spec)
    table.apply_upsert(["é", "b"], VECTORS, [b'{"n":1}', None], 5)
    write_segment(tmp_path / "s", uuid=SEGMENT, spec=spec, sources=[Source(table.snapshot())])
    assert (tmp_path / "s").read_bytes() == golden


def test_deletes_1_0_is_read_and_written() -> None:
    data = (GOLDEN / "deletes-1.0.bin").read_bytes()
    assert decode_deletes(data, rows=2, name="deletes-1.0.bin", segment=SEGMENT).tolist() == [False, True]
    assert encode_deletes(SEGMENT, np.array([False, True])) == data
