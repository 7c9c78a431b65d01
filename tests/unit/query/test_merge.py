"""Merging ranked lists equals sorting everything."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from akidb.query.merge import Hits, merge
from akidb.query.snapshot import Part
from akidb.segment import MemTable
from akidb.types import CollectionSpec

SPEC = CollectionSpec("points", 1)

distances = st.lists(st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0, float("inf")]), max_size=6), min_size=1, max_size=4)


def part_of(ids: list[str]) -> Part:
    table = MemTable(SPEC)
    table.apply_upsert(ids, np.ones((len(ids), 1), np.float32), [None] * len(ids), 1)
    return Part(table.snapshot())


def padded(values: list[float], width: int) -> tuple[list[int], list[float]]:
    """Rows 0, 1, … by rising distance, then padding."""
    order = sorted(range(len(values)), key=lambda row: (values[row], row))
    missing = width - len(values)
    return [*order, *[-1] * missing], [*(values[row] for row in order), *[np.inf] * missing]


@given(distances, distances, st.integers(1, 12))
def test_merge_equals_a_sort_by_distance_and_id(one: list[list[float]], two: list[list[float]], top_k: int) -> None:
    queries = min(len(one), len(two))
    hits = []
    for name, lists in (("x", one), ("y", two)):
        width = max(map(len, lists))
        ranked = [padded(values, width) for values in lists[:queries]]
        ids = [f"{(row * 7) % 6}{name}" for row in range(6)]  # neither row order nor part order is id order
        rows, found = np.array([r for r, _ in ranked]), np.array([d for _, d in ranked], np.float32)
        hits.append(Hits(part_of(ids), rows.reshape(queries, -1).astype(np.int64), found.reshape(queries, -1)))
    source, rows, found = merge(hits, top_k)
    for query in range(queries):
        wanted = sorted(
            (value, f"{(row * 7) % 6}{name}")
            for name, lists in (("x", one), ("y", two))
            for row, value in enumerate(lists[query])
        )[:top_k]
        got = [
            (float(found[query, i]), hits[source[query, i]].part.columns.id_at([rows[query, i]])[0])
            for i in range(rows.shape[1])
            if rows[query, i] >= 0
        ]
        assert got == wanted
        assert (rows[query, len(got) :] == -1).all()


def test_merge_does_not_look_up_ids_without_ties() -> None:
    asked: list[int] = []
    part = part_of(["b", "a", "c"])
    look_up: Callable[[object], list[str]] = part.columns.id_at

    def id_at(rows: object) -> list[str]:
        asked.append(1)
        return look_up(rows)

    part.columns.id_at = id_at  # type: ignore[method-assign, assignment]
    rows = np.array([[0, 1, 2]])
    merge([Hits(part, rows, np.array([[0.1, 0.2, 0.3]], np.float32))], 3)
    assert not asked
    _, ranked, _ = merge([Hits(part, rows, np.array([[0.1, 0.1, 0.3]], np.float32))], 3)
    assert asked
    assert ranked.tolist() == [[1, 0, 2]]
