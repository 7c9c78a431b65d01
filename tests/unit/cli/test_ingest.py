"""akidb-ingest as a process: what it prints, how it exits, and what a kill leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

import akidb
from akidb.cli.ingest import EXIT_ARGUMENTS, EXIT_FAILED, EXIT_REJECTS, main

ROOT = Path(akidb.__file__).parents[1]
PATIENCE_SECS = 60.0


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name in [name for name in os.environ if name.startswith(("AKIDB_", "RUST_LOG"))]:
        monkeypatch.delenv(name)


def write_rows(path: Path, count: int) -> None:
    with path.open("w") as file:
        for number in range(count):
            file.write(json.dumps({"id": number, "vector": [1, number], "n": number}) + "\n")


def run(*arguments: str, stdin: str | None = None) -> tuple[int, str]:
    result = CliRunner().invoke(main, arguments, input=stdin)
    return result.exit_code, result.output


def test_it_says_which_store_and_how_many(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", 30)
    code, output = run("--collection", "c", "--file", "rows.jsonl", "--id-column", "id", "--create")
    assert code == 0
    assert f"store: {tmp_path / 'akidb-data'}" in output
    assert "30 points stored in 'c'" in output
    with akidb.connect(tmp_path / "akidb-data", read_only=True) as database:
        assert database.collection("c").count() == 30


def test_rejects_have_their_own_exit_status(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"id": 1, "vector": [1, 2]}\n{\n')
    code, output = run("--collection", "c", "--file", "rows.jsonl", "--id-column", "id", "--create")
    assert code == EXIT_REJECTS
    assert "1 points stored" in output
    assert "1 rows rejected, see c.rejects.jsonl" in output
    assert json.loads((tmp_path / "c.rejects.jsonl").read_text())["line"] == 2


def test_failures_say_why(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", 3)
    code, output = run("--collection", "c", "--file", "rows.jsonl", "--id-column", "id")
    assert code == EXIT_FAILED
    assert "akidb-ingest: there is no collection 'c'; --create makes it" in output
    for arguments, says in (
        (("--file", "no.csv"), "no.csv: No such file"),
        (("--file", "rows.jsonl", "--file", "no.csv"), "no.csv: No such file"),
        (("--file", "state"), "no file ends in"),
        (("--file", "rows.jsonl", "--rejects", "/nonexistent/x"), "there is no folder /nonexistent"),
        (("--file", "rows.jsonl", "--to", "rows.jsonl"), "is a file"),
        (("--file", "-", "--file", "-"), "stands twice"),
    ):
        code, output = run("--collection", "c", *arguments)
        assert (code, says in output) == (EXIT_ARGUMENTS, True), output
    assert run("--collection", "c")[0] == 2
    code, output = run("--collection", "c", "--file", "-", "--format", "csv")
    assert code == 2
    assert "--id-column" in output


FROM_STDIN = ("--collection", "c", "--file", "-", "--id-column", "id", "--create", "--to", "data")


def test_csv_from_standard_input() -> None:
    code, output = run(*FROM_STDIN, "--format", "csv", "--distance", "dot", stdin="id,vector\na,1 2\nb,3 4\n")
    assert (code, "2 points stored" in output) == (0, True)
    with akidb.connect("data", read_only=True) as database:
        assert [hit.id for hit in database.collection("c").search([1, 1])] == ["b", "a"]


def test_jsonl_from_standard_input() -> None:
    assert run(*FROM_STDIN, "--format", "jsonl", stdin='{"id": 1, "vector": [1, 2]}\n')[0] == 0


def test_a_killed_run_loses_and_doubles_nothing(tmp_path: Path) -> None:
    rows = 4000
    write_rows(tmp_path / "rows.jsonl", rows)
    arguments = ["--collection", "c", "--file", "rows.jsonl", "--id-column", "id", "--create", "--to", "data"]
    command = [sys.executable, "-m", "akidb.cli.ingest", *arguments, "--batch-size", "10", "--parallel", "2"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    markers = tmp_path / "state" / "akidb" / "ingest"
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + PATIENCE_SECS
    while process.poll() is None and not list(markers.glob("*.json")) and time.monotonic() < deadline:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (marker,) = markers.glob("*.json")
    assert 0 < json.loads(marker.read_bytes())["place"]["row"] < rows  # it was killed on its way
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE_SECS)
    assert finished.returncode == 0, finished.stderr
    assert "goes on after row" in finished.stdout
    assert f"{rows:,} points stored" in finished.stdout
    with akidb.connect("data", read_only=True) as database:
        collection = database.collection("c")
        assert collection.count() == rows
        assert all(point is not None for point in collection.get(range(rows), with_vector=False))
    assert list(markers.glob("*.json")) == []
