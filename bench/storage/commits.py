"""What writing costs: commits, requests, restarts, merges, by store and number of writers.

    make bench-storage        or        python -m bench.storage.commits --secs 5 --points 100000

On a folder and on MinIO. Each commit is one upsert of one point, so writers that wait for one another share a log slot;
each read is a strong get of one point. Requests and bytes are counted between the database and its store.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from akidb.collection import Collection
from akidb.config import Settings
from akidb.config.settings import Cache, Storage
from akidb.database import Database
from akidb.storage import open_location
from akidb.storage.object_store import Body, Reply
from akidb.storage.wrapper import StoreWrapper
from akidb.types import CollectionSpec, Metric
from bench.data import clustered
from bench.storage.servers import KEY, SECRET, minio

WRITERS = (1, 8, 64)
READERS = (1, 16)
DIM = 128
BATCH = 1000


class CountingStore(StoreWrapper):
    """Counts requests by kind, and the bytes that were put."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.requests: Counter[str] = Counter()
        self.bytes_put = 0

    def _put(self, body: Body) -> None:
        self.requests["put"] += 1
        self.bytes_put += body.stat().st_size if isinstance(body, Path) else memoryview(body).nbytes

    async def get(self, key: str, **how: Any) -> Reply:
        self.requests["get"] += 1
        return await self.inner.get(key, **how)

    def get_now(self, key: str, **how: Any) -> Reply | None:
        found = self.inner.get_now(key, **how)
        self.requests["get"] += found is not None
        return found

    async def put(self, key: str, body: Body) -> Reply:
        self._put(body)
        return await self.inner.put(key, body)

    async def put_if_absent(self, key: str, body: Body) -> Reply:
        self._put(body)
        return await self.inner.put_if_absent(key, body)

    async def put_if_match(self, key: str, body: Body, etag: str) -> Reply:
        self._put(body)
        return await self.inner.put_if_match(key, body, etag)


async def _at_once(count: int, secs: float, work: Callable[[int], Awaitable[object]]) -> tuple[int, float, list[float]]:
    """`count` callers at work for `secs`: how often it was done, the seconds it took, and P50 and P99 in ms."""
    took: list[float] = []
    began = time.perf_counter()

    async def caller(n: int) -> None:
        while time.perf_counter() - began < secs:
            at = time.perf_counter()
            await work(n)
            took.append(time.perf_counter() - at)

    await asyncio.gather(*map(caller, range(count)))
    return len(took), time.perf_counter() - began, [1000 * float(q) for q in np.quantile(took, (0.5, 0.99))]


async def _rates(store: CountingStore, collection: Collection, secs: float, told: dict[str, Any]) -> None:
    vectors = np.random.default_rng(3).standard_normal((64, DIM)).astype(np.float32)

    async def write(n: int) -> None:
        await collection.upsert([f"w{n}"], vectors[n : n + 1], [{"n": n}])

    async def read(n: int) -> None:
        await collection.get([f"w{n}"])

    for callers, counts, work, request in (("writers", WRITERS, write, "put"), ("readers", READERS, read, "get")):
        for count in counts:
            await _at_once(count, 0.3, work)
            before = store.requests[request]
            done, took, (p50, p99) = await _at_once(count, secs, work)
            each = (store.requests[request] - before) / done
            told[f"{count} {callers}"] = {"per_second": done / took, "p50_ms": p50, "p99_ms": p99, f"{request}s": each}
            rate = f"{done / took:8.0f}/s  P50 {p50:7.2f}  P99 {p99:7.2f} ms"
            print(f"  {count:3} {callers}  {rate}  {each:.3f} {request}s each")


async def _merging(store: CountingStore, collection: Collection, points: int, told: dict[str, Any]) -> None:
    """Ingests in quarters, each folded and indexed, then merges all segments into one. Bytes are per byte ingested."""
    data = clustered(points, DIM, queries=1, seed=2)
    ingested = data.base.nbytes + sum(len(f'p{row}{{"n":{row}}}') for row in range(points))
    writer, shard = collection.writers[0], collection.shards[0]
    began_at = store.bytes_put
    for start in range(0, points, BATCH):
        rows = range(start, min(start + BATCH, points))
        await collection.upsert([f"p{row}" for row in rows], data.base[rows], [{"n": row} for row in rows])
        if rows.stop % (points // 4) < BATCH:
            await collection.wait_indexed()
    await collection.wait_indexed()
    indexed = (store.bytes_put - began_at) / ingested
    segments, before, began = list(shard.state.segments), store.bytes_put, time.perf_counter()
    if len(segments) > 1:
        await writer.maintenance.merge(segments)
    secs, put = time.perf_counter() - began, store.bytes_put - before
    told["put_per_ingested"] = {"indexed": indexed, "merged": indexed + put / ingested, "segments": len(segments)}
    told["merge"] = {"points_per_second": points / secs, "mb_per_second": put / secs / 1e6} if put else None
    print(f"  {points:,} points of {DIM}: {indexed:.2f} bytes put per byte ingested, folded and indexed in quarters")
    if put:
        rate = f"{points / secs:,.0f} points/s, {put / secs / 1e6:.0f} MB/s written"
        print(f"  {len(segments)} segments merged into one: {indexed + put / ingested:.2f}; {rate}")


async def _restart(where: str, settings: Settings, told: dict[str, Any]) -> None:
    """A database opened anew, up to its first strong read; the file cache is warm."""
    secs = []
    for _ in range(5):
        began = time.perf_counter()
        database = await Database.open(open_location(where, settings), settings)
        await (await database.collection("bench")).get(["p1"])
        secs.append(time.perf_counter() - began)
        await database.close()
    told["restart_ms"] = 1000 * float(np.median(secs))
    print(f"  opened anew, first strong read after {told['restart_ms']:.0f} ms (median of 5)")


async def _measure(where: str, settings: Settings, options: argparse.Namespace) -> dict[str, Any]:
    told: dict[str, Any] = {}
    store = CountingStore(open_location(where, settings))
    database = await Database.open(store, settings)
    rates = await database.create_collection(CollectionSpec("rates", DIM, Metric.EUCLIDEAN))
    await _rates(store, rates, options.secs, told)
    bench = await database.create_collection(CollectionSpec("bench", DIM, Metric.EUCLIDEAN))
    await _merging(store, bench, options.points, told)
    await database.close()
    await _restart(where, settings, told)
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--secs", type=float, default=5.0, help="how long each rate is measured")
    parser.add_argument("--points", type=int, default=100_000, help="for restart and merging")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    figures: dict[str, Any] = {"commit": git.stdout.strip(), "machine": platform.machine(), "cores": os.cpu_count()}
    with tempfile.TemporaryDirectory(prefix="akidb-bench-") as name:
        folder = Path(name)
        settings = Settings(cache=Cache(hot_path=str(folder / "cache")))
        print(
            f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, commit {figures['commit']}"
        )
        print("folder")
        figures["folder"] = asyncio.run(_measure(str(folder / "data"), settings, options))
        with minio(folder / "minio") as endpoint:
            storage = Storage(s3_endpoint=endpoint, s3_access_key=KEY, s3_secret_key=SECRET)
            print(f"MinIO, load {os.getloadavg()[0]:.1f}")
            figures["minio"] = asyncio.run(_measure("s3://bench", replace(settings, storage=storage), options))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
