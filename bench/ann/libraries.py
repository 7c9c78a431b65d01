"""The libraries under test behind one face, each set up as its documentation says for the metric."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]


class Library(ABC):
    """`metric` is cosine, l2 or ip. `threads` is for building and for search_all."""

    name: str

    def __init__(self, dim: int, metric: str, m: int, ef_construction: int, threads: int) -> None:
        self.dim, self.metric, self.m, self.ef_construction, self.threads = dim, metric, m, ef_construction, threads

    @abstractmethod
    def build(self, vectors: Vectors) -> None: ...

    @abstractmethod
    def set_ef(self, ef: int) -> None: ...

    @abstractmethod
    def search_one(self, query: Vectors, k: int) -> Ids:
        """(k,) of one query (dim,), on one thread."""

    @abstractmethod
    def search_all(self, queries: Vectors, k: int) -> Ids:
        """(n, k) of all queries in one call, on `threads` threads."""


class Akidb(Library):
    name = "akidb"

    def build(self, vectors: Vectors) -> None:
        from akidb import HnswIndex

        self.index = HnswIndex(self.dim, self.metric, self.m, self.ef_construction)
        self.index.add(vectors, threads=self.threads)

    def set_ef(self, ef: int) -> None:
        self.index.ef_search = ef

    def search_one(self, query: Vectors, k: int) -> Ids:
        return self.index.search(query, k, threads=1).ids

    def search_all(self, queries: Vectors, k: int) -> Ids:
        return self.index.search(queries, k, threads=self.threads).ids


class Hnswlib(Library):
    name = "hnswlib"

    def build(self, vectors: Vectors) -> None:
        import hnswlib

        self.index: Any = hnswlib.Index(space=self.metric, dim=self.dim)
        self.index.init_index(max_elements=len(vectors), M=self.m, ef_construction=self.ef_construction)
        self.index.add_items(vectors, num_threads=self.threads)

    def set_ef(self, ef: int) -> None:
        self.index.set_ef(ef)

    def search_one(self, query: Vectors, k: int) -> Ids:
        return np.asarray(self.index.knn_query(query, k, num_threads=1)[0][0], np.int64)

    def search_all(self, queries: Vectors, k: int) -> Ids:
        return np.asarray(self.index.knn_query(queries, k, num_threads=self.threads)[0], np.int64)


class Faiss(Library):
    name = "faiss"

    def build(self, vectors: Vectors) -> None:
        import faiss

        self.faiss = faiss
        faiss.omp_set_num_threads(self.threads)
        metric = faiss.METRIC_L2 if self.metric == "l2" else faiss.METRIC_INNER_PRODUCT
        self.index: Any = faiss.IndexHNSWFlat(self.dim, self.m, metric)
        self.index.hnsw.efConstruction = self.ef_construction
        self.index.add(self._rows(vectors))

    def _rows(self, vectors: Vectors) -> Vectors:
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True) if self.metric == "cosine" else vectors

    def set_ef(self, ef: int) -> None:
        self.index.hnsw.efSearch = ef
        self.faiss.omp_set_num_threads(1)

    def search_one(self, query: Vectors, k: int) -> Ids:
        return np.asarray(self.index.search(query[None], k)[1][0])

    def search_all(self, queries: Vectors, k: int) -> Ids:
        self.faiss.omp_set_num_threads(self.threads)
        found = np.asarray(self.index.search(queries, k)[1])
        self.faiss.omp_set_num_threads(1)
        return found


class Usearch(Library):
    name = "usearch"

    def build(self, vectors: Vectors) -> None:
        from usearch.index import Index

        metric = {"cosine": "cos", "l2": "l2sq", "ip": "ip"}[self.metric]
        self.index: Any = Index(
            ndim=self.dim, metric=metric, dtype="f32", connectivity=self.m, expansion_add=self.ef_construction
        )
        self.index.add(np.arange(len(vectors)), vectors, threads=self.threads)

    def set_ef(self, ef: int) -> None:
        self.index.expansion_search = ef

    def search_one(self, query: Vectors, k: int) -> Ids:
        return np.asarray(self.index.search(query, k, threads=1).keys, np.int64)

    def search_all(self, queries: Vectors, k: int) -> Ids:
        return np.asarray(self.index.search(queries, k, threads=self.threads).keys, np.int64)


LIBRARIES: tuple[type[Library], ...] = (Akidb, Hnswlib, Faiss, Usearch)
