"""The stores that the conformance tests run against."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from akidb.storage.local import LocalStore
from akidb.storage.memory import MemoryStore
from akidb.storage.object_store import ObjectStore
from akidb.storage.s3 import S3Store
from tests.servers import S3_SERVERS, S3Server


@pytest.fixture(params=["memory", "local", *(pytest.param(kind.name, marks=pytest.mark.s3) for kind in S3_SERVERS)])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ObjectStore]:
    made: ObjectStore
    if request.param == "memory":
        made = MemoryStore()
    elif request.param == "local":
        made = LocalStore(tmp_path / "store")
    else:
        server: S3Server = request.getfixturevalue(request.param)
        made = S3Store(server.options(f"test-{uuid.uuid4()}", "some/prefix"))
    yield made
    await made.close()


@pytest.fixture
async def local(tmp_path: Path) -> AsyncIterator[LocalStore]:
    made = LocalStore(tmp_path / "store")
    yield made
    await made.close()
