"""Throughput and latency over REST, and how long /health/live takes while the server works.

    python -m bench.api --points 50000 --dim 384

A fresh akidb-api over a new folder; its load comes from this process over keep-alive connections, bodies encoded
beforehand; health is asked by a process of its own every 5 ms, so that the load's own event loop is not measured.
Server, load and probe share this machine's cores: with two of them the figures are those of a busy machine.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import http.client
import json
import multiprocessing
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np

JSON = {"Content-Type": "application/json"}
PROBE_EVERY_SECS = 0.005


@dataclass
class Figures:
    """Latencies of one step in milliseconds, and what was done per second."""

    step: str
    per_second: float
    unit: str
    latencies: list[float]
    health: list[float]

    def row(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "per_second": round(self.per_second, 1),
            "unit": self.unit,
            **_percentiles("", self.latencies),
            **_percentiles("health_", self.health),
        }


def _percentiles(prefix: str, values: list[float]) -> dict[str, float | None]:
    found = np.percentile(values, [50, 95, 99, 100]) if values else [None] * 4
    return {
        f"{prefix}{name}_ms": None if value is None else round(float(value), 2)
        for name, value in zip(("p50", "p95", "p99", "max"), found, strict=True)
    }


def _probe(host: str, port: int, stop: Any, found: Any) -> None:
    """Asks /health/live again and again over one connection; sends (began, milliseconds) pairs when told to stop."""
    connection = http.client.HTTPConnection(host, port)
    times = []
    while not stop.is_set():
        began = time.monotonic()
        connection.request("GET", "/health/live")
        connection.getresponse().read()
        times.append((began, (time.monotonic() - began) * 1000))
        time.sleep(PROBE_EVERY_SECS)
    found.send(times)


@contextmanager
def server(folder: Path) -> Iterator[tuple[str, int]]:
    """A running akidb-api on a free port."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("AKIDB_")}
    environ |= {"AKIDB_DATA_DIR": str(folder), "AKIDB_LOG_FORMAT": "json", "AKIDB_API_DRAIN_DELAY_SECS": "0"}
    process = subprocess.Popen(
        [sys.executable, "-m", "akidb.cli.api", "--bind", "127.0.0.1:0"], env=environ, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    address = re.search(r"http://([\d.]+):(\d+)", process.stdout.readline())
    assert address is not None
    while "store opened" not in process.stdout.readline():
        pass
    try:
        yield address[1], int(address[2])
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


class Bench:
    """One run: a client session, and the probe whose times are cut out per step."""

    def __init__(self, host: str, port: int, session: aiohttp.ClientSession) -> None:
        self.host, self.port = host, port
        self.base = f"http://{host}:{port}/collections/bench"
        self.session = session
        self.rows: list[dict[str, Any]] = []

    async def post(self, path: str, body: bytes) -> bytes:
        async with self.session.post(self.base + path, data=body, headers=JSON) as answer:
            text = await answer.read()
            if answer.status >= 300:
                raise RuntimeError(f"{path} was answered with {answer.status}: {text[:300]!r}")
            return text

    async def step(
        self,
        name: str,
        unit: str,
        units: int,
        bodies: list[bytes],
        send: Callable[[bytes], Awaitable[Any]],
        clients: int,
    ) -> None:
        """Sends all bodies over `clients` connections; each stands for `units` of `unit`."""
        context = multiprocessing.get_context("spawn")
        stop, (receive, give) = context.Event(), context.Pipe(duplex=False)
        probe = context.Process(target=_probe, args=(self.host, self.port, stop, give))
        probe.start()
        await asyncio.sleep(1.5)  # the probe's interpreter starts
        latencies: list[float] = []
        queue = iter(bodies)

        async def client() -> None:
            for body in queue:
                began = time.monotonic()
                await send(body)
                latencies.append((time.monotonic() - began) * 1000)

        began = time.monotonic()
        await asyncio.gather(*(client() for _ in range(clients)))
        ended = time.monotonic()
        stop.set()
        times = await asyncio.to_thread(receive.recv)
        await asyncio.to_thread(probe.join)
        health = [took for at, took in times if began <= at <= ended]
        figures = Figures(name, units * len(bodies) / (ended - began), unit, latencies, health)
        self.rows.append(figures.row())
        print(_line(self.rows[-1]), flush=True)


def _line(row: dict[str, Any]) -> str:
    rate = f"{row['per_second']:>10,.1f} {row['unit']}/s"
    own = f"p50 {row['p50_ms']:>9} p99 {row['p99_ms']:>9}"
    health = f"p50 {row['health_p50_ms']} p99 {row['health_p99_ms']} max {row['health_max_ms']}"
    return f"{row['step']:<34} {rate:<24} {own} ms   /health/live {health} ms"


def clustered(rows: int, dim: int, rng: np.random.Generator) -> np.ndarray:
    """Points around 100 centres on a subspace of 32 dimensions: near neighbours exist, as in embeddings."""
    inner = min(32, dim)
    centres = rng.standard_normal((100, inner))
    low = centres[rng.integers(0, 100, rows)] + 0.5 * rng.standard_normal((rows, inner))
    mixed = low @ rng.standard_normal((inner, dim)) + 0.1 * rng.standard_normal((rows, dim))
    return np.ascontiguousarray(mixed, np.float32)


def text64(vector: np.ndarray) -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


def encoded(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def numbers(vector: np.ndarray) -> list[float]:
    """As many digits as float32 needs, which is what a careful client sends."""
    return [float(np.format_float_positional(x, unique=True)) for x in vector]


async def run(host: str, port: int, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    vectors = clustered(arguments.points, arguments.dim, rng)
    queries = clustered(400, arguments.dim, rng)
    as_lists = [numbers(query) for query in queries]
    timeout = aiohttp.ClientTimeout(total=3600)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=64), timeout=timeout) as session:
        bench = Bench(host, port, session)
        make = encoded({"name": "bench", "vector_dim": arguments.dim})
        async with session.post(f"http://{host}:{port}/collections", data=make, headers=JSON) as answer:
            assert answer.status == 201, await answer.text()
        await _write(bench, vectors)
        await _search(bench, queries, as_lists, arguments)
        await _large_body(bench, as_lists)
        return bench.rows


async def _write(bench: Bench, vectors: np.ndarray) -> None:
    size = 500
    batches = [
        encoded({"vectors": [{"id": i, "vector": text64(vectors[i]), "payload": {"n": i}} for i in range(at, end)]})
        for at in range(0, len(vectors), size)
        for end in [min(at + size, len(vectors))]
    ]
    await bench.step("upsert 500, base64, 4 clients", "points", size, batches, lambda b: bench.post("/vectors", b), 4)

    async def indexed(_: bytes) -> None:
        pending = True
        while pending:
            async with bench.session.get(f"{bench.base}/index?wait_ms=60000") as answer:
                pending = (await answer.json())["index"]["pending"] > 0

    await bench.step("index build", "builds", 1, [b""], indexed, 1)


async def _search(bench: Bench, queries: np.ndarray, lists: list[list[float]], arguments: argparse.Namespace) -> None:
    count = arguments.requests
    as_json = [encoded({"vector": lists[i % len(lists)]}) for i in range(count)]
    as_base64 = [encoded({"vector": text64(queries[i % len(queries)])}) for i in range(count)]
    fresh = [encoded({"vector": lists[i % len(lists)], "consistency": "eventual"}) for i in range(count)]
    filtered = [
        encoded({"vector": lists[i % len(lists)], "filter": {"field": "n", "range": {"lt": 5000}}})
        for i in range(count)
    ]
    for name, bodies in (
        ("JSON", as_json),
        ("base64", as_base64),
        ("JSON, eventual", fresh),
        ("JSON, filter", filtered),
    ):
        await bench.step(
            f"search top 10, {name}, 1 client", "searches", 1, bodies, lambda b: bench.post("/search", b), 1
        )
    await bench.step("search top 10, JSON, 16 clients", "searches", 1, as_json, lambda b: bench.post("/search", b), 16)
    batch = encoded({"queries": [{"vector": lists[i]} for i in range(100)], "timeout_ms": 60_000})
    send = lambda b: bench.post("/batch-search", b)  # noqa: E731
    await bench.step("batch-search of 100, 1 client", "searches", 100, [batch] * 60, send, 1)
    await bench.step("batch-search of 100, 4 clients", "searches", 100, [batch] * 60, send, 4)


async def _large_body(bench: Bench, lists: list[list[float]]) -> None:
    points = [{"id": f"large-{i}", "vector": lists[i % len(lists)]} for i in range(7000)]
    body = encoded({"vectors": points})
    name = f"upsert of {len(body) / 2**20:.0f} MiB of JSON, 1 client"
    await bench.step(name, "points", len(points), [body] * 12, lambda b: bench.post("/vectors", b), 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=50_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--requests", type=int, default=2000, help="requests of each search step")
    parser.add_argument("--output", type=Path, default=Path("bench/results/api.json"))
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="akidb-bench-api-"))
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"{machine}; {arguments.points:,} points of {arguments.dim} dimensions, cosine, embedded store")
    try:
        with server(folder) as (host, port):
            rows = asyncio.run(run(host, port, arguments))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    settings = {"points": arguments.points, "dim": arguments.dim}
    arguments.output.write_text(json.dumps({"machine": machine} | settings | {"rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
