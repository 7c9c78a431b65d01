"""Fixtures that several folders of tests share."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from akidb.config import Settings
from tests.servers import S3_SERVERS, Minio, S3Server, Versitygw, running


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Commands run in this process set up its logging, which the tests after them must not notice."""
    names = ("", "akidb", "aiohttp.server", "botocore", "aiobotocore", "urllib3")
    levels = {name: logging.getLogger(name).level for name in names}
    handlers = logging.getLogger().handlers[:]
    yield
    logging.getLogger().handlers[:] = handlers
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture(scope="session")
def minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """One server for the whole run; each test takes a bucket of its own. Whoever kills or pauses it starts another."""
    with running(Minio(tmp_path_factory.mktemp("minio"))) as server:
        yield server


@pytest.fixture(scope="session")
def versitygw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Another implementation, on the same terms."""
    with running(Versitygw(tmp_path_factory.mktemp("versitygw"))) as server:
        yield server


@pytest.fixture(params=[kind.name for kind in S3_SERVERS])
def s3_settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Settings that reach each of the session's servers in turn, with a file cache of this test's own."""
    server: S3Server = request.getfixturevalue(request.param)
    return server.settings(tmp_path / "cache")
