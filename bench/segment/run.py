"""Writing, opening and reading a segment, as JSON: `python bench/segment/run.py [--rows N] [--dim D]`.

Random vectors, since nothing here looks at their values, and payloads of about 200 bytes with five fields. Reads are of
a warm file; `cold` drops its pages first. Latencies are the median of many calls.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from akidb.query import Part, Snapshot, fetch, scroll
from akidb.segment import BlockCache, MemTable, Segment, Source, write_segment
from akidb.types import CollectionSpec, Metric

BATCH = 10_000


def payload(row: int) -> bytes:
    fields = {
        "lang": "en" if row % 3 else "de",
        "shop": f"shop {row % 1000}",
        "stock": row % 10_000,
        "sku": f"sku-{row:09d}",
    }
    return json.dumps({**fields, "text": f"text {row} " * 9}).encode()


def seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def median_us(call: Callable[[], Any], calls: int = 300) -> float:
    return round(statistics.median(seconds(call) for _ in range(calls)) * 1e6, 1)


def filled(spec: CollectionSpec, rows: int) -> tuple[MemTable, float]:
    """A memtable of `rows` rows, and the seconds that applying them took."""
    rng = np.random.default_rng(0)
    table, spent = MemTable(spec), 0.0
    for at in range(0, rows, BATCH):
        some = range(at, min(at + BATCH, rows))
        ids, payloads = [f"point-{row}" for row in some], [payload(row) for row in some]
        vectors = rng.standard_normal((len(some), spec.dim), np.float32)
        start = time.perf_counter()
        table.apply_upsert(ids, vectors, payloads, at // BATCH + 1)
        spent += time.perf_counter() - start
    return table, spent


def drop_pages(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def written(spec: CollectionSpec, rows: int, path: Path) -> dict[str, Any]:
    """Figures of the way from a memtable to a segment, and on to a merged one."""
    table, applied = filled(spec, rows)
    view, before = table.snapshot(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    write_s = seconds(lambda: write_segment(path, uuid=uuid4(), spec=spec, sources=[Source(view)]))
    segment = Segment.open(path, name="segment")
    half, merged = np.arange(rows) % 2 == 0, path.with_name("merged")
    merge_s = seconds(lambda: write_segment(merged, uuid=uuid4(), spec=spec, sources=[Source(segment, half)]))
    copy_s = seconds(lambda: write_segment(merged, uuid=uuid4(), spec=spec, sources=[Source(segment)], graph=b"graph"))
    merged.unlink()
    return {
        "memtable_rows_per_s": round(rows / applied),
        "bytes": segment.bytes,
        "bytes_per_row_beside_vector": round(segment.bytes / rows - 4 * spec.dim, 1),
        "write_s": round(write_s, 2),
        "write_rows_per_s": round(rows / write_s),
        "write_extra_resident_mib": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10,
        "merge_half_rows_per_s": round(rows / 2 / merge_s),
        "copy_with_graph_s": round(copy_s, 2),
    }


def read(spec: CollectionSpec, rows: int, path: Path) -> dict[str, Any]:
    def opened() -> Segment:
        return Segment.open(path, name="segment")

    drop_pages(path)
    cold = seconds(opened)
    segment = opened()
    rng = np.random.default_rng(1)
    present = [f"point-{row}" for row in rng.integers(0, rows, 10_000)]
    absent = [f"nobody-{row}" for row in range(10_000)]
    snapshot = Snapshot((Part(segment),), (1,), spec)
    uncached = Segment.open(path, name="segment", blocks=BlockCache(0))
    ten = [rng.integers(0, rows, 10) for _ in range(64)]
    turn = iter(range(1 << 30))
    return {
        "open_cold_ms": round(cold * 1e3, 2),
        "open_ms": round(median_us(opened, 30) / 1e3, 2),
        "verify_gb_per_s": round(segment.bytes / seconds(segment.verify) / 1e9, 2),
        "find_present_per_s": round(10_000 / median_us(lambda: segment.find(present), 20) * 1e6),
        "find_absent_per_s": round(10_000 / median_us(lambda: segment.find(absent), 20) * 1e6),
        "find_one_us": median_us(lambda: segment.find(present[:1])),
        "payloads_of_10_undecoded_us": median_us(lambda: uncached.payloads(ten[next(turn) % 64])),
        "payloads_of_10_decoded_us": median_us(lambda: segment.payloads(ten[0])),
        "fetch_100_points_us": median_us(lambda: fetch(snapshot, present[:100])),
        "scroll_100_points_us": median_us(lambda: scroll(snapshot, after="point-5", limit=100)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=128)
    options = parser.parse_args()
    spec = CollectionSpec("bench", options.dim, Metric.COSINE)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "segment"
        machine = f"{platform.machine()} {platform.system()} Python {platform.python_version()}, {os.cpu_count()} cores"
        report = {
            "commit": subprocess.run(
                ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True
            ).stdout.strip(),
            "machine": machine,
            "rows": options.rows,
            "dim": options.dim,
            **written(spec, options.rows, path),
            **read(spec, options.rows, path),
        }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
