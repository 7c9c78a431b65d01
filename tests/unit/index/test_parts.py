"""Building upon the graphs of parts: what is refused, progress, stopping. What is found: tests/recall."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from akidb.errors import AkiDBError, CorruptionError, InvalidInputError
from akidb.index import GraphIndex, GraphPart, build_graph

VECTORS = np.random.default_rng(3).standard_normal((600, 8), np.float32)


def part(rows: slice, graph: memoryview | None = None) -> GraphPart:
    vectors = VECTORS[rows]
    return GraphPart(graph or build_graph(vectors, "l2", m=8, ef_construction=40), np.ones(len(vectors), np.bool_))


def test_bytes_are_of_the_union() -> None:
    parts = [part(slice(0, 200)), part(slice(200, 600))]
    reports: list[tuple[int, int]] = []
    graph = build_graph(
        VECTORS, "l2", m=8, ef_construction=40, parts=parts, progress=lambda *done: reports.append(done)
    )
    index = GraphIndex(VECTORS, graph, "l2")
    assert index.validate() | {"links": 0, "level": 0} == {"nodes": 600, "links": 0, "unreachable": 0, "level": 0}
    found = index.search(VECTORS, 1, ef_search=60)[0]
    assert (found[:, 0] == np.arange(600)).mean() > 0.99
    assert (200, 200) in reports  # those that join the larger part


def test_rows_that_do_not_fit_are_refused() -> None:
    parts = [part(slice(0, 200)), part(slice(200, 500))]
    with pytest.raises(InvalidInputError, match="500 rows are live, there are 600 vectors"):
        build_graph(VECTORS, "l2", m=8, ef_construction=40, parts=parts)
    wrong = part(slice(0, 100), parts[0].graph)
    with pytest.raises(CorruptionError, match="built over 200 vectors, its part has 100"):
        build_graph(VECTORS[:100], "l2", m=8, ef_construction=40, parts=[wrong])


def test_it_can_be_stopped() -> None:
    stop = threading.Event()
    stop.set()
    vectors = np.concatenate([VECTORS, VECTORS])  # enough of them that sealing takes steps
    parts = [part(slice(0, 600)), part(slice(0, 600))]
    with pytest.raises(AkiDBError) as stopped:
        build_graph(vectors, "l2", m=8, ef_construction=40, parts=parts, stop=stop)
    assert stopped.value.code == "cancelled"
