"""The same rows in each format, read in batches, with the bad ones set aside and named."""

from __future__ import annotations

import csv
import json
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from akidb.errors import InvalidInputError
from akidb.ingest.batch import Batch, Columns
from akidb.ingest.sources import Format, Source, find_sources

COLUMNS = Columns("v", "id")
ROWS = 25


def write_parquet(path: Path, kind: Any = None) -> None:
    vectors = np.arange(ROWS * 3, dtype=np.float32).reshape(ROWS, 3)
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 3)
    if kind is not None:
        column = column.cast(kind)
    ids = [f"p{row}" for row in range(ROWS)]
    kinds = [None if row % 5 == 0 else f"k{row}" for row in range(ROWS)]
    table = pa.table({"id": ids, "v": column, "n": range(ROWS), "kind": kinds})
    pq.write_table(table, path, row_group_size=7)


def write_jsonl(path: Path) -> None:
    with path.open("w") as file:
        for row in range(ROWS):
            entry = {"id": f"p{row}", "v": [row * 3, row * 3 + 1, row * 3 + 2], "n": row}
            file.write(json.dumps(entry | ({} if row % 5 == 0 else {"kind": f"k{row}"})) + "\n")


def write_csv(path: Path) -> None:
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["id", "v", "n", "kind"])
        for row in range(ROWS):
            out.writerow([f"p{row}", [row * 3, row * 3 + 1, row * 3 + 2], row, "" if row % 5 == 0 else f"k{row}"])


WRITERS = {"parquet": write_parquet, "jsonl": write_jsonl, "csv": write_csv}


def read(path: Path, columns: Columns = COLUMNS, *, size: int = 10, skip: int = 0) -> list[Batch]:
    (source,) = find_sources([str(path)], None)
    return list(source.read(columns, rows_per_batch=size, skip=skip, dim=None))


def ids(batches: list[Batch]) -> list[str]:
    return [name for batch in batches for name in batch.ids]


def reasons(batches: list[Batch]) -> dict[int, str]:
    return {reject.line: reject.reason for batch in batches for reject in batch.rejects}


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("size", [1, 7, 10, 100])
@pytest.mark.parametrize("skip", [0, 1, 7, 20, 24])
def test_every_format_gives_the_rows_behind_skip(tmp_path: Path, kind: Format, size: int, skip: int) -> None:
    path = tmp_path / f"rows.{kind}"
    WRITERS[kind](path)
    batches = read(path, size=size, skip=skip)
    assert ids(batches) == [f"p{row}" for row in range(skip, ROWS)]
    assert all(len(batch.ids) <= size for batch in batches)
    assert batches[-1].end == ROWS
    vectors = np.concatenate([batch.vectors for batch in batches])
    assert vectors.dtype == np.float32
    assert np.array_equal(vectors, np.arange(skip * 3, ROWS * 3).reshape(-1, 3))
    payloads = [json.loads(payload) for batch in batches for payload in batch.payloads if payload]
    assert payloads == [{"n": row} | ({} if row % 5 == 0 else {"kind": f"k{row}"}) for row in range(skip, ROWS)]


@pytest.mark.parametrize("kind", WRITERS)
def test_a_file_that_was_read_to_its_end_gives_nothing_more(tmp_path: Path, kind: Format) -> None:
    path = tmp_path / f"rows.{kind}"
    WRITERS[kind](path)
    assert read(path, skip=ROWS) == []


@pytest.mark.parametrize("kind", WRITERS)
def test_without_an_id_column_ids_are_the_content_and_the_line(tmp_path: Path, kind: Format) -> None:
    first, renamed = tmp_path / f"rows.{kind}", tmp_path / f"other.{kind}"
    WRITERS[kind](first)
    renamed.write_bytes(first.read_bytes())
    columns = Columns("v", payload=())
    found = ids(read(first, columns))
    assert len(set(found)) == ROWS
    assert ids(read(renamed, columns, size=3)) == found
    assert ids(read(first, columns, skip=9)) == found[9:]


@pytest.mark.parametrize("kind", WRITERS)
def test_only_the_named_payload_columns_are_taken(tmp_path: Path, kind: Format) -> None:
    path = tmp_path / f"rows.{kind}"
    WRITERS[kind](path)
    batches = read(path, Columns("v", "id", ("n",)))
    assert [payload for batch in batches for payload in batch.payloads] == [b'{"n":%d}' % n for n in range(ROWS)]
    assert {payload for batch in read(path, Columns("v", "id", ())) for payload in batch.payloads} == {None}


@pytest.mark.parametrize(("kind", "column"), [("parquet", "v"), ("parquet", "id"), ("csv", "v"), ("csv", "id")])
def test_a_missing_column_names_those_there_are(tmp_path: Path, kind: Format, column: str) -> None:
    path = tmp_path / f"rows.{kind}"
    WRITERS[kind](path)
    columns = Columns("v2" if column == "v" else "v", "id2" if column == "id" else "id")
    with pytest.raises(InvalidInputError, match=f"no column '{column}2', there are id, v, n, kind") as caught:
        read(path, columns)
    assert caught.value.code == "unknown_column"


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.float64()), pa.large_list(pa.float16()), pa.list_(pa.int16()), pa.list_(pa.float16(), 3)]
)
def test_parquet_takes_lists_of_any_numbers(tmp_path: Path, kind: Any) -> None:
    write_parquet(tmp_path / "rows.parquet", kind)
    vectors = np.concatenate([batch.vectors for batch in read(tmp_path / "rows.parquet", skip=8)])
    assert vectors.dtype == np.float32
    assert np.array_equal(vectors, np.arange(24, ROWS * 3).reshape(-1, 3))


def test_parquet_rejects_rows_by_number(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    vectors = [[1.0, 2.0], [1.0], None, [3.0, 4.0], [], [5.0, None], [6.0, 7.0]]
    table = pa.table({"id": [1, 2, 3, None, 5, 6, 7], "v": vectors, "day": [date(2024, 5, 1)] * 7})
    pq.write_table(table, path)
    batches = read(path)
    assert ids(batches) == ["1", "6", "7"]
    assert reasons(batches) == {
        2: "the vector has 1 dimensions, expected 2",
        3: "there is no vector",
        4: "there is no id",
        5: "the vector has 0 dimensions, expected 2",
    }
    assert np.isnan(batches[0].vectors[1, 1])
    assert batches[0].payloads[0] == b'{"day":"2024-05-01"}'


def test_parquet_refuses_a_column_without_vectors_and_a_file_that_is_none(tmp_path: Path) -> None:
    pq.write_table(pa.table({"v": ["a"]}), tmp_path / "text.parquet")
    with pytest.raises(InvalidInputError, match="column 'v' is string, expected lists of numbers"):
        read(tmp_path / "text.parquet", Columns("v"))
    (tmp_path / "none.parquet").write_bytes(b"PAR1 is not enough")
    with pytest.raises(InvalidInputError, match="not readable as Parquet") as caught:
        read(tmp_path / "none.parquet")
    assert caught.value.code == "unreadable_file"


def test_jsonl_rejects_lines_by_number_and_keeps_payloads_as_written(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(
        b'{"id": "a", "v": [1, 2], "x": 1.50, "y": {"z":  [ ] }}\n'
        b"\n"
        b'{"id": "b", "v": [1, 2]\n'
        b'{"id": "c", "v": "1 2"}\n'
        b'{"id": "d"}\n'
        b'{"id": true, "v": [1, 2]}\n'
        b'{"v": [1, 2]}\n'
        b'{"id": "\xff", "v": [1, 2]}\n'
        b"[1]\n"
        b'{"id": 7, "v": [3, 4], "payload": {"k": "v"}}\n'
        b'{"id": "e", "v": [1, 2, 3]}\n'
        b'{"id": "f", "v": []}'
    )
    batches = read(path, size=4)
    assert ids(batches) == ["a", "7"]
    payloads = [payload for batch in batches for payload in batch.payloads]
    assert payloads == [b'{"x":1.50,"y":{"z":  [ ] }}', b'{"k": "v"}']
    found = reasons(batches)
    assert sorted(found) == [3, 4, 5, 6, 7, 8, 9, 11, 12]
    assert found[5] == "there is no field 'v'"
    assert found[7] == "there is no id"
    assert found[11] == "the vector has 3 dimensions, expected 2"
    assert batches[-1].end == 12


def test_csv_reads_cells_as_what_they_are_written_as(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('﻿id,v,a\n1,0.5 1,12\n2,"[1, 2]",007\n3,"1;2",true\n4,"1,2",-1.5e3\n5,1 2,"two\nlines"\n6,1 2,\n')
    batches = read(path)
    assert ids(batches) == ["1", "2", "3", "4", "5", "6"]
    payloads = [payload and json.loads(payload) for payload in batches[0].payloads]
    assert payloads == [{"a": 12}, {"a": "007"}, {"a": True}, {"a": -1500}, {"a": "two\nlines"}, None]
    assert list(batches[0].lines) == [2, 3, 4, 5, 7, 8]


def test_csv_rejects_records_by_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(b"id,v,a\n1,1 2,x\n2,1 2\n3,1 two,x\n,1 2,x\n4,1 2,\xff\n\xfe,1 2,x\n\n5,1,x\n6,3 4,x\n")
    batches = read(path)
    assert ids(batches) == ["1", "6"]
    assert reasons(batches) == {
        3: "the record has 2 cells, the header 3",
        4: "the vector is no list of numbers: could not convert string to float: 'two'",
        5: "there is no id",
        6: "the payload is not UTF-8",
        7: "the id is not UTF-8",
        9: "the vector has 1 dimensions, expected 2",
    }
    assert [batch.end for batch in read(path, size=3, skip=6)] == [9]


def test_csv_refuses_a_header_that_is_empty_or_double(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(InvalidInputError, match="no header"):
        read(tmp_path / "empty.csv")
    (tmp_path / "twice.csv").write_text("id,v,id\n")
    with pytest.raises(InvalidInputError, match="column 'id' stands twice"):
        read(tmp_path / "twice.csv")


def test_sources_of_a_folder_come_by_name_and_others_are_left(tmp_path: Path) -> None:
    for name in ("b.csv", "a.jsonl", "c.NDJSON", "readme.txt"):
        (tmp_path / name).write_text("x\ny\n")
    assert [(Path(found.path).name, found.format) for found in find_sources([str(tmp_path)], None)] == [
        ("a.jsonl", "jsonl"),
        ("b.csv", "csv"),
        ("c.NDJSON", "jsonl"),
    ]
    assert [found.format for found in find_sources([str(tmp_path)], "csv")] == ["csv"]
    assert find_sources([str(tmp_path / "readme.txt")], "csv") == [
        Source(str(tmp_path / "readme.txt"), "csv", find_sources([str(tmp_path / "readme.txt")], "csv")[0].identity)
    ]
    assert [source.rows() for source in find_sources([str(tmp_path)], None)] == [2, 2, 2]


@pytest.mark.parametrize(
    ("where", "wanted", "message"),
    [
        ("nothing.csv", None, "No such file"),
        ("notes.txt", None, "say --format"),
        ("empty", None, "no file ends"),
        ("-", None, "needs --format"),
    ],
)
def test_no_source_is_refused(tmp_path: Path, where: str, wanted: Format | None, message: str) -> None:
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInputError, match=message):
        find_sources([where if where == "-" else str(tmp_path / where)], wanted)


def test_identity_changes_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("id,v\n")
    (before,) = find_sources([str(path)], None)
    path.write_text("id,v\n1,2\n")
    (after,) = find_sources([str(path)], None)
    assert before.identity != after.identity


def test_parquet_that_is_damaged_inside_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.random.default_rng(0).random(3000, np.float32)), 3)
    pq.write_table(pa.table({"v": vectors}), path, compression="zstd", row_group_size=500)
    content = bytearray(path.read_bytes())
    content[2000:9000] = bytes(7000)  # over the head of the second row group, as pages carry no checksum
    path.write_bytes(content)
    with pytest.raises(InvalidInputError, match="damaged after row") as caught:
        read(path, Columns("v"))
    assert caught.value.code == "unreadable_file"


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "csv"])
def test_one_odd_vector_at_the_start_does_not_set_the_dimension(tmp_path: Path, kind: Format) -> None:
    path = tmp_path / f"rows.{kind}"
    vectors = [[9.0], [1.0, 2.0], [3.0, 4.0]]
    match kind:
        case "parquet":
            pq.write_table(pa.table({"id": [0, 1, 2], "v": vectors}), path)
        case "jsonl":
            path.write_text("".join(json.dumps({"id": id, "v": vector}) + "\n" for id, vector in enumerate(vectors)))
        case "csv":
            path.write_text("id,v\n" + "".join(f'{id},"{vector}"\n' for id, vector in enumerate(vectors)))
    batches = read(path)
    assert ids(batches) == ["1", "2"]
    assert list(reasons(batches).values()) == ["the vector has 1 dimensions, expected 2"]


def test_jsonl_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"id": "a", "v": [1]}\n\xef\xbb\xbf{"id": "b", "v": [1]}\n')
    batches = read(path)
    assert ids(batches) == ["a"]
    assert list(reasons(batches)) == [2]  # a mark is no part of JSON but at the start


@pytest.mark.parametrize("cell", ["1_0 2", "١ 2"])
def test_csv_takes_numbers_as_json_writes_them(tmp_path: Path, cell: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(f"id,v\na,1 2\nb,{cell}\n", "utf-8")
    batches = read(path)
    assert ids(batches) == ["a"]
    assert "no list of numbers" in reasons(batches)[3]


def test_parquet_takes_times_with_nanoseconds_and_rejects_those_that_have_no_text(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    when = pa.array([1577836800000000001, None], pa.timestamp("ns", "UTC"))
    far = pa.array([0, 10**15], pa.timestamp("ms"))
    pq.write_table(pa.table({"id": ["a", "b"], "v": [[1.0], [2.0]], "when": when, "far": far}), path)
    (batch,) = read(path)
    assert [json.loads(text or b"") for text in batch.payloads] == [
        {"when": "2020-01-01T00:00:00Z", "far": "1970-01-01T00:00:00"}
    ]
    assert list(reasons([batch])) == [2]


def test_parquet_refuses_a_column_that_is_there_twice(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    columns = [pa.array(["a"]), pa.array([[1.0]]), pa.array([1]), pa.array([2])]
    pq.write_table(pa.Table.from_arrays(columns, ["id", "v", "x", "x"]), path)
    with pytest.raises(InvalidInputError, match="column 'x' is there twice"):
        read(path)
