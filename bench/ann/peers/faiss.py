"""FAISS, by its index factory: HNSW over vectors, HNSW over 8-bit codes, and IVF over 4-bit product codes (fast scan);
the last two with the vectors to compare the candidates by.
"""

from __future__ import annotations

from collections.abc import Sequence

import faiss
import numpy as np

from bench.ann.peers.library import Ids, Job, Library, Setting, Vectors

NPROBES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
REFINES = (2, 8, 32)
"""Candidates per neighbour wanted, that are compared exactly."""


class Hnsw(Library):
    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self.metric = faiss.METRIC_L2 if job.metric == "l2" else faiss.METRIC_INNER_PRODUCT

    def build(self, vectors: Vectors) -> None:
        faiss.omp_set_num_threads(self.job.threads)
        self.index = faiss.index_factory(self.job.dim, self.factory(len(vectors)), self.metric)
        self.inner = self.index
        if isinstance(self.index, faiss.IndexRefine):
            self.inner = faiss.downcast_index(self.index.base_index)
        self.prepare()
        rows = np.ascontiguousarray(self.unit(vectors))
        self.index.train(rows)
        self.index.add(rows)
        faiss.omp_set_num_threads(1)

    def factory(self, n: int) -> str:
        return f"HNSW{self.job.m},Flat"

    def prepare(self) -> None:
        self.inner.hnsw.efConstruction = self.job.ef_construction

    def apply(self, setting: Setting) -> None:
        self.inner.hnsw.efSearch = setting["ef"]

    def search_one(self, query: Vectors, k: int) -> Ids:
        return np.asarray(self.index.search(query[None], k)[1][0])

    def search_all(self, queries: Vectors, k: int) -> Ids:
        faiss.omp_set_num_threads(self.job.threads)
        found = np.asarray(self.index.search(queries, k)[1])
        faiss.omp_set_num_threads(1)
        return found


class HnswSq8(Hnsw):
    def factory(self, n: int) -> str:
        return f"HNSW{self.job.m}_SQ8,RFlat"

    def apply(self, setting: Setting) -> None:
        super().apply(setting)
        # 8 bits misplace a neighbour by a rank or two: twice as many candidates as wanted hold it.
        self.index.k_factor = 1 if setting["ef"] < 20 else 2


class IvfPq(Hnsw):
    def factory(self, n: int) -> str:
        lists = 2 ** round(np.log2(4 * np.sqrt(n)))  # its guidelines: 4 to 16 times the root of n
        parts = next(parts for parts in range(max(1, self.job.dim // 2), 0, -1) if self.job.dim % parts == 0)
        return f"IVF{lists},PQ{parts}x4fs,RFlat"

    def prepare(self) -> None:
        pass

    def settings(self) -> Sequence[Setting]:
        return [{"nprobe": nprobe, "refine": refine} for nprobe in NPROBES for refine in REFINES]

    def apply(self, setting: Setting) -> None:
        self.inner.nprobe, self.index.k_factor = setting["nprobe"], setting["refine"]
