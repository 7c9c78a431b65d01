"""Segments of a remote store, mapped from a file cache that is damaged, too small or on a full disk: same answers."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from akidb.config import Settings
from akidb.database import Database
from akidb.query import SearchQuery
from akidb.storage import cache_folder
from akidb.storage.file_cache import FileCachedStore
from akidb.storage.memory import MemoryStore
from akidb.storage.object_store import ObjectStore
from akidb.storage.wrapper import StoreWrapper
from akidb.telemetry.metrics import Metrics
from akidb.types import CollectionSpec, Metric

DIM = 8
SIZES = (400, 190, 90, 40)  # each less than half of the one before, so folds leave them apart
VECTORS = np.random.default_rng(11).standard_normal((sum(SIZES), DIM)).astype(np.float32)


class _Bucket(StoreWrapper):
    """A store whose objects are far away, as far as the engine can tell."""

    can_delete = False

    def __init__(self, inner: ObjectStore | None = None) -> None:
        super().__init__(inner or MemoryStore())

    async def close(self) -> None:
        """The objects outlive the connection."""


@pytest.fixture
async def bucket() -> _Bucket:
    """A collection of several segments."""
    made = _Bucket()
    database = await Database.open(made, Settings())
    collection = await database.create_collection(CollectionSpec("c", DIM, Metric.EUCLIDEAN))
    start = 0
    for size in SIZES:
        await collection.upsert(range(start, start + size), VECTORS[start : start + size])
        await collection.writers[0].maintenance.fold()
        start += size
    await database.close()
    return made


async def _segments(bucket: _Bucket) -> dict[str, int]:
    return {info.key: info.size async for info in bucket.list_from("t/") if "/seg/" in info.key}


async def _check(store: ObjectStore) -> None:
    """Opens the collection anew and compares its answers with a scan of what was stored."""
    database = await Database.open(store, Settings())
    collection = await database.collection("c")
    assert (await collection.info()).segments == len(SIZES)
    for query in VECTORS[::97]:
        (hits,) = await collection.search([SearchQuery(query, top_k=5, exact=True)], timeout_ms=60_000)
        nearest = np.argsort(np.linalg.norm(VECTORS - query, axis=1), kind="stable")[:5]
        assert [hit.id for hit in hits] == [str(n) for n in nearest]
    await database.close()


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def test_damaged_copies_are_fetched_again(bucket: _Bucket, tmp_path: Path) -> None:
    await _check(FileCachedStore(bucket, tmp_path, 1 << 30))
    for path in _files(tmp_path):
        body = bytearray(path.read_bytes())
        body[len(body) // 2] ^= 1
        path.write_bytes(body)
    for path in _files(tmp_path)[:1]:
        path.write_bytes(b"")
    await _check(FileCachedStore(bucket, tmp_path, 1 << 30))
    metrics = Metrics(CollectorRegistry())
    await _check(FileCachedStore(bucket, tmp_path, 1 << 30, metrics))
    assert metrics.registry.get_sample_value("akidb_cache_hits_total", {"tier": "hot"}) == len(SIZES)


async def test_a_cache_of_a_part_of_the_data_answers_all_of_it(
    bucket: _Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_folder, "_GRACE_SECS", 0.0)
    sizes = (await _segments(bucket)).values()
    room = int(sum(sizes) * 0.15)
    for _ in range(2):
        await _check(FileCachedStore(bucket, tmp_path, room))
        assert sum(path.stat().st_size for path in _files(tmp_path)) <= room + max(sizes)


async def test_a_full_disk_costs_no_answer(bucket: _Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "posix_fallocate", full)
    await _check(FileCachedStore(bucket, tmp_path, 1 << 30))
    assert _files(tmp_path) == []
