"""What scripts/test-arm-wheel.sh runs: `write FOLDER` on one architecture, `check FOLDER` on the other."""

from __future__ import annotations

import hashlib
import platform
import sys
import tempfile
from pathlib import Path

import numpy as np

import akidb
from akidb.index import build_graph

ROWS, DIM = 1200, 70
PATIENCE_MS = 60_000  # under emulation


def vectors() -> np.ndarray:
    """Uniform numbers from PCG64, the same on every machine, around twelve centres."""
    random = np.random.default_rng(11)
    centres = random.random((12, DIM), np.float32)
    return centres[random.integers(0, 12, ROWS)] + random.random((ROWS, DIM), np.float32) / 2


def fill(folder: Path) -> None:
    base = vectors()
    with akidb.connect(str(folder)) as database:
        collection = database.create_collection("probe", DIM)
        collection.upsert([str(i) for i in range(ROWS)], base, [{"i": i % 7} for i in range(ROWS)])


def search(folder: Path) -> list[list[str]]:
    base = vectors()
    with akidb.connect(str(folder)) as database:
        collection = database.collection("probe")
        assert collection.count() == ROWS
        found = [[hit.id for hit in collection.search(base[i], 5, timeout_ms=PATIENCE_MS)] for i in range(0, ROWS, 200)]
        filtered = collection.search(base[3], 5, filter={"must": [{"field": "i", "match": 3}]}, timeout_ms=PATIENCE_MS)
    assert all(int(hit.id) % 7 == 3 for hit in filtered)
    assert [ids[0] for ids in found] == [str(i) for i in range(0, ROWS, 200)]
    return found


def graph_digest() -> str:
    return hashlib.sha256(bytes(build_graph(vectors(), "cosine", m=8, ef_construction=50))).hexdigest()


def main() -> int:
    action, folder = sys.argv[1], Path(sys.argv[2])
    if action == "write":
        fill(folder / "database")
        index = akidb.HnswIndex(DIM, "l2", 8, 50)
        index.add(np.arange(ROWS), vectors())
        index.save(folder / "index.aki")
        index.seal().save(folder / "sealed.aki")
        (folder / "graph.sha256").write_text(graph_digest())
        return 0
    written = search(folder / "database")
    assert graph_digest() == (folder / "graph.sha256").read_text(), "the graph differs from the other architecture's"
    for name in ("index.aki", "sealed.aki"):
        found = akidb.HnswIndex.view(folder / name).search(vectors()[:50], 1, ef_search=50)
        assert (found.ids[:, 0] == np.arange(50)).mean() > 0.95
    with tempfile.TemporaryDirectory() as scratch:
        fill(Path(scratch, "database"))
        assert search(Path(scratch, "database")) == written
        index = akidb.HnswIndex(DIM, "l2", 8, 50)
        index.add(np.arange(ROWS), vectors())
        for name, made in (("index.aki", index), ("sealed.aki", index.seal())):
            made.save(Path(scratch, name))
            assert Path(scratch, name).read_bytes() == (folder / name).read_bytes(), name
    print(platform.machine(), akidb.simd_info()["level"], "ok")
    return 0


if __name__ == "__main__":
    sys.exit(main())
