"""The face that every library under test shows to the measurement."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]
Setting = dict[str, int]
"""What a point of the curve is searched with, by the knob's name."""

EFS = (10, 15, 20, 30, 40, 60, 80, 120, 160, 240, 320, 480, 640, 960)


@dataclass(frozen=True)
class Job:
    """What all libraries are given. `metric` is cosine, l2 or ip; `threads` is for building and for search_all;
    `folder` is a library's own, and is removed at the end.
    """

    dim: int
    metric: str
    m: int
    ef_construction: int
    threads: int
    folder: Path


class Library(ABC):
    def __init__(self, job: Job) -> None:
        self.job = job

    @abstractmethod
    def build(self, vectors: Vectors) -> None:
        """Timed. Ids are the rows' numbers. Must not keep `vectors` themselves."""

    def settle(self) -> None:  # noqa: B027 - most have nothing to do
        """Not timed: brings the built index into the form it is served in."""

    def settings(self) -> Sequence[Setting]:
        """The curve's points, cheapest first; the same grid for every graph."""
        return [{"ef": ef} for ef in EFS]

    @abstractmethod
    def apply(self, setting: Setting) -> None: ...

    @abstractmethod
    def search_one(self, query: Vectors, k: int) -> Ids:
        """(k,) of one query (dim,), on one thread."""

    @abstractmethod
    def search_all(self, queries: Vectors, k: int) -> Ids:
        """(n, k) of all queries in one call, on all threads."""

    def unit(self, vectors: Vectors) -> Vectors:
        """For libraries without a cosine: of length 1 under cosine, so that the inner product orders alike."""
        if self.job.metric != "cosine":
            return vectors
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class SearchesSingly(Library):
    """A library that takes one query per call, and lets go of the GIL in it: all queries go through a pool of Python
    threads.
    """

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self.pool = ThreadPoolExecutor(job.threads)

    def search_all(self, queries: Vectors, k: int) -> Ids:
        return np.asarray(list(self.pool.map(lambda query: self.search_one(query, k), queries)))
