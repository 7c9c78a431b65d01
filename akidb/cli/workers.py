"""Several serving processes over one socket: started, restarted when they die, and stopped together."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence

log = logging.getLogger("akidb.api")

EXIT_CONFIGURATION = 78
"""EX_CONFIG of sysexits.h: starting again will not help."""

KILL_AFTER_SECS = 27.5
YOUNG_SECS = 10.0
"""A worker that dies younger than this is started again only after a pause."""

RESTART_PAUSE_SECS = 1.0
POLL_SECS = 0.1


class Worker:
    """A child process. The pipe that is its standard input closes when this process ends, however it ends: then the
    worker stops too, and no orphan keeps the port."""

    def __init__(self, command: Sequence[str], listener: socket.socket) -> None:
        self.started = time.monotonic()
        self.process = subprocess.Popen(  # noqa: S603  our own interpreter and module
            command, stdin=subprocess.PIPE, pass_fds=[listener.fileno()]
        )
        log.info("worker started", extra={"pid": self.process.pid})

    def stop(self, *, patient: bool) -> None:
        if patient:
            self.process.terminate()
        else:
            assert self.process.stdin is not None
            self.process.stdin.close()


def supervise(count: int, arguments: Sequence[str], listener: socket.socket) -> int:
    """Keeps `count` workers running until SIGTERM or SIGINT; returns the exit code.

    They are started afresh and not forked: a fork of a process with threads may hang, and macOS forbids more still.
    """
    # prometheus_client reads the variable when it is imported, so it is set before any worker starts.
    shared = tempfile.mkdtemp(prefix="akidb-metrics-")
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = shared
    command = [sys.executable, "-m", "akidb.cli.api", *arguments, "--listener-fd", str(listener.fileno())]
    signals: list[int] = []
    woken = threading.Event()

    def note(number: int, _frame: object) -> None:
        signals.append(number)
        woken.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, note)
    workers = [Worker(command, listener) for _ in range(count)]
    try:
        while not signals:
            woken.wait(POLL_SECS)
            for i, worker in enumerate(workers):
                code = worker.process.poll()
                if code is None:
                    continue
                if code == EXIT_CONFIGURATION:
                    return code
                workers[i] = _replacement(worker, code, command, listener)
        return 0
    finally:
        _end(workers, patient=signals[:1] != [signal.SIGINT] or not sys.stdin.isatty())
        shutil.rmtree(shared, ignore_errors=True)


def _replacement(dead: Worker, code: int, command: Sequence[str], listener: socket.socket) -> Worker:
    from prometheus_client.multiprocess import mark_process_dead

    log.error("worker died and is replaced", extra={"pid": dead.process.pid, "exit_code": code})
    mark_process_dead(dead.process.pid)  # type: ignore[no-untyped-call]
    if time.monotonic() - dead.started < YOUNG_SECS:
        time.sleep(RESTART_PAUSE_SECS)
    return Worker(command, listener)


def _end(workers: Sequence[Worker], *, patient: bool) -> None:
    deadline = time.monotonic() + KILL_AFTER_SECS
    for worker in workers:
        worker.stop(patient=patient)
    for worker in workers:
        try:
            worker.process.wait(max(deadline - time.monotonic(), 0.0))
        except subprocess.TimeoutExpired:
            worker.process.kill()
            worker.process.wait()
