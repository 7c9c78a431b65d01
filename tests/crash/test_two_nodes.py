"""Two akidb-api processes over one bucket: both write, and each sees at once what either acknowledged."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from akidb.config import Settings
from tests.nodes import Node, running

DIM = 8


def run(environment: dict[str, str], folder: Path, shards: int) -> None:
    with ExitStack() as stack:
        nodes = [stack.enter_context(running(environment, folder)) for _ in range(2)]
        wanted = {"name": "c", "vector_dim": DIM, "distance": "Euclidean", "shard_count": shards}
        status, _ = nodes[0].call("POST", "/collections", wanted)
        assert status == 201
        take_turns(nodes)
        write_at_once(nodes)


def take_turns(nodes: list[Node]) -> None:
    rng = np.random.default_rng(7)
    for step in range(40):
        writer, reader = nodes[step % 2], nodes[1 - step % 2]
        vector = rng.standard_normal(DIM).round(3).tolist()
        status, _ = writer.call(
            "POST", "/collections/c/vectors", {"vectors": [{"id": f"turn-{step}", "vector": vector}]}
        )
        assert status == 200
        status, answer = reader.call("POST", "/collections/c/search", {"vector": vector, "top_k": 1})
        assert (status, answer["results"][0]["id"]) == (200, f"turn-{step}")


def write_at_once(nodes: list[Node]) -> None:
    """Each node writes and deletes from two threads; afterwards both know exactly what was acknowledged."""
    acknowledged: list[set[str]] = [set() for _ in range(4)]

    def write(thread: int) -> None:
        node = nodes[thread % 2]
        for n in range(25):
            ids = [f"{thread}-{n}-{i}" for i in range(4)]
            points = [
                {"id": id_, "vector": [float(thread), float(n), *[float(i)] * (DIM - 2)]} for i, id_ in enumerate(ids)
            ]
            assert node.call("POST", "/collections/c/vectors", {"vectors": points})[0] == 200
            assert node.call("POST", "/collections/c/vectors/delete", {"ids": ids[:1]})[0] == 200
            acknowledged[thread].update(ids[1:])

    threads = [threading.Thread(target=write, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = {f"turn-{step}" for step in range(40)}.union(*acknowledged)
    assert len(expected) == 40 + 4 * 25 * 3
    for node in nodes:
        status, answer = node.call("POST", "/collections/c/vectors/get", {"ids": sorted(expected)})
        assert status == 200
        assert {point["id"] for point in answer["points"] if point is not None} == expected
        assert node.call("POST", "/collections/c/count", {})[1]["count"] == len(expected)


@pytest.mark.parametrize("shards", [1, 3])
def test_two_nodes_over_one_folder(shards: int, tmp_path: Path) -> None:
    run({"AKIDB_DATA_DIR": str(tmp_path / "data")}, tmp_path, shards)


@pytest.mark.s3
@pytest.mark.parametrize("shards", [1, 3])
def test_two_nodes_over_one_bucket(shards: int, s3_settings: Settings, tmp_path: Path) -> None:
    storage = s3_settings.storage
    run(
        {
            "AKIDB_S3_ENDPOINT": storage.s3_endpoint or "",
            "AKIDB_S3_ACCESS_KEY": storage.s3_access_key or "",
            "AKIDB_S3_SECRET_KEY": storage.s3_secret_key or "",
            "AKIDB_S3_BUCKET": f"two-nodes-{shards}",
            "AKIDB_CACHE_HOT_PATH": str(tmp_path / "cache"),
        },
        tmp_path,
        shards,
    )
