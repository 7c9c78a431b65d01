"""A node whose file cache holds a part of a collection: `python -m bench.storage.partial --rows 200000 --dim 384`.

Real MinIO with 60 ms before every answer, as in bench.storage.cold, and a cache of 15 % of the collection's bytes.
After `--warm` queries that fill the cache, `--queries` are measured, one after the other, bounded reads:

- `uniform`: each query another one, of the distribution that the data is of.
- `zipf`: queries near 1,000 points, the r-th of them with a share of 1/r; no two are equal.

Hit rate is of ranges, by the store's own metrics; bytes and requests are those that went to the store.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import akidb
from akidb.config import Settings
from akidb.storage.instrumented import InstrumentedStore
from akidb.storage.object_store import Reply
from akidb.telemetry.metrics import METRICS
from bench.data import Vectors, clustered
from bench.storage.cold import BOUNDED, NAME, WHERE, ingest, settings_for
from bench.storage.servers import delayed, minio

KINDS = ("uniform", "zipf")
TOPICS, NEARNESS = 1000, 0.3


class Traffic:
    """Bytes and requests of gets, counted where they leave for the store."""

    def __init__(self) -> None:
        self.bytes = self.requests = 0
        get = InstrumentedStore.get

        async def counted(store: InstrumentedStore, *args: Any, **kwargs: Any) -> Reply:
            reply = await get(store, *args, **kwargs)
            self.bytes += len(reply.body)
            self.requests += 1
            return reply

        InstrumentedStore.get = counted  # type: ignore[method-assign]


def _of_cache(name: str) -> float:
    return float(METRICS.registry.get_sample_value(f"akidb_cache_{name}_total", {"tier": "ranges"}) or 0)


def zipf_like(base: Vectors, count: int, rng: np.random.Generator) -> Vectors:
    topics = base[rng.choice(len(base), TOPICS, replace=False)]
    share = 1 / np.arange(1, TOPICS + 1)
    chosen = topics[rng.choice(TOPICS, count, p=share / share.sum())]
    noise = rng.standard_normal(chosen.shape).astype(np.float32)
    lengths = np.linalg.norm(chosen, axis=1, keepdims=True) / np.linalg.norm(noise, axis=1, keepdims=True)
    return np.ascontiguousarray(chosen + NEARNESS * lengths * noise, np.float32)


async def ask(settings: Settings, queries: Vectors, warm: int, traffic: Traffic) -> dict[str, Any]:
    shutil.rmtree(str(settings.cache.hot_path), ignore_errors=True)
    took: list[float] = []
    async with await akidb.connect_async(WHERE, settings=settings) as database:
        collection = await database.collection(NAME)
        for number, query in enumerate(queries):
            if number == warm:
                begun = traffic.bytes, traffic.requests, _of_cache("hits"), _of_cache("misses")
            began = time.perf_counter()
            await collection.search(query, 10, timeout_ms=60_000, consistency=BOUNDED)
            took.append((time.perf_counter() - began) * 1000)
        ended = traffic.bytes, traffic.requests, _of_cache("hits"), _of_cache("misses")
    read, requests, hits, misses = (after - before for before, after in zip(begun, ended, strict=True))
    measured = took[warm:]
    p50, p95, p99 = np.percentile(measured, [50, 95, 99])
    return {
        "hit_rate": round(hits / max(1, hits + misses), 3),
        "ranges": round((hits + misses) / len(measured), 1),
        "kib_read": round(read / len(measured) / 1024, 1),
        "requests": round(requests / len(measured), 2),
        "p50_ms": round(float(p50), 1),
        "p95_ms": round(float(p95), 1),
        "p99_ms": round(float(p99), 1),
    }


async def measure(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    count, rng = given.warm + given.queries, np.random.default_rng(5)
    data = clustered(given.rows, given.dim, queries=count, unit=True)
    traffic = Traffic()
    with minio(folder / "minio") as endpoint:
        cache = folder / "cache"
        near = settings_for(endpoint, cache, given.target_mib)
        took, _ = await ingest(near, data.base, "flat")
        async with await akidb.connect_async(WHERE, settings=near) as database:
            collection = await database.collection(NAME)
            await collection.create_snapshot("whole")  # folds what is in the log
            info = await collection.info()
        size = info.bytes
        found: dict[str, Any] = {"mib": size >> 20, "segments": info.segments, "ingest_s": round(took)}
        with delayed(endpoint, given.latency_ms) as far:
            settings = settings_for(far, cache, given.target_mib)
            part = replace(settings, cache=replace(settings.cache, hot_size_gb=given.share * size / (1 << 30)))
            for kind in given.kinds:
                queries = data.queries if kind == "uniform" else zipf_like(data.base, count, rng)
                found[kind] = await ask(part, queries, given.warm, traffic)
                print(kind, found[kind], flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="of queries: one at a time is shorter")
    parser.add_argument("--share", type=float, default=0.15, help="of the collection's bytes that the cache may hold")
    parser.add_argument("--warm", type=int, default=1000)
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--latency-ms", type=int, default=60)
    parser.add_argument("--target-mib", type=int, default=128, help="compaction.target_bytes, in MiB")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="akidb-partial-") as scratch:
        found = asyncio.run(measure(given, Path(scratch)))
    machine = {"machine": platform.machine(), "cores": os.cpu_count(), "load": os.getloadavg()[0]}
    print(json.dumps(machine | vars(given) | found, indent=1))


if __name__ == "__main__":
    main()
