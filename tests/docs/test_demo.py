"""`make run`, from the first start to Ctrl-C, and the curl commands that it prints."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.servers import free_port

ROOT = Path(__file__).parents[2]
PATIENCE_SECS = 60


@contextlib.contextmanager
def demo(tmp_path: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    own = {"AKIDB_BIND_ADDRESS": f"127.0.0.1:{port}", "AKIDB_DATA_DIR": str(tmp_path / "data")}
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AKIDB_")}
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "scripts" / "run_demo.py")],
        env=clean | own | {"XDG_STATE_HOME": str(tmp_path / "state"), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A shell that runs the tests in the background has Ctrl-C ignored, and its children inherit that.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        assert process.stdout is not None
        process.stdout.close()
        process.wait(PATIENCE_SECS)


def until_it_answers(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("AkiDB answers at"):
            return "".join(lines)
    raise AssertionError("".join(lines))


@pytest.mark.slow
def test_make_run_shows_searches_that_can_be_repeated(tmp_path: Path) -> None:
    port = free_port()
    with demo(tmp_path, port) as process:
        shown = until_it_answers(process)
        assert "4,000 points stored in 'packages'" in shown
        small_web_servers = shown[shown.index("a small web server") :]
        assert re.findall(r"^  0\.\d{3}  (\S+)", small_web_servers, re.M)[:2] == ["mini-httpd", "micro-httpd"]
        commands = re.findall(r"^  (curl .*)$", shown, re.M)
        assert len(commands) == 3
        if shutil.which("curl"):
            for command in commands:
                answer = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, timeout=PATIENCE_SECS)
                ids = [hit["id"] for hit in json.loads(answer.stdout)["results"]]
                assert len(ids) == 5
                assert all(id in shown for id in ids)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_SECS) == 0
    with demo(tmp_path, port) as process:
        assert "the sample is there: 4,000 packages" in until_it_answers(process)


def test_a_busy_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with demo(tmp_path, port) as process:
            output, _ = process.communicate(timeout=PATIENCE_SECS)
    assert process.returncode == 1
    assert f"port {port} on 127.0.0.1 is in use" in output
    assert not (tmp_path / "data").exists()
