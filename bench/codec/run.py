"""What the Cython twins are worth, in items per second; and what a slot costs.

python bench/codec/run.py [--items 100000] [--json out.json]
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import time
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import numpy as np

from akidb.codec import _objects, _strings, objects, strings
from akidb.wal import CHAIN_START, Batch, Slot, Upsert, decode_slot, encode_slot

SHARD = UUID(int=1)


def best_secs(call: Callable[[], object], *, repeats: int = 7) -> float:
    """Least wall time of one call: the others were disturbed."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return min(times)


def measure_strings(count: int) -> list[dict[str, object]]:
    seeded = random.Random(0)
    ids = [f"package-{seeded.randrange(10**9)}" for _ in range(count)]
    payloads = [json.dumps({"title": f"title {i}", "n": i, "tags": ["a", "b"]}).encode() for i in range(count)]
    rows = []
    for name, items in (("ids", ids), ("payloads", payloads)):
        kind = "_text" if name == "ids" else ""
        packed = strings.pack_text(ids) if kind else strings.pack(payloads)
        for operation, arguments in ((f"pack{kind}", (items,)), (f"unpack{kind}", packed)):
            python = best_secs(lambda o=operation, a=arguments: getattr(strings, o)(*a))
            cython = best_secs(lambda o=operation, a=arguments: getattr(_strings, o)(*a))
            rows.append(
                {
                    "what": f"{operation} of {name}",
                    "python_items_per_sec": round(count / python),
                    "cython_items_per_sec": round(count / cython),
                    "times_faster": round(python / cython, 2),
                }
            )
    return rows


def measure_objects(count: int) -> dict[str, object]:
    """Finding the points of 384 numbers in the JSON of an upsert."""
    vectors = np.random.default_rng(0).standard_normal((count, 384)).round(8).tolist()
    text = json.dumps({"vectors": [{"id": i, "vector": vector} for i, vector in enumerate(vectors)]}).encode()
    python = best_secs(lambda: objects.find_objects(text, b"vectors"), repeats=3)
    cython = best_secs(lambda: _objects.find_objects(text, b"vectors"))
    return {
        "what": "find_objects of points",
        "python_items_per_sec": round(count / python),
        "cython_items_per_sec": round(count / cython),
        "times_faster": round(python / cython, 2),
    }


def measure_slot(megabytes: int) -> dict[str, object]:
    """Encoding and decoding of one slot of 768-d points."""
    count = megabytes * (1 << 20) // (4 * 768 + 40)
    vectors = np.random.default_rng(0).standard_normal((count, 768), np.float32)
    upsert = Upsert([f"point-{i:08d}" for i in range(count)], vectors, [b'{"n":%d}' % i for i in range(count)])
    slot = Slot(1, SHARD, SHARD, CHAIN_START, [Batch(SHARD, [upsert])])
    body, _ = encode_slot(slot)
    return {
        "slot_bytes": len(body),
        "points": count,
        "encode_ms": round(1e3 * best_secs(lambda: encode_slot(slot)), 2),
        "decode_ms": round(1e3 * best_secs(lambda: decode_slot(body, lsn=1, shard=SHARD, name="slot")), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = [*measure_strings(options.items), measure_objects(options.items // 20)]
    slots = [measure_slot(size) for size in (1, 8, 60)]
    print(f"{platform.machine()}, CPython {platform.python_version()}, {options.items:,} items")
    for row in rows:
        print(
            f"{row['what']:24} python {row['python_items_per_sec']:>12,}/s  cython {row['cython_items_per_sec']:>12,}/s"
            f"  x{row['times_faster']}"
        )
    for slot in slots:
        print(
            f"slot of {slot['slot_bytes']:>11,} bytes, {slot['points']:>6,} points: encode {slot['encode_ms']} ms, "
            f"decode {slot['decode_ms']} ms"
        )
    if options.json is not None:
        options.json.write_text(json.dumps({"machine": platform.platform(), "twins": rows, "slots": slots}, indent=1))


if __name__ == "__main__":
    main()
