"""hnswlib, USearch and Voyager: one call to build and one to search. Each is imported where it is made, so that one may
be missing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bench.ann.peers.library import Ids, Job, Library, Setting, Vectors


class Hnswlib(Library):
    def __init__(self, job: Job) -> None:
        super().__init__(job)
        import hnswlib

        self.index: Any = hnswlib.Index(space=job.metric, dim=job.dim)

    def build(self, vectors: Vectors) -> None:
        self.index.init_index(max_elements=len(vectors), M=self.job.m, ef_construction=self.job.ef_construction)
        self.index.add_items(vectors, num_threads=self.job.threads)

    def apply(self, setting: Setting) -> None:
        self.index.set_ef(setting["ef"])

    def search_one(self, query: Vectors, k: int) -> Ids:
        return np.asarray(self.index.knn_query(query, k, num_threads=1)[0][0], np.int64)

    def search_all(self, queries: Vectors, k: int) -> Ids:
        return np.asarray(self.index.knn_query(queries, k, num_threads=self.job.threads)[0], np.int64)


class Usearch(Library):
    """`dtype` is what it keeps of each number: f32, bf16 or i8."""

    def __init__(self, job: Job, dtype: str) -> None:
        super().__init__(job)
        from usearch.index import Index

        metric = {"cosine": "cos", "l2": "l2sq", "ip": "ip"}[job.metric]
        # What it makes of a float vector as i8 is its direction; where lengths matter it has to be given integers.
        self.gives_integers = dtype == "i8" and job.metric != "cosine"
        self.index: Any = Index(
            ndim=job.dim, metric=metric, dtype=dtype, connectivity=job.m, expansion_add=job.ef_construction
        )

    def build(self, vectors: Vectors) -> None:
        self.step = np.abs(vectors).max() / 127
        self.index.add(np.arange(len(vectors)), self._given(vectors), threads=self.job.threads)

    def apply(self, setting: Setting) -> None:
        self.index.expansion_search = setting["ef"]

    def search_one(self, query: Vectors, k: int) -> Ids:
        return np.asarray(self.index.search(self._given(query), k, threads=1).keys, np.int64)

    def search_all(self, queries: Vectors, k: int) -> Ids:
        return np.asarray(self.index.search(self._given(queries), k, threads=self.job.threads).keys, np.int64)

    def _given(self, vectors: Vectors) -> Vectors | npt.NDArray[np.int8]:
        return (vectors / self.step).round().clip(-127, 127).astype(np.int8) if self.gives_integers else vectors


class Voyager(Library):
    def __init__(self, job: Job) -> None:
        super().__init__(job)
        import voyager

        space = {"cosine": "Cosine", "l2": "Euclidean", "ip": "InnerProduct"}[job.metric]
        self.index: Any = voyager.Index(
            getattr(voyager.Space, space), job.dim, M=job.m, ef_construction=job.ef_construction
        )

    def build(self, vectors: Vectors) -> None:
        self.index.resize(len(vectors))
        self.index.add_items(vectors, np.arange(len(vectors)), num_threads=self.job.threads)

    def apply(self, setting: Setting) -> None:
        self.ef = setting["ef"]

    def search_one(self, query: Vectors, k: int) -> Ids:
        return np.asarray(self.index.query(query, k, query_ef=self.ef)[0], np.int64)

    def search_all(self, queries: Vectors, k: int) -> Ids:
        found = self.index.query(queries, k, num_threads=self.job.threads, query_ef=self.ef)
        return np.asarray(found[0], np.int64)
