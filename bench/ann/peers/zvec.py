"""Zvec, an embedded database: points are inserted as documents, and `optimize` builds the graph."""

from __future__ import annotations

import numpy as np
import zvec

from bench.ann.peers.library import Ids, Job, SearchesSingly, Setting, Vectors

_BATCH = 1000  # it takes 1,024 at most


class Zvec(SearchesSingly):
    """`int8` walks on 8-bit codes, and compares the candidates by their vectors."""

    def __init__(self, job: Job, *, int8: bool) -> None:
        super().__init__(job)
        zvec.init(log_level=zvec.LogLevel.ERROR, query_threads=job.threads, optimize_threads=job.threads)
        self.int8 = int8
        parameters = zvec.HnswIndexParam(
            getattr(zvec.MetricType, job.metric.upper()),
            m=job.m,
            ef_construction=job.ef_construction,
            quantize_type=zvec.QuantizeType.INT8 if int8 else zvec.QuantizeType.UNDEFINED,
            use_contiguous_memory=True,
        )
        field = zvec.VectorSchema("vector", zvec.DataType.VECTOR_FP32, job.dim, parameters)
        schema = zvec.CollectionSchema(name="bench", fields=[], vectors=field)
        self.points = zvec.create_and_open(str(job.folder / "zvec"), schema)

    def build(self, vectors: Vectors) -> None:
        for start in range(0, len(vectors), _BATCH):
            rows = enumerate(vectors[start : start + _BATCH], start)
            for status in self.points.insert(
                [zvec.Doc(id=str(row), vectors={"vector": vector}) for row, vector in rows]
            ):
                if not status.ok():
                    raise RuntimeError(str(status))
        self.points.optimize(zvec.OptimizeOption(concurrency=self.job.threads))

    def apply(self, setting: Setting) -> None:
        self.parameters = zvec.HnswQueryParam(ef=setting["ef"], is_using_refiner=self.int8)

    def search_one(self, query: Vectors, k: int) -> Ids:
        wanted = zvec.Query("vector", vector=query, param=self.parameters)
        found = self.points.query(wanted, topk=k, output_fields=[])
        return np.array([int(each.id) for each in found], np.int64)
