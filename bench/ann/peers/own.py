"""AkiDB's index: sealed and viewed in its file, as a segment of the database is, and as it grows."""

from __future__ import annotations

from akidb import HnswIndex
from akidb.index import HnswView
from bench.ann.peers.library import Ids, Job, Library, Setting, Vectors


class Growing(Library):
    index: HnswIndex | HnswView

    def build(self, vectors: Vectors) -> None:
        self.index = self._grown(vectors)

    def _grown(self, vectors: Vectors) -> HnswIndex:
        index = HnswIndex(self.job.dim, self.job.metric, self.job.m, self.job.ef_construction)
        index.add(vectors, threads=self.job.threads)
        return index

    def apply(self, setting: Setting) -> None:
        self.index.ef_search = setting["ef"]

    def search_one(self, query: Vectors, k: int) -> Ids:
        return self.index.search(query, k, threads=1).ids

    def search_all(self, queries: Vectors, k: int) -> Ids:
        return self.index.search(queries, k, threads=self.job.threads).ids


class Sealed(Growing):
    """Built, sealed with the default codes, saved, and searched in the file. Of a mapped file those pages count as
    resident that were read; here that is what the searches needed, as it is in the database.
    """

    def __init__(self, job: Job, map_vectors: bool = False) -> None:
        super().__init__(job)
        self.map_vectors = map_vectors
        self.path = job.folder / "akidb.index"

    def build(self, vectors: Vectors) -> None:
        self.index = self._grown(vectors).seal()

    def settle(self) -> None:
        assert isinstance(self.index, HnswView)
        self.index.save(self.path)
        self.index = HnswIndex.view(self.path, map_vectors=self.map_vectors)
