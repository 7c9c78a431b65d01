"""What is asked, which queries go together, and by which way a part answers them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from akidb.errors import Fault, InvalidInputError
from akidb.filter import Filter
from akidb.types import CollectionSpec, VectorArray


@dataclass(frozen=True, slots=True, eq=False)
class SearchQuery:
    """One search.

    Args:
        vector: (dim,), finite.
        top_k: how many points at most, at least 1.
        filter: only points it matches; None means all.
        ef_search: width of the graph walk, raised to top_k; None takes the collection's.
        target_recall: in place of ef_search, the share of the nearest to be found: each graph is walked as widely as
            that took when it was built, or by the collection's ef_search where that was not measured.
        exact: compare with every point instead of walking graphs.
        score_threshold: drops worse scores: larger ones for Euclidean, smaller ones otherwise.
    """

    vector: VectorArray
    top_k: int = 10
    filter: Filter | None = None
    ef_search: int | None = None
    target_recall: float | None = None
    exact: bool = False
    with_vector: bool = False
    with_payload: bool = True
    score_threshold: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Queries that differ in nothing but vector and threshold: one native call per part answers them all."""

    positions: list[int]
    vectors: VectorArray
    top_k: int
    filter: Filter | None
    ef_search: int
    target_recall: float | None
    exact: bool
    with_vector: bool
    with_payload: bool


_Parameters: TypeAlias = tuple[int, Filter | None, int, float | None, bool, bool, bool]


def batches(queries: Sequence[SearchQuery], spec: CollectionSpec) -> list[Batch]:
    """Groups queries by equal parameters; `positions` are their places in `queries`.

    Raises:
        InvalidInputError: `dimension_mismatch`, or `invalid_top_k` below 1.
    """
    groups: dict[_Parameters, list[int]] = {}
    for i, query in enumerate(queries):
        _check(query, spec, i)
        ef_search = max(query.top_k, spec.index.ef_search if query.ef_search is None else query.ef_search)
        width = (ef_search, query.target_recall)
        parameters = (query.top_k, query.filter, *width, query.exact, query.with_vector, query.with_payload)
        groups.setdefault(parameters, []).append(i)
    return [
        Batch(positions, np.array([queries[i].vector for i in positions], np.float32), *parameters)
        for parameters, positions in groups.items()
    ]


def _check(query: SearchQuery, spec: CollectionSpec, position: int) -> None:
    shape = np.shape(query.vector)
    if shape != (spec.dim,):
        msg = f"has shape {shape}, the collection has dimension {spec.dim}"
        fault = Fault(("queries", position, "vector"), msg)
        raise InvalidInputError(f"queries.{position}.vector: {msg}", code="dimension_mismatch", faults=[fault])
    if query.top_k < 1:
        msg = f"is {query.top_k}, expected at least 1"
        fault = Fault(("queries", position, "top_k"), msg)
        raise InvalidInputError(f"queries.{position}.top_k: {msg}", code="invalid_top_k", faults=[fault])


def walk_evaluations(batch: Batch, m: int) -> int:
    """Distances that a walk computes for one query when every row is allowed, about."""
    return batch.ef_search * m
