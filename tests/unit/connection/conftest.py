"""Every kind of place that akidb.connect opens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from akidb.config import Settings
from tests.nodes import running
from tests.servers import S3_SERVERS

_S3 = [kind.name for kind in S3_SERVERS]


@pytest.fixture(params=["memory", "folder", *(pytest.param(name, marks=pytest.mark.s3) for name in _S3), "http"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Settings | None]]:
    match request.param:
        case "memory":
            yield ":memory:", None
        case "folder":
            yield str(tmp_path / "data"), None
        case name if name in _S3:
            prefix = tmp_path.name.replace("_", "-").lower()
            yield f"s3://connection/{prefix}", request.getfixturevalue(name).settings(tmp_path / "cache")
        case "http":
            with running({"AKIDB_DATA_DIR": str(tmp_path / "data")}, tmp_path) as node:
                yield f"http://127.0.0.1:{node.port}", None
