"""Build rate of the field index and latency of filters over it, as JSON: `python bench/filter/run.py [--rows N]`.

Payloads have eight fields: two texts of few values, one unique text, one of 300 bytes, an integer, a float, a boolean
and an array. Each figure is the best of several runs; `view` is the index over bytes (a segment's), `growing` the
memtable's.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from akidb.filter import Filter, evaluate, parse, to_mask
from akidb.segment.fields import FieldIndex, FieldIndexView

BATCH = 1_000

FILTERS: dict[str, Any] = {
    "keyword 30 %": {"field": "lang", "match": "en"},
    "keyword 0.1 %": {"field": "shop", "match": "shop 17"},
    "unique keyword": {"field": "sku", "match": "sku-000000777"},
    "100 unique keywords": {"field": "sku", "match": [f"sku-{i:09d}" for i in range(0, 1_000, 10)]},
    "range 10 % of integers": {"field": "stock", "range": {"gte": 1_000, "lt": 2_000}},
    "range 10 % of floats": {"field": "price", "range": {"gte": 0.5, "lt": 0.6}},
    "range 10 % of unique texts": {"field": "sku", "range": {"lt": "TENTH"}},
    "bool 50 %": {"field": "in_stock", "match": True},
    "array element": {"field": "tags", "match": "tag 3"},
    "exists": {"exists": "lang"},
    "not keyword 30 %": {"must_not": [{"field": "lang", "match": "en"}]},
    "keyword and range and not": {
        "must": [{"field": "lang", "match": "en"}, {"field": "price", "range": {"lt": 0.5}}],
        "must_not": [{"field": "tags", "match": "tag 3"}],
    },
}


def payloads(rows: int) -> list[bytes]:
    rng = np.random.default_rng(1)
    columns = zip(
        np.where(rng.random(rows) < 0.3, "en", np.where(rng.random(rows) < 0.5, "de", "fr")).tolist(),
        rng.integers(0, 1_000, rows).tolist(),
        rng.integers(0, 10_000, rows).tolist(),
        rng.random(rows).round(6).tolist(),
        (rng.random(rows) < 0.5).tolist(),
        rng.integers(0, 10, (rows, 2)).tolist(),
        strict=True,
    )
    return [
        json.dumps(
            {
                "lang": lang,
                "shop": f"shop {shop}",
                "sku": f"sku-{row:09d}",
                "text": f"text {row} " * 25,
                "stock": stock,
                "price": price,
                "in_stock": in_stock,
                "tags": [f"tag {tag}" for tag in tags],
            }
        ).encode()
        for row, (lang, shop, stock, price, in_stock, tags) in enumerate(columns)
    ]


def best_ms(call: Callable[[], Any], seconds: float = 0.3) -> float:
    """Milliseconds of the fastest run within some time."""
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return round(best * 1e3, 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    rows = parser.parse_args().rows
    batch = payloads(rows)

    index = FieldIndex()
    start = time.perf_counter()
    for at in range(0, rows, BATCH):
        index.add(at, batch[at : at + BATCH])
    added = time.perf_counter()
    data = index.to_bytes()
    encoded = time.perf_counter()
    view = FieldIndexView(data)

    def row(filter_: Filter) -> dict[str, Any]:
        bitmap = evaluate(filter_, view)
        return {
            "rows": len(bitmap),
            "view_ms": best_ms(lambda: evaluate(filter_, view)),
            "growing_ms": best_ms(lambda: evaluate(filter_, index)),
            "to_mask_ms": best_ms(lambda: to_mask(bitmap, rows)),
        }

    report = {
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True
        ).stdout.strip(),
        "machine": f"{platform.machine()} {platform.system()} Python {platform.python_version()}",
        "rows": rows,
        "payload_bytes": sum(map(len, batch)),
        "index_bytes": len(data),
        "add_rows_per_s": round(rows / (added - start)),
        "to_bytes_s": round(encoded - added, 3),
        "build_rows_per_s": round(rows / (encoded - start)),
        "open_ms": best_ms(lambda: FieldIndexView(data)),
        "filters": {},
    }
    for name, written in FILTERS.items():
        condition = json.loads(json.dumps(written).replace("TENTH", f"sku-{rows // 10:09d}"))
        report["filters"][name] = row(parse(condition))
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
