"""Past the first segment: many vectors are ingested, survive a restart and are searched.

    python -m bench.scale.run --rows 1000000 --dim 128
    python -m bench.scale.run --rows 1000000 --dim 768 --m 32 --ef-construction 800 --ef-search 400

Each step is a process of its own, so that times include starting and memory is that step's. Recall is against the exact
search of the same store. Data: bench.data.clustered (clusters on random subspaces with a decaying spectrum).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from akidb import Collection

BATCH = 5_000
QUERIES = 200
INDEX = ("m", "ef_construction", "ef_search")


def disk_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def resident_mib() -> float:
    """Resident memory now (mapped file pages counted), from the kernel."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return float("nan")


def accepted(collection: Collection, ids: range, vectors: npt.NDArray[np.float32]) -> bool:
    from akidb.errors import DeadlineExceededError

    try:
        collection.upsert(ids, vectors)
    except DeadlineExceededError:  # nothing was written
        return False
    return True


def ingest(where: str, data: Path, index: dict[str, int]) -> dict[str, float]:
    import akidb

    vectors = np.load(data, mmap_mode="r")
    with akidb.connect(where) as database:
        collection = database.create_collection("scale", vectors.shape[1], metric="euclidean", index=index)
        began = time.perf_counter()
        for start in range(0, len(vectors), BATCH):
            chunk = np.asarray(vectors[start : start + BATCH])
            while not accepted(collection, range(start, start + len(chunk)), chunk):
                pass  # the log is full, as it may be for longer than a write waits where the machine is busy otherwise
        written = time.perf_counter() - began
        collection.wait_indexed(timeout_ms=4 * 3600 * 1000)
        indexed = time.perf_counter() - began
        info = collection.info()
    return {
        "durable_points_per_second": len(vectors) / written,
        "seconds_to_durable": written,
        "seconds_to_indexed": indexed,
        "segments": info.segments,
        "peak_resident_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def first_answer(where: str, data: Path, index: dict[str, int]) -> dict[str, float]:
    began = time.perf_counter()
    query = np.load(data, mmap_mode="r")[0]
    import akidb

    with akidb.connect(where) as database:
        collection = database.collection("scale")
        collection.search(query, 10, timeout_ms=60_000)
        return {"import_open_search_seconds": time.perf_counter() - began}


def search(where: str, data: Path, index: dict[str, int]) -> dict[str, float]:
    import akidb

    queries = np.load(data.with_name("queries.npy"))
    out: dict[str, float] = {}
    with akidb.connect(where) as database:
        collection = database.collection("scale")
        truth = [
            {hit.id for hit in hits} for hits in collection.search_batch(queries, 10, exact=True, timeout_ms=600_000)
        ]
        for ef_search in sorted({50, 100, 200, index.get("ef_search", 50)}):
            for _ in range(2):  # the first round warms the pages
                began = time.perf_counter()
                answers = [collection.search(query, 10, ef_search=ef_search, timeout_ms=60_000) for query in queries]
                took = time.perf_counter() - began
            found = sum(len(exact & {hit.id for hit in hits}) for exact, hits in zip(truth, answers, strict=True))
            out[f"ef{ef_search}_qps"] = len(queries) / took
            out[f"ef{ef_search}_recall_at_10"] = found / (10 * len(queries))
        out["resident_mib"] = resident_mib()
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--seed", type=int, default=1)
    for parameter in INDEX:
        parser.add_argument(f"--{parameter.replace('_', '-')}", type=int, help="of the collection's index")
    parser.add_argument("--where", help="connect string; default: a temporary folder")
    parser.add_argument("--step", choices=["ingest", "first_answer", "search"], help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    index = {name: value for name in INDEX if (value := getattr(arguments, name)) is not None}
    if arguments.step:
        step = {"ingest": ingest, "first_answer": first_answer, "search": search}[arguments.step]
        print(json.dumps(step(arguments.where, arguments.data, index)))
        return
    with tempfile.TemporaryDirectory(prefix="akidb-scale-", dir=os.environ.get("AKIDB_BENCH_DIR")) as folder:
        from bench.data import clustered

        data = Path(folder) / "vectors.npy"
        made = clustered(arguments.rows, arguments.dim, queries=QUERIES, seed=arguments.seed)
        np.save(data, made.base)
        np.save(data.with_name("queries.npy"), made.queries)
        del made
        where = arguments.where or str(Path(folder) / "store")
        results: dict[str, object] = {"rows": arguments.rows, "dim": arguments.dim, **index}
        asked = [word for name, value in index.items() for word in (f"--{name.replace('_', '-')}", str(value))]
        for step in ("ingest", "first_answer", "first_answer", "search"):
            command = [sys.executable, "-m", "bench.scale.run", "--step", step, "--where", where, "--data", str(data)]
            command += asked
            began = time.perf_counter()
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            results[step] = json.loads(done.stdout) | {"process_seconds": time.perf_counter() - began}
            print(step, json.dumps(results[step], indent=1), flush=True)
        if arguments.where is None:
            results["disk_mib"] = disk_bytes(Path(where)) / 2**20
        print(json.dumps(results))


if __name__ == "__main__":
    main()
