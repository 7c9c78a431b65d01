"""What it costs that several nodes write to one shard: each for itself, and through the shard's owner.

    python -m bench.storage.forwarding --nodes 8 --secs 10

akidb-api processes over one MinIO, a caller at each, one upsert of one point at a time, at most `--rate` per second and
caller. Beside them one node with as many callers. Puts are counted by the nodes: those of slots, won or lost.
`--latency` puts a toxiproxy before MinIO, which makes a put as slow as in a cloud; processors count for less then.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np

from bench.storage.servers import KEY, SECRET, delayed, free_port, minio

DIM = 128
TOKEN = "a-token-for-the-benchmark"
START_SECS_MAX = 60.0


@contextmanager
def _nodes(count: int, endpoint: str, bucket: str, folder: Path, *, forwarding: bool) -> Iterator[list[str]]:
    """The URLs of akidb-api processes over a bucket."""
    running = []
    urls = [f"http://127.0.0.1:{free_port()}" for _ in range(count)]
    store = {"S3_ENDPOINT": endpoint, "S3_BUCKET": bucket, "S3_ACCESS_KEY": KEY, "S3_SECRET_KEY": SECRET}
    store |= {"CACHE_HOT_PATH": str(folder / "cache"), "LOG_LEVEL": "warn", "API_DRAIN_DELAY_SECS": "0"}
    try:
        for url in urls:
            own = {"CLUSTER_NODE_ADDRESS": url, "CLUSTER_TOKEN": TOKEN} if forwarding else {}
            environment = {**os.environ, **{f"AKIDB_{name}": value for name, value in (store | own).items()}}
            command = [sys.executable, "-m", "akidb.cli.api", "--bind", url.removeprefix("http://")]
            running.append(subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL))
        yield urls
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(30)


async def _ready(session: aiohttp.ClientSession, urls: list[str], *, forwarding: bool) -> None:
    end = time.monotonic() + START_SECS_MAX
    for url in urls:
        while True:
            try:
                async with session.get(url + "/health/ready") as answer:
                    known = (await _metrics(session, url)).get("akidb_cluster_nodes", 0)
                    if answer.status == 200 and (not forwarding or known == len(urls)):
                        break
            except aiohttp.ClientError:
                pass
            if time.monotonic() > end:
                raise SystemExit(f"{url} is not ready")
            await asyncio.sleep(0.1)


async def _metrics(session: aiohttp.ClientSession, url: str) -> dict[str, float]:
    async with session.get(url + "/metrics") as answer:
        lines = re.findall(r"^(akidb_\S+) (\S+)$", await answer.text(), re.MULTILINE)
    return {name: float(value) for name, value in lines}


async def _counted(session: aiohttp.ClientSession, urls: list[str]) -> tuple[float, float]:
    """Puts of slots so far, and how many of them were taken by others."""
    label = 'akidb_wal_operations_total{{operation="append",status="{}"}}'
    told = [await _metrics(session, url) for url in urls]
    won, lost = (sum(each.get(label.format(status), 0) for each in told) for status in ("ok", "lost_slot"))
    return won + lost, lost


async def _measure(urls: list[str], callers: int, options: argparse.Namespace, *, forwarding: bool) -> dict[str, Any]:
    async with aiohttp.ClientSession() as session:
        await _ready(session, urls, forwarding=forwarding)
        body = {"name": "bench", "vector_dim": DIM, "distance": "Euclidean"}
        async with session.post(urls[0] + "/collections", json=body) as answer:
            assert answer.status == 201, await answer.text()
        vector = np.random.default_rng(1).standard_normal(DIM).round(4).tolist()
        took: list[float] = []

        async def call(n: int, secs: float, kept: list[float]) -> None:
            url, began = f"{urls[n % len(urls)]}/collections/bench/vectors", time.monotonic()
            due = began + n / callers / options.rate
            while due < began + secs:
                await asyncio.sleep(due - time.monotonic())
                at = time.perf_counter()
                async with session.post(url, json={"vectors": [{"id": f"p{n}", "vector": vector}]}) as answer:
                    assert answer.status == 200, await answer.text()
                kept.append(1000 * (time.perf_counter() - at))
                due = max(due + 1 / options.rate, time.monotonic())

        await asyncio.gather(*(call(n, 2.0, []) for n in range(callers)))  # collections opened, connections made
        puts, lost = await _counted(session, urls)
        began = time.monotonic()
        await asyncio.gather(*(call(n, options.secs, took) for n in range(callers)))
        secs = time.monotonic() - began
        puts, lost = (now - before for now, before in zip(await _counted(session, urls), (puts, lost), strict=True))
    p50, p99 = (float(q) for q in np.quantile(took, (0.5, 0.99)))
    commits = puts - lost
    rates = {"writes_per_second": len(took) / secs, "writes_per_commit": len(took) / commits}
    return rates | {"puts_per_commit": puts / commits, "p50_ms": p50, "p99_ms": p99}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=8)
    parser.add_argument("--secs", type=float, default=10.0, help="how long each is measured")
    parser.add_argument("--rounds", type=int, default=3, help="how often, in turn")
    parser.add_argument("--rate", type=float, default=20.0, help="writes per second that each caller asks for, at most")
    parser.add_argument("--latency", type=int, default=0, help="ms that every answer of MinIO waits")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    figures: dict[str, Any] = {"machine": platform.machine(), "cores": os.cpu_count(), "rounds": []}
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {options.nodes} callers of "
          f"{options.rate:g} writes/s, {options.latency} ms a request")  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="akidb-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        endpoint = stack.enter_context(minio(folder / "minio"))
        if options.latency:
            endpoint = stack.enter_context(delayed(endpoint, options.latency))
        kinds = (
            ("one node", 1, False),
            ("each for itself", options.nodes, False),
            ("by the owner", options.nodes, True),
        )
        for round_ in range(options.rounds):
            told = {}
            for n, (kind, count, forwarding) in enumerate(kinds):
                with _nodes(count, endpoint, f"bench-{round_}-{n}", folder, forwarding=forwarding) as urls:
                    told[kind] = found = asyncio.run(_measure(urls, options.nodes, options, forwarding=forwarding))
                rate = f"{found['writes_per_second']:6.0f} writes/s  {found['puts_per_commit']:.3f} puts per commit"
                print(f"  {kind:16} {rate}  P50 {found['p50_ms']:6.1f}  P99 {found['p99_ms']:7.1f} ms", flush=True)
            figures["rounds"].append(told)
    for kind, _, _ in kinds:
        ratios = [told[kind]["p99_ms"] / told["one node"]["p99_ms"] for told in figures["rounds"]]
        puts = [told[kind]["puts_per_commit"] for told in figures["rounds"]]
        print(
            f"{kind:16} P99 {np.median(ratios):5.2f} times one node's, {np.median(puts):.3f} puts per commit (medians)"
        )
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
