"""README.md promises only what runs: its Python blocks, its curl commands, its links."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.nodes import running

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PATIENCE_SECS = 120


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.M | re.S)


def documents() -> list[Path]:
    top = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "bench/README.md")]
    return top + sorted((ROOT / "docs").rglob("*.md"))


@pytest.mark.parametrize("source", blocks("python"), ids=["embedded", "asyncio", "index"])
def test_a_python_quickstart_runs_and_is_ten_lines(source: str, tmp_path: Path) -> None:
    lines = [line for line in source.splitlines() if line.strip()]
    assert len(lines) <= 10, f"{len(lines)} lines"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AKIDB_")}
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", source],
        cwd=tmp_path,
        env=clean | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECS,
    )
    assert ran.returncode == 0, ran.stderr
    assert "emma" in ran.stdout or float(ran.stdout.removeprefix("recall@10: ")) > 0.9


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_rest_quickstart_runs(tmp_path: Path) -> None:
    with running({"AKIDB_DATA_DIR": str(tmp_path / "data")}, tmp_path) as node:
        commands = blocks("sh")[0].replace("localhost:8080", f"127.0.0.1:{node.port}")
        ran = subprocess.run(["sh", "-e", "-c", commands], capture_output=True, text=True, timeout=PATIENCE_SECS)
    assert ran.returncode == 0, ran.stderr
    created, end = json.JSONDecoder().raw_decode(ran.stdout)
    written, more = json.JSONDecoder().raw_decode(ran.stdout[end:])
    found = json.loads(ran.stdout[end + more :])
    assert (created["name"], written["upserted"]) == ("books", 2)
    assert [hit["id"] for hit in found["results"]] == ["emma"]


def test_the_ingest_command_runs(tmp_path: Path) -> None:
    command = blocks("sh")[1].replace("akidb-ingest", f"{sys.executable} -m akidb.cli.ingest", 1)
    command = command.replace("--to ./data", f"--to {tmp_path}/data")
    own = {"XDG_STATE_HOME": str(tmp_path / "state"), "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        command, shell=True, cwd=ROOT, env=os.environ | own, capture_output=True, text=True, timeout=PATIENCE_SECS
    )
    assert ran.returncode == 0, ran.stderr
    assert "4,000 points stored" in ran.stdout


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a checkout")
def test_what_the_commands_leave_in_a_clone_is_ignored() -> None:
    """Else the house rules would be asked of a reader's own data."""
    (folder,) = set(re.findall(r"--to \./(\w+)", README)) | set(re.findall(r'connect\("\./(\w+)"\)', README))
    (rejects,) = re.findall(r"`([\w.]+\.rejects\.jsonl)`", README)
    for name in (f"{folder}/t/slot", rejects, "akidb-data/format"):
        assert subprocess.run(["git", "check-ignore", "-q", name], cwd=ROOT).returncode == 0, name


@pytest.mark.parametrize("document", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#\s]+)", document.read_text())
    missing = [target for target in targets if not (document.parent / target).exists()]
    assert missing == []
