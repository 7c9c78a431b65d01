"""A node with an empty cache: how long its first answers take, what they cost, and what they find.

    python -m bench.storage.cold --rows 1000000 --dim 384

Real MinIO, and between it and the node a toxiproxy that holds every answer back by 60 ms. The points are ingested past
the proxy and folded, but for the last `--tail` of them, which a process that is killed leaves in the log: `tail_points`
are what a node reads there before its first answer. Then, each time with an empty cache folder:

- `open`: connecting, opening the collection and the first answer, from nothing; the client library is loaded before.
- `first`: the first answer of a collection that is open, of which nothing but HEAD is known.
- `cold`: further answers, other queries, of a node whose cache is too small for the segments.
- `fetched`: until the segments are on the machine; `warm`: bounded reads after that, without the proxy in their way.

Requests and bytes are those of the store's ranged reads and all else together. Recall@10 is against the exact answer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import platform
import shutil
import tempfile
import time
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

import akidb
from akidb.config import Settings
from akidb.config.settings import Cache, Compaction, Storage
from bench.data import Vectors, clustered, read
from bench.storage.servers import KEY, SECRET, delayed, minio

WHERE, NAME, BATCH = "s3://bench", "cold", 5000
BOUNDED = {"bounded_ms": 600_000}


def settings_for(endpoint: str, cache: Path, target_mib: int, hot_size_gb: float = 100.0) -> Settings:
    return Settings(
        storage=Storage(s3_endpoint=endpoint, s3_access_key=KEY, s3_secret_key=SECRET, s3_bucket="bench"),
        cache=Cache(hot_path=str(cache), hot_size_gb=hot_size_gb),
        compaction=Compaction(target_bytes=target_mib << 20),
    )


async def put(collection: Any, base: Vectors, first: int) -> None:
    for start in range(0, len(base), BATCH):
        rows = range(first + start, first + min(start + BATCH, len(base)))
        payloads = [{"n": row, "text": f"text of point {row}"} for row in rows]
        await collection.upsert(rows, base[start : start + len(rows)], payloads)


async def ingest(settings: Settings, base: Vectors, index: str) -> tuple[float, Any]:
    async with await akidb.connect_async(WHERE, settings=settings) as database:
        collection = await database.create_collection(NAME, base.shape[1], metric="cosine", index={"type": index})
        began = time.perf_counter()
        await put(collection, base, 0)
        await collection.wait_indexed(8 * 3600 * 1000)
        for _ in range(8 * 3600):
            info = await collection.info()
            if info.compaction.state == "idle" and not info.tail_points:
                break
            await asyncio.sleep(1)
        await collection.wait_indexed(8 * 3600 * 1000)
        return time.perf_counter() - began, await collection.info()


def leave_tail(settings: Settings, base: Vectors, first: int, told: Connection) -> None:
    """Tells how many points are in the log's tail, and ends the process that calls it without closing anything."""

    async def leave() -> None:
        database = await akidb.connect_async(WHERE, settings=settings)
        collection = await database.collection(NAME)
        await collection.scroll(limit=1)  # fetches the segments, which the first write would wait for
        await put(collection, base, first)
        told.send((await collection.info()).tail_points)
        os._exit(0)

    asyncio.run(leave())


def with_tail(settings: Settings, base: Vectors, first: int) -> int:
    """Puts points that nobody folds, unless they are more than a tail may hold; returns how many are in the tail."""
    ours, theirs = multiprocessing.Pipe()
    killed = multiprocessing.get_context("spawn").Process(target=leave_tail, args=(settings, base, first, theirs))
    killed.start()
    theirs.close()
    left: int = ours.recv()
    killed.join()
    return left


class Requests:
    """Requests to the store since `start`."""

    def __init__(self) -> None:
        self._before = self._now()

    @staticmethod
    def _now() -> float:
        from akidb.telemetry.metrics import METRICS

        samples = [s for metric in METRICS.registry.collect() for s in metric.samples]
        return sum(s.value for s in samples if s.name == "akidb_storage_operations_total")

    def count(self) -> float:
        return self._now() - self._before


def figures(values: list[float]) -> dict[str, float]:
    middle, high = np.percentile(values, [50, 95])
    return {"p50_ms": round(float(middle), 1), "p95_ms": round(float(high), 1), "n": len(values)}


async def first_answers(settings: Settings, folder: Path, queries: Vectors, rounds: int) -> dict[str, Any]:
    opened, first, requests = [], [], []
    for i in range(rounds):
        shutil.rmtree(folder, ignore_errors=True)
        began, counted = time.perf_counter(), Requests()
        async with await akidb.connect_async(WHERE, settings=settings) as database:
            collection = await database.collection(NAME)
            known = time.perf_counter()
            await collection.search(queries[i], 10, timeout_ms=60_000)
            ended = time.perf_counter()
            requests.append(counted.count())
        opened.append((ended - began) * 1000)
        first.append((ended - known) * 1000)
    return {"open": figures(opened), "first": figures(first), "requests_from_nothing": float(np.median(requests))}


async def cold_answers(settings: Settings, folder: Path, queries: Vectors) -> tuple[dict[str, Any], list[set[str]]]:
    shutil.rmtree(folder, ignore_errors=True)
    tiny = replace(settings, cache=replace(settings.cache, hot_size_gb=0.01))
    took, requests, found = [], [], []
    async with await akidb.connect_async(WHERE, settings=tiny) as database:
        collection = await database.collection(NAME)
        await collection.search(queries[0], 10, timeout_ms=60_000)
        for query in queries:
            began, counted = time.perf_counter(), Requests()
            hits = await collection.search(query, 10, timeout_ms=60_000, consistency=BOUNDED)
            took.append((time.perf_counter() - began) * 1000)
            requests.append(counted.count())
            found.append({hit.id for hit in hits})
    return {"cold": figures(took), "requests_cold": float(np.median(requests))}, found


async def warm_answers(settings: Settings, folder: Path, queries: Vectors) -> tuple[dict[str, Any], list[set[str]]]:
    shutil.rmtree(folder, ignore_errors=True)
    async with await akidb.connect_async(WHERE, settings=settings) as database:
        collection = await database.collection(NAME)
        began = time.perf_counter()
        await collection.scroll(limit=1)
        fetched = time.perf_counter() - began
        took = []
        for query in queries:
            began = time.perf_counter()
            await collection.search(query, 10, timeout_ms=60_000, consistency=BOUNDED)
            took.append((time.perf_counter() - began) * 1000)
        exact = [
            await collection.search(query, 10, timeout_ms=60_000, consistency=BOUNDED, exact=True) for query in queries
        ]
    return {"fetched_s": round(fetched, 1), "warm": figures(took)}, [{hit.id for hit in hits} for hits in exact]


async def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    if arguments.file is None:
        data = clustered(arguments.rows, arguments.dim, queries=arguments.queries, unit=True)
        base, queries = data.base, data.queries
    else:
        base = read(arguments.file)[: arguments.rows]
        base, queries = base[arguments.queries :], base[: arguments.queries]
    with minio(folder / "minio") as endpoint:
        cache = folder / "cache"
        found: dict[str, Any] = {"rows": len(base), "dim": base.shape[1], "latency_ms": arguments.latency_ms}
        kept = folder / "ingested.json"
        if arguments.step != "measure":
            here, folded = settings_for(endpoint, cache, arguments.target_mib), len(base) - arguments.tail
            took, info = await ingest(here, base[:folded], arguments.index)
            told = {"ingest_s": round(took), "segments": info.segments, "mib": info.bytes >> 20, "tail_points": 0}
            if arguments.tail:
                told["tail_points"] = await asyncio.to_thread(with_tail, here, base[folded:], folded)
            kept.write_text(json.dumps(told))
        found |= json.loads(kept.read_text())
        print(found, flush=True)
        if arguments.step == "ingest":
            return found
        with delayed(endpoint, arguments.latency_ms) as far:
            settings = settings_for(far, cache, arguments.target_mib)
            found |= await first_answers(settings, cache, queries, arguments.rounds)
            print(found, flush=True)
            told, cold = await cold_answers(settings, cache, queries)
            found |= told
            print(found, flush=True)
            told, exact = await warm_answers(settings, cache, queries)
            found |= told
        shares = [len(mine & best) / len(best) for mine, best in zip(cold, exact, strict=True)]
        return found | {"recall_cold": round(float(np.mean(shares)), 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--file", help="vectors to take instead of generated ones")
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--latency-ms", type=int, default=60)
    parser.add_argument("--target-mib", type=int, default=128, help="compaction.target_bytes, in MiB")
    parser.add_argument("--index", default="auto", help="auto, or flat to do without graphs, which cold answers ignore")
    parser.add_argument("--tail", type=int, default=0, help="points that are left in the log, not folded")
    parser.add_argument("--folder", type=Path, help="where to work; kept")
    parser.add_argument("--step", choices=["all", "ingest", "measure"], default="all", help="with --folder: a part")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="akidb-cold-") as scratch:
        found = asyncio.run(measure(arguments, arguments.folder or Path(scratch)))
    found |= {"machine": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    print(json.dumps(found, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
