"""The engine in this process, behind the same surface as the REST client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from akidb import filter as filters
from akidb.collection import Collection as EngineCollection
from akidb.config import Settings
from akidb.database import Database
from akidb.query import SearchQuery
from akidb.types import CollectionInfo, CollectionSpec, Consistency, IndexParams, Metric, Point, ScoredPoint


class EmbeddedCollection:
    """One collection of an embedded database."""

    def __init__(self, engine: EngineCollection, settings: Settings) -> None:
        self.engine = engine
        self._settings = settings

    @property
    def name(self) -> str:
        return self.engine.spec.name

    @property
    def dim(self) -> int:
        return self.engine.spec.dim

    @property
    def metric(self) -> Metric:
        return self.engine.spec.metric

    async def upsert(
        self,
        ids: Sequence[str | int],
        vectors: npt.ArrayLike,
        payloads: Sequence[Mapping[str, Any] | bytes | None] | None = None,
    ) -> int:
        return await self.engine.upsert(ids, vectors, payloads)

    async def delete(self, ids: Sequence[str | int]) -> int:
        return await self.engine.delete(ids)

    async def get(
        self, ids: Sequence[str | int], *, with_vector: bool = True, consistency: Consistency | None = None
    ) -> list[Point | None]:
        return await self.engine.get(ids, with_vector=with_vector, consistency=consistency)

    def queries(self, vectors: npt.ArrayLike, **options: Any) -> list[SearchQuery]:
        """One SearchQuery per row of `vectors`, all with the same options."""
        array = np.asarray(vectors)
        parsed = self._filter(options.pop("filter", None))
        return [SearchQuery(vector=row, filter=parsed, **options) for row in np.atleast_2d(array)]

    async def search(
        self,
        vector: npt.ArrayLike,
        top_k: int = 10,
        *,
        timeout_ms: int = 1000,
        consistency: Consistency | None = None,
        **options: Any,
    ) -> list[ScoredPoint]:
        queries = self.queries(np.asarray(vector)[None], top_k=top_k, **options)
        return (await self.engine.search(queries, timeout_ms=timeout_ms, consistency=consistency))[0]

    async def search_batch(
        self,
        vectors: npt.ArrayLike,
        top_k: int = 10,
        *,
        timeout_ms: int = 1000,
        consistency: Consistency | None = None,
        **options: Any,
    ) -> list[list[ScoredPoint]]:
        queries = self.queries(vectors, top_k=top_k, **options)
        return await self.engine.search(queries, timeout_ms=timeout_ms, consistency=consistency)

    async def count(self, filter: Mapping[str, Any] | None = None, *, consistency: Consistency | None = None) -> int:
        return await self.engine.count(self._filter(filter), consistency=consistency)

    def _filter(self, given: Mapping[str, Any] | None) -> filters.Filter | None:
        if given is None:
            return None
        limits = self._settings.query
        return filters.parse(
            given,
            max_depth=limits.max_filter_depth,
            max_clauses=limits.max_filter_clauses,
            schema=filters.PayloadSchema.parse(self.engine.spec.payload_schema),
        )

    async def wait_indexed(self, timeout_ms: int = 600_000) -> None:
        await self.engine.wait_indexed(timeout_ms)

    async def info(self) -> CollectionInfo:
        return await self.engine.info()


class EmbeddedDatabase:
    """The collections of one store, opened in this process."""

    def __init__(self, engine: Database, settings: Settings) -> None:
        self.engine = engine
        self._settings = settings

    @property
    def location(self) -> str:
        return self.engine.location

    async def create_collection(
        self,
        name: str,
        dim: int,
        *,
        metric: str | Metric = Metric.COSINE,
        index: IndexParams | None = None,
        payload_schema: Mapping[str, Any] | None = None,
    ) -> EmbeddedCollection:
        spec = CollectionSpec(name, dim, Metric.parse(metric), index or self.engine.default_index, payload_schema)
        return EmbeddedCollection(await self.engine.create_collection(spec), self._settings)

    async def collection(self, name: str) -> EmbeddedCollection:
        return EmbeddedCollection(await self.engine.collection(name), self._settings)

    async def list_collections(self) -> list[str]:
        return [collection.spec.name for collection in await self.engine.list_collections()]

    async def drop_collection(self, name: str) -> None:
        await self.engine.drop_collection(name)

    async def close(self) -> None:
        await self.engine.close()
