"""Garbage collection in real buckets: listings, dates and deletes as servers do them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from akidb.database import Database
from akidb.storage import open_store
from akidb.types import CollectionSpec, Consistency, IndexParams, Metric
from akidb.wal import epochs
from tests.servers import S3_SERVERS

pytestmark = pytest.mark.s3
SPEC = CollectionSpec("points", 4, Metric.EUCLIDEAN, IndexParams(min_vectors_threshold=50))


@pytest.mark.parametrize("server", [kind.name for kind in S3_SERVERS])
async def test_objects_and_slots_go_and_what_is_kept_answers(
    server: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(epochs, "SETTLED_SECS", 0)  # of the hour that tests can't wait
    given = request.getfixturevalue(server).settings(tmp_path / "cache")
    settings = replace(given, storage=replace(given.storage, s3_prefix="garbage"))
    database = await Database.open(open_store(settings), settings)
    points = await database.create_collection(SPEC)
    data = np.random.default_rng(2).standard_normal((60, 4)).astype(np.float32)
    for _ in range(2):
        await points.upsert([str(i) for i in range(60)], data)
        await points.wait_indexed()
    await points.create_snapshot("first")
    await points.delete([str(i) for i in range(30)])
    await points.writers[0].maintenance.fold()  # type: ignore[union-attr]
    deleted = 0
    for _ in range(4):
        (done,) = [each.done for each in await database.collect_garbage(interval_secs=0, force=True)]
        assert done.refused is None, done.detail
        deleted += done.objects
    await database.close()
    assert deleted >= 4  # slots 1 to 3, and what the second upsert replaced
    fresh = await Database.open(open_store(settings), settings)
    again = await fresh.collection("points")
    assert (await again.count(), await again.count(consistency=Consistency(as_of="first"))) == (30, 60)
    await again.upsert(["new"], data[:1])
    assert await again.count() == 31
    await fresh.close()
