"""A library in a process of its own: its memory is its own, and so are its threads, its OpenMP and its crashes."""

from __future__ import annotations

import contextlib
import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from bench.ann.peers import ROWS
from bench.ann.peers.library import Ids, Job, Setting, Vectors
from bench.memory import resident_bytes

WARMUP = 100
"""Queries asked before the clock starts, since another library's turn went before."""


class WorkerError(Exception):
    """The library could not be loaded, or failed; says how."""


@dataclass(frozen=True)
class Built:
    version: str
    seconds: float
    cpu_seconds: float
    settings: Sequence[Setting]


@dataclass(frozen=True)
class Turn:
    """One round at one setting: queries per second one by one, by wall and CPU time, and all in one call; the bytes
    that have become resident since before the build, mapped pages included.
    """

    found: Ids
    qps_one: float
    qps_cpu: float
    qps_all: float
    resident_bytes: int


@dataclass(frozen=True)
class Files:
    base: Path
    queries: Path


class Worker:
    """The measuring process's end."""

    def __init__(self, name: str, job: Job, files: Files, k: int) -> None:
        self.name = name
        context = multiprocessing.get_context("spawn")
        self._pipe, end = context.Pipe()
        self._process = context.Process(target=_serve, args=(end, name, job, files, k), daemon=True)
        self._process.start()
        end.close()

    def built(self) -> Built:
        """Waits for the build, which begins by itself. Raises WorkerError."""
        built: Built = self._answer()
        return built

    def turn(self, setting: Setting) -> Turn:
        """Raises WorkerError."""
        with contextlib.suppress(BrokenPipeError):  # the answer says why
            self._pipe.send(setting)
        turn: Turn = self._answer()
        return turn

    def _answer(self) -> Any:
        try:
            answer = self._pipe.recv()
        except (EOFError, ConnectionResetError):
            self._process.join()
            raise WorkerError(f"the process ended with {self._process.exitcode}") from None
        if isinstance(answer, str):
            raise WorkerError(answer)
        return answer

    def close(self) -> None:
        self._pipe.close()
        self._process.kill()
        self._process.join()


def _serve(pipe: Connection, name: str, job: Job, files: Files, k: int) -> None:
    try:
        _work(pipe, name, job, files, k)
    except EOFError:
        pass
    except Exception as error:  # whatever a library raises becomes a line of the report
        pipe.send(f"{type(error).__name__}: {error}")


def _work(pipe: Connection, name: str, job: Job, files: Files, k: int) -> None:
    row = ROWS[name]
    version = metadata.version(row.package)
    library = row.library(job)
    queries, base = np.load(files.queries), np.load(files.base)
    before = resident_bytes() - base.nbytes
    start, cpu = time.perf_counter(), time.process_time()
    library.build(base)
    built = Built(version, time.perf_counter() - start, time.process_time() - cpu, library.settings())
    del base
    library.settle()
    pipe.send(built)
    one_by_one: list[Vectors] = list(queries)
    while True:
        library.apply(pipe.recv())
        for query in one_by_one[:WARMUP]:
            library.search_one(query, k)
        start, cpu = time.perf_counter(), time.process_time()
        found = [library.search_one(query, k) for query in one_by_one]
        one, cpu = time.perf_counter() - start, time.process_time() - cpu
        start = time.perf_counter()
        library.search_all(queries, k)
        every = time.perf_counter() - start
        n = len(queries)
        pipe.send(Turn(_rows(found, k), n / one, n / cpu, n / every, resident_bytes() - before))


def _rows(found: list[Ids], k: int) -> Ids:
    """(n, k); a library that found fewer than k gives fewer."""
    rows = np.full((len(found), k), -1, np.int64)
    for row, ids in zip(rows, found, strict=True):
        row[: len(ids)] = ids
    return rows
