"""Fixtures that several folders of tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from akidb.config import Settings
from akidb.config.settings import Cache, Storage
from tests.servers import Minio, running_minio


@pytest.fixture(scope="session")
def minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Minio]:
    """One server for the whole run; each test takes a bucket of its own. Whoever kills or pauses it starts another."""
    with running_minio(tmp_path_factory.mktemp("minio")) as server:
        yield server


@pytest.fixture
def s3_settings(minio: Minio, tmp_path: Path) -> Settings:
    """Settings that reach the session's MinIO, with a file cache of this test's own."""
    storage = Storage(s3_endpoint=minio.endpoint, s3_access_key=minio.access_key, s3_secret_key=minio.secret_key)
    return Settings(storage=storage, cache=Cache(hot_path=str(tmp_path / "cache")))
