"""Temporary folders: gone when they are done with, kept while somebody works in them, swept when he was killed."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from akidb.storage import scratch as module
from akidb.storage.scratch import scratch, sweep

_DIES = """
import os
from akidb.storage.scratch import scratch
with scratch("fold") as folder:
    (folder / "half").write_bytes(b"x")
    print(folder, flush=True)
    os.kill(os.getpid(), 9)
"""


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def _age(folder: Path) -> None:
    os.utime(folder, (1, 1))


def test_a_folder_is_gone_when_it_is_done_with() -> None:
    with scratch("fold") as folder:
        (folder / "segment").write_bytes(b"x")
        _age(folder)
        assert sweep() == 0
        assert (folder / "segment").exists()
    assert not folder.exists()


def test_what_a_killed_process_left_is_swept(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", _DIES], capture_output=True, text=True, env=os.environ | {"TMPDIR": str(tmp_path)}
    )
    left = Path(ran.stdout.strip())
    assert ran.returncode == -9
    assert (left / "half").exists()
    assert sweep() == 0, "it may be just being made"
    _age(left)
    assert sweep() == 1
    assert not left.exists()


def test_others_folders_and_links_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "akidb-scratch-link").symlink_to(elsewhere)
    (tmp_path / "akidb-scratch-file").write_bytes(b"x")
    of_another = tmp_path / "akidb-scratch-fold-1"
    of_another.mkdir()
    for path in (elsewhere, of_another, tmp_path / "akidb-scratch-file"):
        _age(path)
    uid = os.getuid()
    monkeypatch.setattr(module.os, "getuid", lambda: uid + 1)
    assert sweep() == 0
    monkeypatch.setattr(module.os, "getuid", lambda: uid)
    assert sweep() == 1
    assert elsewhere.exists()
    assert not of_another.exists()
