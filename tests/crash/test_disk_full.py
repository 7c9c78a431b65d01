"""A full disk: 507, nothing half-written, reads go on, and writing goes on as soon as there is room."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.nodes import running

DIM = 64
POINTS = 200


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode:
        if os.environ.get("CI"):
            pytest.fail(f"can't mount a small file system: {mounted.stderr}")
        pytest.skip(f"needs the right to mount a small file system: {mounted.stderr}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def points(batch: int) -> dict[str, object]:
    return {
        "vectors": [
            {"id": f"{batch}-{i}", "vector": [float(batch), float(i), *[1.0] * (DIM - 2)]} for i in range(POINTS)
        ]
    }


def test_full_disk_refuses_writes_and_answers_reads(small_disk: Path, tmp_path: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(5 << 20))
    with running({"AKIDB_DATA_DIR": str(small_disk / "data")}, tmp_path) as node:
        assert node.call("POST", "/collections", {"name": "c", "vector_dim": DIM, "distance": "Euclidean"})[0] == 201
        written = 0
        while (answer := node.call("POST", "/collections/c/vectors", points(written)))[0] == 200:
            written += 1
            assert written < 200, "the disk never became full"
        status, problem = answer
        assert (status, problem["code"]) == (507, "storage_full")
        assert written > 0
        assert node.call("POST", "/collections/c/count", {})[1]["count"] == written * POINTS
        status, found = node.call(
            "POST", "/collections/c/search", {"vector": [0.0, 3.0, *[1.0] * (DIM - 2)], "top_k": 1}
        )
        assert (status, found["results"][0]["id"]) == (200, "0-3")
        assert node.call("GET", "/collections/c/vectors/0-0")[0] == 200
        assert node.call("GET", "/health/live")[0] == 200
        ballast.unlink()
        assert node.call("POST", "/collections/c/vectors", points(written))[0] == 200
        assert node.call("POST", "/collections/c/count", {})[1]["count"] == (written + 1) * POINTS
    with running({"AKIDB_DATA_DIR": str(small_disk / "data")}, tmp_path) as node:
        assert node.call("POST", "/collections/c/count", {})[1]["count"] == (written + 1) * POINTS
