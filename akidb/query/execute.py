"""Searches a snapshot: each part by its cheapest way, parts side by side, one native call for queries alike."""

from __future__ import annotations

import contextvars
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import TypeVar

from akidb.errors import DeadlineExceededError
from akidb.index import GraphIndex, scan
from akidb.query.merge import Hits, points
from akidb.query.plan import Batch, SearchQuery, batches, walk_evaluations
from akidb.query.snapshot import Part, Snapshot
from akidb.telemetry.tracing import span
from akidb.types import CollectionSpec, Metric, ScoredPoint

T = TypeVar("T")

_PARALLEL_WORK_MIN = 1 << 21
"""Products below which handing a part to another thread costs more than it saves (about 0.2 ms of scanning)."""


def execute(
    snapshot: Snapshot, queries: Sequence[SearchQuery], *, deadline: float | None = None, max_parallel: int = 1
) -> list[list[ScoredPoint]]:
    """The answers in the order of `queries`, each best first, equal scores by id.

    Args:
        deadline: time.monotonic() seconds.
        max_parallel: threads at work at the same time, the caller's included.

    Raises:
        DeadlineExceededError: the deadline passed; the work has stopped.
        InvalidInputError: a vector's shape does not fit.
        CorruptionError: a segment's bytes do not make sense.
    """
    groups = batches(queries, snapshot.spec)
    jobs = [(batch, part) for batch in groups for part in snapshot.parts if part.live_rows]
    work = sum(_work(part, batch, snapshot.spec) for batch, part in jobs)
    workers = max_parallel if work >= _PARALLEL_WORK_MIN else 1
    threads = max(1, workers // max(1, len(jobs)))
    metric = snapshot.spec.metric
    hits = run([partial(_search, part, batch, snapshot.spec, deadline, threads) for batch, part in jobs], workers)
    answers: list[list[ScoredPoint]] = [[] for _ in queries]
    for batch in groups:
        found = [hit for (other, _), hit in zip(jobs, hits, strict=True) if other is batch and hit is not None]
        if found:
            for position, answer in zip(batch.positions, points(found, batch, metric), strict=True):
                answers[position] = above(answer, queries[position].score_threshold, metric)
    return answers


def _work(part: Part, batch: Batch, spec: CollectionSpec) -> int:
    """Products that answering takes without a filter, roughly."""
    rows = part.columns.rows
    if _graph(part, batch, spec) is not None:
        rows = min(rows, walk_evaluations(batch, spec.index.m))
    return rows * batch.vectors.size


def _graph(part: Part, batch: Batch, spec: CollectionSpec) -> GraphIndex | None:
    """The graph to walk. One that is left of former parameters is not used where the collection is flat now."""
    return None if batch.exact or spec.index.type == "flat" else part.columns.graph


def _search(part: Part, batch: Batch, spec: CollectionSpec, deadline: float | None, threads: int) -> Hits | None:
    """One part's answer to a batch, None if no row matches."""
    if deadline is not None and time.monotonic() >= deadline:
        raise DeadlineExceededError("the search's time ran out before all parts were searched")
    with span("filter_results", filtered=batch.filter is not None):
        allowed, matches = part.matching(batch.filter)
    if not matches:
        return None
    columns, k = part.columns, min(batch.top_k, matches)
    graph = _graph(part, batch, spec)
    if graph is None:
        rows, distances = scan(
            columns.vectors, spec.metric.native, batch.vectors, k,
            allowed=allowed, deadline=deadline, threads=threads, inverse_norms=columns.inverse_norms,
        )  # fmt: skip
    else:
        ef_search = batch.ef_search
        if batch.target_recall is not None and graph.is_calibrated:
            ef_search = graph.ef_for(k, batch.target_recall)
        with span("hnsw_search", ef_search=ef_search, rows=columns.rows):
            rows, distances = graph.search(
                batch.vectors, k, ef_search=ef_search, allowed=allowed, deadline=deadline, threads=threads
            )
    return Hits(part, rows, distances)


def above(answer: list[ScoredPoint], threshold: float | None, metric: Metric) -> list[ScoredPoint]:
    """The points of an answer that are no worse than `threshold`."""
    if threshold is None:
        return answer
    if metric is Metric.EUCLIDEAN:
        return [point for point in answer if point.score <= threshold]
    return [point for point in answer if point.score >= threshold]


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="akidb-query")


def run(jobs: Sequence[Callable[[], T]], workers: int) -> list[T]:
    """Results of all jobs in their order, by up to `workers` threads of which the caller is one.

    Because the caller works too, a search comes to its end also when the pool is taken by others. The first error
    stops the jobs that have not begun and is raised.
    """
    helpers = min(workers, len(jobs)) - 1
    if helpers < 1:
        return [job() for job in jobs]
    results: list[T | None] = [None] * len(jobs)
    remaining = deque(range(len(jobs)))
    failed = threading.Event()

    def take() -> None:
        while remaining and not failed.is_set():
            try:
                i = remaining.popleft()
            except IndexError:  # another thread took the last one
                return
            try:
                results[i] = jobs[i]()
            except BaseException:
                failed.set()
                raise

    tasks = [_pool().submit(contextvars.copy_context().run, take) for _ in range(helpers)]
    try:
        take()
    finally:
        failures = [task.exception() for task in tasks if not task.cancel()]
    for failure in failures:
        if failure is not None:
            raise failure
    return results  # type: ignore[return-value]
