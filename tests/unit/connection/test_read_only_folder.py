"""A data folder on a disk that is mounted read-only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import akidb
from akidb.errors import ConfigurationError
from tests.unit.stores import refuse_writing

DIM = 4


def test_a_folder_mounted_read_only_is_refused_unless_it_is_opened_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with akidb.connect(tmp_path) as database:
        collection = database.create_collection("c", DIM)
        collection.upsert([1], np.ones((1, DIM)))
        with monkeypatch.context() as mounted:
            refuse_writing(mounted)
            for write in (
                lambda: collection.upsert([2], np.ones((1, DIM))),
                lambda: collection.delete([1]),
                lambda: database.create_collection("d", DIM),
                lambda: database.drop_collection("c"),
            ):
                with pytest.raises(ConfigurationError, match="AKIDB_DATA_DIR"):
                    write()
            assert collection.count() == 1
    refuse_writing(monkeypatch)
    with pytest.raises(ConfigurationError, match="Read-only file system"):
        akidb.connect(tmp_path)
    with akidb.connect(tmp_path, read_only=True) as database:
        assert database.collection("c").count() == 1
