"""The scripts that emulate ARM: when there is nothing to emulate, and when nothing may be passed over."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from scripts import count_instructions

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("machine", ["aarch64", "arm64"], ids=["linux", "macos"])
@pytest.mark.parametrize("script", ["test-arm.sh", "test-arm-wheel.sh"])
def test_a_machine_that_is_arm_needs_no_tools(tmp_path: Path, script: str, machine: str) -> None:
    """Nor what macOS lacks: nproc, realpath -m."""
    for name in ("bash", "dirname"):
        tool = shutil.which(name)
        assert tool is not None
        (tmp_path / name).symlink_to(tool)
    (tmp_path / "uname").write_text(f"#!/bin/sh\necho {machine}\n")
    (tmp_path / "uname").chmod(0o755)
    environment = {"PATH": str(tmp_path), "CI": "true"}
    ran = subprocess.run([ROOT / "scripts" / script], env=environment, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "nothing to emulate" in ran.stdout


@pytest.mark.parametrize(("ci", "status"), [("true", 1), ("", 0)])
def test_counts_of_another_compiler_are_no_pass_in_ci(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ci: str, status: int
) -> None:
    record = tmp_path / "instructions.json"
    record.write_text(json.dumps({"compiler": "g++ 1", "instructions_per_call": {"neon dot 128": 10}}))
    monkeypatch.setattr(count_instructions, "RECORD", record)
    monkeypatch.setattr(count_instructions, "count", lambda build: {"neon dot 128": 99})
    monkeypatch.setattr(count_instructions, "compiler_version", lambda: "g++ 2")
    monkeypatch.setattr("sys.argv", ["count_instructions"])
    monkeypatch.setitem(os.environ, "CI", ci)
    assert count_instructions.main() == status
    assert "NOT COMPARED, recorded with g++ 1, this is g++ 2" in capsys.readouterr().out
