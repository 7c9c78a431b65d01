"""Fixtures that several folders of tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers import Minio, running_minio


@pytest.fixture(scope="session")
def minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Minio]:
    """One server for the whole run; each test takes a bucket of its own. Whoever kills or pauses it starts another."""
    with running_minio(tmp_path_factory.mktemp("minio")) as server:
        yield server
