"""VSAG's HGraph: over the vectors, or over codes (8-bit, 4-bit, RaBitQ) with the vectors to reorder the candidates."""

from __future__ import annotations

import json

import numpy as np
import pyvsag

from bench.ann.peers.library import Ids, Job, SearchesSingly, Setting, Vectors


class Vsag(SearchesSingly):
    """`base` is what the graph is walked on. max_degree is the ground level's, which elsewhere is twice m."""

    def __init__(self, job: Job, base: str, *, reorder: bool) -> None:
        super().__init__(job)
        pyvsag.set_logger_off()
        parameters = {
            "base_quantization_type": base,
            "use_reorder": reorder,
            "precise_quantization_type": "fp32",
            "max_degree": 2 * job.m,
            "ef_construction": job.ef_construction,
            "build_thread_count": job.threads,
        }
        space = {"dtype": "float32", "metric_type": job.metric, "dim": job.dim, "index_param": parameters}
        self.index = pyvsag.Index("hgraph", json.dumps(space))

    def build(self, vectors: Vectors) -> None:
        self.index.build(vectors=vectors, ids=np.arange(len(vectors)), num_elements=len(vectors), dim=self.job.dim)

    def apply(self, setting: Setting) -> None:
        self.parameters = json.dumps({"hgraph": {"ef_search": setting["ef"]}})

    def search_one(self, query: Vectors, k: int) -> Ids:
        return np.asarray(self.index.knn_search(query, k, self.parameters)[0])
