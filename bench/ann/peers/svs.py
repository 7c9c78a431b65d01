"""Scalable Vector Search's Vamana graph over uncompressed vectors: its compression runs on Intel's processors alone."""

from __future__ import annotations

import numpy as np
import svs

from bench.ann.peers.library import Ids, Library, Setting, Vectors


class Vamana(Library):
    """The graph has one level; its degree is that of the others' ground level, twice m. alpha is the default."""

    def build(self, vectors: Vectors) -> None:
        distance = svs.DistanceType.L2 if self.job.metric == "l2" else svs.DistanceType.MIP
        parameters = svs.VamanaBuildParameters(graph_max_degree=2 * self.job.m, window_size=self.job.ef_construction)
        self.index = svs.Vamana.build(parameters, self.unit(vectors), distance, num_threads=self.job.threads)
        self.index.num_threads = 1

    def apply(self, setting: Setting) -> None:
        self.index.search_window_size = setting["ef"]

    def search_one(self, query: Vectors, k: int) -> Ids:
        return np.asarray(self.index.search(query, k)[0][0], np.int64)

    def search_all(self, queries: Vectors, k: int) -> Ids:
        self.index.num_threads = self.job.threads
        found = np.asarray(self.index.search(queries, k)[0], np.int64)
        self.index.num_threads = 1
        return found
