"""akidb-api as a process: its flags, its lines, its signals, its workers."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from click.testing import CliRunner

import akidb
from akidb.cli.api import main

ROOT = Path(akidb.__file__).parents[1]
PATIENCE_SECS = 60.0


def environment(tmp_path: Path, **changes: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("AKIDB_", "RUST_LOG"))}
    own = {"PYTHONPATH": str(ROOT), "AKIDB_DATA_DIR": str(tmp_path / "data"), "AKIDB_API_DRAIN_DELAY_SECS": "0"}
    return clean | own | {"AKIDB_BIND_ADDRESS": "127.0.0.1:0"} | changes


class Process:
    """A running akidb-api whose lines are read as they come."""

    def __init__(self, tmp_path: Path, *arguments: str, **changes: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "akidb.cli.api", *arguments],
            env=environment(tmp_path, **changes),
            cwd=tmp_path,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.lines: list[dict[str, object]] = []
        self.base = str(re.search(r"http://\S+?(?=,)", self.line("listens on"))[0])

    def line(self, text: str) -> str:
        """Reads on until a line says `text`; returns its message."""
        assert self.process.stdout is not None
        for raw in self.process.stdout:
            self.lines.append(json.loads(raw))
            message = str(self.lines[-1]["message"])
            if text in message:
                return message
        raise AssertionError(f"the process ended before it said {text!r}: {self.lines}")

    @property
    def workers(self) -> list[int]:
        """Process ids of the workers started so far."""
        return [int(str(line["pid"])) for line in self.lines if line["message"] == "worker started"]

    def listens(self) -> bool:
        host, port = self.base.removeprefix("http://").split(":")
        try:
            socket.create_connection((host, int(port))).close()
        except ConnectionRefusedError:
            return False
        return True

    def get(self, path: str) -> tuple[int, bytes]:
        try:
            with urllib.request.urlopen(self.base + path, timeout=PATIENCE_SECS) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_SECS)


@contextmanager
def running(tmp_path: Path, *arguments: str, **changes: str) -> Iterator[Process]:
    process = Process(tmp_path, *arguments, **changes)
    try:
        yield process
    finally:
        if process.process.poll() is None:
            process.process.kill()
        process.process.wait()
        process.process.stdin.close()
        process.process.stdout.close()


def invoke(*arguments: str, **environ: str):
    cleared = {name: None for name in os.environ if name.startswith("AKIDB_")}
    return CliRunner().invoke(main, arguments, env=cleared | environ)


def test_version_and_help():
    assert invoke("--version").output == f"akidb-api, version {akidb.__version__}\n"
    text = invoke("--help").output
    for flag in ("--version", "--config", "--check-config", "--bind", "--workers"):
        assert flag in text


def test_check_config_prints_what_holds_and_warns(tmp_path):
    file = tmp_path / "akidb.yaml"
    file.write_text("cluster: {node_address: 'http://10.0.0.1:8080'}\n")
    environ = {"AKIDB_CLUSTER_TOKEN": "hush-hush-hush-hush", "AKIDB_WORKERS": "2"}
    result = invoke("--check-config", "--config", str(file), "--bind", "0.0.0.0:1", **environ)
    assert result.exit_code == 0
    assert "  bind_address: 0.0.0.0:1  # flag --bind" in result.stdout
    assert "  workers: 2  # environment: AKIDB_WORKERS" in result.stdout
    assert "hush" not in result.output
    assert "warning: api.bind_address 0.0.0.0:1 can be reached from other machines" in result.stderr


def test_a_refused_configuration_ends_with_78_and_names_the_place():
    result = invoke("--workers", "none")
    assert result.exit_code == 78
    assert "flag --workers is 'none', expected an integer from 1 to 256" in result.stderr


def test_a_level_that_no_kernel_has_ends_the_start(tmp_path):
    command = [sys.executable, "-m", "akidb.cli.api", "--check-config"]  # a process of its own: a level is for life
    ran = subprocess.run(command, env=environment(tmp_path, AKIDB_SIMD_LEVEL="avx9"), capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (78, "")
    assert 'AKIDB_SIMD_LEVEL is "avx9"; expected one of scalar, ' in ran.stderr


def test_a_busy_port_ends_the_start_and_is_named(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = subprocess.run(
            [sys.executable, "-m", "akidb.cli.api", "--bind", address],
            env=environment(tmp_path), cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_SECS,
        )  # fmt: skip
    assert done.returncode == 78
    assert f"cannot listen on {address}: Address already in use" in done.stderr


def test_it_says_what_it_opened_serves_and_drains_on_sigterm(tmp_path):
    with running(tmp_path) as process:
        first = process.lines[0]["message"]
        assert first.endswith(f"store {tmp_path / 'data'}, auth off")
        assert first.startswith(f"AkiDB {akidb.__version__} listens on http://127.0.0.1:")
        process.line("store opened")
        assert process.get("/health/ready")[0] == 200
        assert b'akidb_api_requests_total{endpoint="/health/ready"' in process.get("/metrics")[1]
        assert process.end(signal.SIGTERM) == 0
        assert process.line("stopped")


def test_not_ready_is_told_during_the_drain_delay(tmp_path):
    with running(tmp_path, AKIDB_API_DRAIN_DELAY_SECS="20") as process:
        process.line("store opened")
        process.process.send_signal(signal.SIGTERM)
        process.line("draining")
        status, body = process.get("/health/ready")
        assert (status, json.loads(body)["code"]) == (503, "not_ready")
        assert process.get("/health/live")[0] == 200
        process.process.send_signal(signal.SIGTERM)  # a second signal is not patient
        assert process.process.wait(PATIENCE_SECS) == -signal.SIGTERM


def test_a_store_that_is_away_is_logged_with_its_cause_while_the_process_lives(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    environ = {
        "AKIDB_S3_ENDPOINT": f"http://127.0.0.1:{port}",
        "AKIDB_S3_ACCESS_KEY": "a",
        "AKIDB_S3_SECRET_KEY": "hush-hush",
        "AKIDB_CACHE_HOT_PATH": str(tmp_path / "cache"),
        "AKIDB_STORAGE_RETRY_MAX_ATTEMPTS": "1",
    }
    with running(tmp_path, **environ) as process:
        message = process.line("Failed to initialize S3")
        assert str(port) in message
        assert process.get("/health/live")[0] == 200
        status, body = process.get("/health/ready")
        assert (status, b"Storage backend not ready" in body) == (503, True)
        assert process.end(signal.SIGTERM) == 0
        assert "hush" not in json.dumps(process.lines)


def test_workers_share_the_port_count_together_and_are_replaced(tmp_path):
    with running(tmp_path, "--workers", "2") as process:
        process.line("store opened")
        process.line("store opened")
        for _ in range(20):
            assert process.get("/health/live")[0] == 200
        text = process.get("/metrics")[1].decode()
        counted = re.search(r'akidb_api_requests_total\{endpoint="/health/live".*\} (\d+)', text)
        assert int(counted[1]) == 20
        os.kill(process.workers[0], signal.SIGKILL)
        process.line("worker died and is replaced")
        process.line("store opened")
        assert process.get("/health/ready")[0] == 200
        assert len(process.workers) == 3
        assert process.end(signal.SIGTERM) == 0
        assert not process.listens()


def test_workers_end_when_their_supervisor_is_killed(tmp_path):
    with running(tmp_path, "--workers", "2") as process:
        process.line("store opened")
        process.line("store opened")
        process.end(signal.SIGKILL)
        deadline = time.monotonic() + PATIENCE_SECS
        while process.listens():
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_workers_cannot_share_a_memory_store():
    result = invoke("--workers", "2", AKIDB_USE_MEMORY_BACKEND="true")
    assert result.exit_code == 78
    assert "processes cannot share it" in result.stderr
