"""python -m tests.linearizability --histories N --seed S: N histories over MinIO, and what came of each."""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections import Counter
from pathlib import Path

from tests.linearizability.cluster import cluster
from tests.linearizability.run import run
from tests.servers import Minio, running


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.linearizability", description=__doc__)
    parser.add_argument("--histories", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--forwarding", action="store_true", help="nodes send batches to each other")
    parser.add_argument("--secs", type=float, default=20.0, help="how long clients work in each")
    given = parser.parse_args()
    total: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="akidb-histories-") as name:
        folder = Path(name)
        with (
            running(Minio(folder / "minio")) as server,
            cluster(server, "histories", folder, forwarding=given.forwarding) as nodes,
        ):
            for seed in range(given.seed, given.seed + given.histories):
                report = asyncio.run(run(nodes, seed, given.secs))
                total.update(report.outcomes)
                total.update(report.fired)
                print(f"seed {seed}: {report}", flush=True)
    print(
        f"{given.histories} histories are linearizable: {', '.join(f'{n} {what}' for what, n in sorted(total.items()))}"
    )


if __name__ == "__main__":
    main()
