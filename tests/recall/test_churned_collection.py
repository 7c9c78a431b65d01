"""Recall@10 of a collection whose points are replaced by half ten times over, through folds and merges."""

from __future__ import annotations

import numpy as np

from akidb.config import Settings
from akidb.config.settings import Compaction
from akidb.database import Database
from akidb.index import GraphIndex, build_graph, scan
from akidb.query import SearchQuery
from akidb.storage.memory import MemoryStore
from akidb.types import CollectionSpec, IndexParams, Metric
from bench.data import clustered
from tests.recall.test_hnsw_recall import recall

N, DIM, K, EF, ROUNDS = 3000, 48, 10, 40, 10
INDEX = IndexParams(m=12, ef_construction=100, ef_search=EF)


async def test_half_of_the_points_replaced_ten_times() -> None:
    """As good as one graph built anew over what is there, and all of it can be reached, however the rows are cut."""
    settings = Settings(compaction=Compaction(target_bytes=8 << 20))
    database = await Database.open(MemoryStore(), settings)
    collection = await database.create_collection(CollectionSpec("churned", DIM, Metric.EUCLIDEAN, INDEX))
    data = clustered(N * (2 + ROUNDS) // 2, DIM, queries=300, seed=21)
    rng, now, work = np.random.default_rng(22), data.base[:N].copy(), collection.writers[0].maintenance
    await collection.upsert(range(N), now)
    merges = 0
    for number in range(ROUNDS):
        fresh_rows = data.base[N + number * N // 2 :][: N // 2]
        chosen = rng.permutation(N)[: N // 2]
        now[chosen] = fresh_rows
        for part in np.array_split(chosen, 2):
            await collection.upsert(part.tolist(), now[part])
            await collection.wait_indexed()
            while merging := work._next_to_merge():
                await work.merge(merging)
                merges += 1
    state = collection.shards[0].state
    assert merges >= ROUNDS
    assert state.tail_rows == 0
    assert sum(segment.ref.live for segment in state.segments) == N
    assert max(1 - segment.ref.live / segment.ref.rows for segment in state.segments) <= 0.25
    for segment in state.segments:
        assert segment.reader.graph.validate()["unreachable"] == 0
    exact = scan(now, "l2", data.queries, K)[0]
    hits = await collection.search([SearchQuery(query, top_k=K) for query in data.queries], timeout_ms=60_000)
    found = np.array([[int(hit.id) for hit in each] for each in hits])
    anew = build_graph(now, "l2", m=INDEX.m, ef_construction=INDEX.ef_construction)
    floor = recall(GraphIndex(now, anew, "l2").search(data.queries, K, ef_search=EF)[0], exact)
    assert recall(found, exact) >= floor - 0.01
    everything = await collection.scroll(limit=N + 1, with_vector=True)
    assert len(everything) == N
    assert all(np.array_equal(point.vector, now[int(point.id)]) for point in everything)
    await database.close()
