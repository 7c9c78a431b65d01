"""The memtable equals a dict of the last writes, and a view of it stays what it was."""

from __future__ import annotations

import json
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from akidb.errors import InvalidInputError
from akidb.filter import evaluate, parse, to_mask
from akidb.segment import MemTable, MemView
from akidb.types import CollectionSpec, Metric

SPEC = CollectionSpec("points", 2, Metric.COSINE)

names = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=4)
operations = st.lists(st.tuples(st.sampled_from(["upsert", "delete"]), names), max_size=30)


def content(view: MemView) -> dict[str, tuple[list[float], bytes | None, int]]:
    rows = np.arange(view.rows) if view.live is None else np.flatnonzero(view.live)
    columns = zip(view.vectors[rows].tolist(), view.payloads(rows), view.lsns[rows].tolist(), strict=True)
    return dict(zip(view.id_at(rows), columns, strict=True))


@settings(deadline=None)
@given(operations)
def test_memtable_equals_a_dict(steps: list[tuple[str, list[str]]]) -> None:
    table = MemTable(SPEC)
    oracle: dict[str, tuple[list[float], bytes | None, int]] = {}
    views: list[tuple[MemView, dict[str, Any]]] = []
    for lsn, (kind, ids) in enumerate(steps, 1):
        if kind == "upsert":
            vectors = np.arange(2 * len(ids), dtype=np.float32).reshape(-1, 2) + lsn
            payloads = [b'{"n":%d}' % i if i % 2 else None for i in range(len(ids))]
            elsewhere = table.apply_upsert(ids, vectors, payloads, lsn)
            assert elsewhere == [id_ for i, id_ in enumerate(ids) if id_ not in oracle and id_ not in ids[:i]]
            oracle |= {id_: (vectors[i].tolist(), payloads[i], lsn) for i, id_ in enumerate(ids)}
        else:
            elsewhere = table.apply_delete(ids, lsn)
            assert elsewhere == [id_ for i, id_ in enumerate(ids) if id_ not in oracle or id_ in ids[:i]]
            oracle = {id_: point for id_, point in oracle.items() if id_ not in ids}
        assert table.live_rows == len(oracle)
        views.append((table.snapshot(), dict(oracle)))
    for view, expected in views:
        assert content(view) == expected
        assert view.live_rows == len(expected)
        rows = view.find(list("abcdefgh"))
        live = (rows >= 0) if view.live is None else (rows >= 0) & view.live[rows]
        assert [id_ for id_, is_live in zip("abcdefgh", live, strict=True) if is_live] == sorted(expected)
        assert view.id_at(view.following(None, 5, view.live)) == sorted(expected)[:5]
        assert view.id_at(view.following("c", 9, view.live)) == [id_ for id_ in sorted(expected) if id_ > "c"]
    for id_ in "abcdefgh":
        found = table.lookup(id_)
        assert (None if found is None else (found[0].tolist(), found[1])) == (
            oracle[id_][:2] if id_ in oracle else None
        )


def test_snapshot_is_the_same_object_until_a_change() -> None:
    table = MemTable(SPEC)
    table.apply_upsert(["a"], np.ones((1, 2), np.float32), [None], 1)
    view = table.snapshot()
    assert table.apply_delete(["nobody"], 2) == ["nobody"]
    assert table.snapshot() is view
    table.apply_delete(["a"], 3)
    assert table.snapshot() is not view
    assert view.live is None


def test_views_can_not_be_written_to() -> None:
    table = MemTable(SPEC)
    table.apply_upsert(["a", "a"], np.ones((2, 2), np.float32), [None, None], 1)
    view = table.snapshot()
    assert view.live is not None
    for array in (view.vectors, view.live, view.lsns, view.inverse_norms):
        assert array is not None
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_inverse_norms_are_kept_for_cosine_only() -> None:
    vectors = np.array([[3, 4], [0, 2]], np.float32)
    for metric in Metric:
        table = MemTable(CollectionSpec("points", 2, metric))
        table.apply_upsert(["a", "b"], vectors, [None, None], 1)
        norms = table.snapshot().inverse_norms
        if metric is Metric.COSINE:
            np.testing.assert_allclose(norms, [0.2, 0.5], rtol=1e-6)
        else:
            assert norms is None


def test_a_payload_that_is_refused_changes_nothing() -> None:
    table = MemTable(SPEC)
    table.apply_upsert(["a"], np.ones((1, 2), np.float32), [b'{"n":1}'], 1)
    before, size = content(table.snapshot()), table.bytes
    with pytest.raises(InvalidInputError):
        table.apply_upsert(["a", "b"], np.ones((2, 2), np.float32), [b'{"n":2}', b"[1"], 2)
    assert content(table.snapshot()) == before
    assert (table.rows, table.live_rows, table.bytes) == (1, 1, size)
    table.apply_upsert(["b"], np.ones((1, 2), np.float32), [b'{"n":2}'], 3)
    assert sorted(content(table.snapshot())) == ["a", "b"]


def test_fields_that_are_indexed_late_are_the_same() -> None:
    tables = [MemTable(SPEC), MemTable(SPEC, lazy_fields=True)]
    under = parse({"field": "n", "range": {"gte": 3, "lt": 30}})
    for lsn in range(1, 9):
        ids = [f"{lsn % 3}-{n}" for n in range(5)]
        payloads = [b'{"n":%d}' % (lsn * n) if n else None for n in range(5)]
        for table in tables:
            table.apply_upsert(ids, np.ones((5, 2), np.float32), payloads, lsn)
        if lsn % 3 == 0:
            ours, late = (table.snapshot() for table in tables)
            mask = to_mask(evaluate(under, late.fields), late.rows)
            np.testing.assert_array_equal(mask, to_mask(evaluate(under, ours.fields), ours.rows))
            assert mask.any()
    assert tables[1].snapshot().fields.to_bytes() == tables[0].snapshot().fields.to_bytes()


def test_bytes_count_what_a_fold_will_write() -> None:
    table = MemTable(CollectionSpec("points", 100))
    table.apply_upsert(["12345"] * 10, np.ones((10, 100), np.float32), [b"{}", *[None] * 9], 1)
    assert table.bytes == 10 * (400 + 16 + 5) + 2


def test_filters_see_the_rows_of_their_view_while_the_table_grows() -> None:
    """Slot n writes value n under one of 50 ids and deletes another: every view must equal the dict after its slot."""
    table = MemTable(SPEC)
    oracle: dict[str, int] = {}
    views: list[tuple[MemView, dict[str, int]]] = []
    ready = threading.Semaphore(0)
    failures: list[str] = []
    slots = 1500
    under = parse({"field": "n", "range": {"gte": 0}})

    def read() -> None:
        for i in range(slots):
            ready.acquire()
            view, expected = views[i]
            mask = to_mask(evaluate(under, view.fields), view.rows)
            if view.live is not None:
                mask &= view.live
            rows = np.flatnonzero(mask)
            values = [json.loads(payload or b"")["n"] for payload in view.payloads(rows)]
            found = dict(zip(view.id_at(rows), values, strict=True))
            firsts = view.vectors[view.find(list(expected))][:, 0].astype(int).tolist()
            if found != expected or firsts != list(expected.values()):
                failures.append(f"view {i}: {found} {firsts}, expected {expected}")

    reader = threading.Thread(target=read)
    reader.start()
    for n in range(slots):
        table.apply_upsert([f"p{n % 50}"], np.full((1, 2), n + 1, np.float32), [b'{"n":%d}' % (n + 1)], n + 1)
        oracle[f"p{n % 50}"] = n + 1
        table.apply_delete([f"p{n * 7 % 50}"], n + 1)
        oracle.pop(f"p{n * 7 % 50}", None)
        views.append((table.snapshot(), dict(oracle)))
        ready.release()
    reader.join()
    assert failures == []
