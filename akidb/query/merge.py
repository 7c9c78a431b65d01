"""Answers of several parts become one, for all queries of a batch at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from akidb.query.plan import Batch
from akidb.query.snapshot import Part
from akidb.types import Metric, ScoredPoint, VectorArray


@dataclass(frozen=True, slots=True, eq=False)
class Hits:
    """A part's answer: `rows` int64 and `distances` float32, both (queries, k), best first; row -1 pads."""

    part: Part
    rows: npt.NDArray[np.int64]
    distances: VectorArray


def merge(hits: Sequence[Hits], top_k: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], VectorArray]:
    """The best `top_k` of all parts: index into `hits`, row and distance, each (queries, at most top_k), best first.

    Equal distances are ordered by id. Inside one part the native search has already cut ties at k by row number, so
    an answer is the same for the same snapshot, while another layout of the same points may cut such a tie elsewhere.
    """
    rows = np.concatenate([hit.rows for hit in hits], axis=1)
    distances = np.concatenate([hit.distances for hit in hits], axis=1)
    source = np.repeat(np.arange(len(hits)), [hit.rows.shape[1] for hit in hits])
    order = np.lexsort((distances, rows < 0), axis=1)
    each = np.arange(len(rows))[:, None]  # as an index this costs a fifth of take_along_axis, on every search
    ranked = distances[each, order]
    found = (rows >= 0).sum(axis=1)
    for query in np.flatnonzero((ranked[:, 1:] == ranked[:, :-1]).any(axis=1)).tolist():
        real = order[query, : found[query]]
        order[query, : found[query]] = _by_id(hits, rows[query], distances[query], source, real, top_k)
    order = order[:, :top_k]
    return source[order], rows[each, order], distances[each, order]


def _by_id(
    hits: Sequence[Hits],
    rows: npt.NDArray[np.int64],
    distances: VectorArray,
    source: npt.NDArray[np.int64],
    ranked: npt.NDArray[np.int64],
    top_k: int,
) -> npt.NDArray[np.int64]:
    """One query's candidates `ranked` by distance, ranked anew by distance and id as far as they can reach the top."""
    if not len(ranked):
        return ranked
    worst = distances[ranked[min(top_k, len(ranked)) - 1]]
    contenders = ranked[distances[ranked] <= worst]
    ids: dict[int, str] = {}
    for at, hit in enumerate(hits):
        mine = contenders[source[contenders] == at]
        ids.update(zip(mine.tolist(), hit.part.columns.id_at(rows[mine]), strict=True))
    best = sorted(contenders.tolist(), key=lambda i: (distances[i], ids[i]))
    return np.concatenate([np.array(best, np.int64), ranked[len(best) :]])


def points(hits: Sequence[Hits], batch: Batch, metric: Metric) -> list[list[ScoredPoint]]:
    """The batch's answers, one list per query in its order, with what the queries want to see of each point."""
    source, rows, distances = merge(hits, batch.top_k)
    ids, payloads, vectors = (np.full(rows.shape, None, object) for _ in range(3))
    for at, hit in enumerate(hits):
        mine = (source == at) & (rows >= 0)
        chosen, columns = rows[mine], hit.part.columns
        ids[mine] = columns.id_at(chosen)
        if batch.with_payload:
            payloads[mine] = columns.payloads(chosen)
        if batch.with_vector:
            vectors[mine] = _objects(list(columns.vectors[chosen]))
    found = (rows >= 0).sum(axis=1).tolist()
    columns_of_answers = zip(
        found, ids.tolist(), metric.scores(distances).tolist(), payloads.tolist(), vectors.tolist(), strict=True
    )
    return [
        [ScoredPoint(*fields) for fields in zip(names[:n], scores[:n], texts[:n], arrays[:n], strict=True)]
        for n, names, scores, texts, arrays in columns_of_answers
    ]


def _objects(items: Sequence[object]) -> npt.NDArray[np.object_]:
    """A one-dimensional array of objects that numpy would otherwise unpack."""
    array = np.empty(len(items), object)
    for i, item in enumerate(items):
        array[i] = item
    return array
