"""The engine in this process, behind the same surface as the REST client."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from akidb import filter as filters
from akidb.collection import Collection as EngineCollection
from akidb.config import Settings
from akidb.database import Database
from akidb.errors import InvalidInputError, NotFoundError, relocated
from akidb.query import SearchQuery
from akidb.surface import AsyncDatabase, check_options, check_page, check_target, check_timeout, refuse
from akidb.types import (
    AnyConsistency,
    CacheState,
    CollectionInfo,
    CollectionSpec,
    Consistency,
    IfVersion,
    IndexParams,
    Metric,
    Point,
    RevertInfo,
    ScoredPoint,
    SnapshotInfo,
)


class EmbeddedCollection:
    """One collection of an embedded database."""

    def __init__(self, engine: EngineCollection, database: Database, settings: Settings) -> None:
        self.engine = engine
        self._database = database
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

    @property
    def token(self) -> str:
        """For {"session": token} of reads elsewhere: all writes through this handle, and what it has seen of others."""
        return self.engine.token

    @property
    def staleness_ms(self) -> int:
        """How old, in ms and at most, the state is that this process has: what an eventual read sees. While bounded and
        eventual reads come it follows the log by itself (setting `query.tail_poll_ms`)."""
        return self.engine.staleness_ms

    async def upsert(
        self,
        ids: Sequence[str | int],
        vectors: npt.ArrayLike,
        payloads: Sequence[Mapping[str, Any] | bytes | None] | None = None,
        *,
        if_absent: bool = False,
        if_version: IfVersion = None,
        idempotency_key: str | None = None,
    ) -> int:
        """Stores n points, all or nothing; returns the log position, which is their version, when they are durable.

        Args:
            ids: n texts or integers, each once. An existing point is replaced whole.
            vectors: (n, dim).
            payloads: n objects, or their JSON text as bytes, or None.
            if_absent: only if none of them is there.
            if_version: only if each has this version, or its own of n; 0 is not there, None is any.
            idempotency_key: a name for this request: sent again under it within a day it is not done again, whichever
                node it reaches, and answered as before.

        Raises:
            ConflictError: `point_exists`, `version_mismatch`; `faults` has the points; nothing was changed.
            InvalidInputError: names the position and what was expected; nothing was changed.
            UnavailableError, StorageFullError: nothing was changed.
            DeadlineExceededError: with code `outcome_unknown` it may have happened.
        """
        return await self.engine.upsert(
            ids, vectors, payloads, if_absent=if_absent, if_version=if_version, idempotency_key=idempotency_key
        )

    async def delete(
        self, ids: Sequence[str | int], *, if_version: IfVersion = None, idempotency_key: str | None = None
    ) -> int:
        """Deletes by id; ids that are not there are no error. Returns the log position.

        Raises:
            ConflictError: `version_mismatch`: one has another version than `if_version` says (one for all, or one
                each, None for any); nothing was changed.
        """
        return await self.engine.delete(ids, if_version=if_version, idempotency_key=idempotency_key)

    async def delete_where(self, filter: Mapping[str, Any], *, idempotency_key: str | None = None) -> int:
        """Deletes what matches at the moment of the write; returns how many points that were.

        Raises:
            InvalidInputError: the filter is none, or has no condition.
        """
        parsed = self._filter(filter)
        if parsed is None:
            raise refuse("filter", "is None, expected a filter", "invalid_filter")
        deleted, _ = await self.engine.delete_where(parsed, idempotency_key=idempotency_key)
        return deleted

    async def patch(
        self,
        id: str | int,
        payload: Mapping[str, Any] | bytes,
        *,
        if_version: int | None = None,
        idempotency_key: str | None = None,
    ) -> int:
        """Merges `payload` into a point's (RFC 7396: None removes a field); returns the log position.

        Raises:
            NotFoundError: `point_not_found`.
            ConflictError: `version_mismatch`: it has another version than `if_version`; nothing was changed.
        """
        return await self.engine.patch(id, payload, if_version=if_version, idempotency_key=idempotency_key)

    async def get(
        self,
        ids: Sequence[str | int],
        *,
        with_vector: bool = True,
        consistency: AnyConsistency = None,
        as_of: str | None = None,
    ) -> list[Point | None]:
        """Points in the order of `ids`; None where there is none."""
        return await self.engine.get(ids, with_vector=with_vector, consistency=Consistency.parse(consistency, as_of))

    def queries(self, vectors: npt.ArrayLike, *, top_k: int, **options: Any) -> list[SearchQuery]:
        """One SearchQuery per row of `vectors`, all with the same options."""
        check_options(options, self.search_batch)
        array = np.asarray(vectors)
        parsed = self._filter(options.pop("filter", None))
        return [SearchQuery(vector=row, top_k=top_k, filter=parsed, **options) for row in np.atleast_2d(array)]

    async def search(
        self,
        vector: npt.ArrayLike | None = None,
        top_k: int = 10,
        *,
        id: str | int | None = None,
        timeout_ms: int = 1000,
        consistency: AnyConsistency = None,
        as_of: str | None = None,
        **options: Any,
    ) -> list[ScoredPoint]:
        """The `top_k` points nearest to a vector of shape (dim,), or to the stored point `id`, which is left out.

        Options: filter, ef_search or target_recall, exact, with_vector, with_payload, score_threshold. Best first.

        Raises:
            InvalidInputError: wrong dimension, values that are not finite, an unknown option, a bad filter.
            NotFoundError: `point_not_found`: there is no point `id`.
            DeadlineExceededError: `timeout_ms` passed.
        """
        check_target(vector, id)
        if id is not None:
            return await self._near(id, top_k, timeout_ms=timeout_ms, consistency=consistency, as_of=as_of, **options)
        try:
            found = await self.search_batch(
                np.asarray(vector)[None], top_k, timeout_ms=timeout_ms, consistency=consistency, as_of=as_of, **options
            )
        except InvalidInputError as error:
            raise relocated(error, ("queries", 0), ()) from None
        return found[0]

    async def _near(self, id: str | int, top_k: int, **options: Any) -> list[ScoredPoint]:
        (stored,) = await self.get([id], consistency=options["consistency"], as_of=options["as_of"])
        if stored is None:
            raise NotFoundError(f"collection {self.name!r} has no point {str(id)!r}", code="point_not_found")
        wider = top_k + 1 if 0 < top_k < self._settings.api.validation.top_k_max else top_k
        found = await self.search(stored.vector, wider, **options)
        return [hit for hit in found if hit.id != stored.id][:top_k]

    async def search_batch(
        self,
        vectors: npt.ArrayLike,
        top_k: int = 10,
        *,
        timeout_ms: int = 1000,
        consistency: AnyConsistency = None,
        as_of: str | None = None,
        **options: Any,
    ) -> list[list[ScoredPoint]]:
        """`search` for each row of `vectors`, (n, dim), in order; all see one state."""
        check_timeout(timeout_ms)
        queries = self.queries(vectors, top_k=top_k, **options)
        return await self.engine.search(
            queries, timeout_ms=timeout_ms, consistency=Consistency.parse(consistency, as_of)
        )

    async def count(
        self,
        filter: Mapping[str, Any] | None = None,
        *,
        consistency: AnyConsistency = None,
        as_of: str | None = None,
    ) -> int:
        """How many points there are, or how many match `filter`."""
        return await self.engine.count(self._filter(filter), consistency=Consistency.parse(consistency, as_of))

    async def scroll(
        self,
        after: str | int | None = None,
        limit: int = 100,
        filter: Mapping[str, Any] | None = None,
        with_vector: bool = False,
        *,
        consistency: AnyConsistency = None,
        as_of: str | None = None,
    ) -> list[Point]:
        """Up to `limit` points in id order whose id is greater than `after`, which is the last page's last id."""
        check_page(limit)
        return await self.engine.scroll(
            after=None if after is None else str(after),
            limit=limit,
            filter=self._filter(filter),
            with_vector=with_vector,
            consistency=Consistency.parse(consistency, as_of),
        )

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

    async def create_snapshot(self, name: str) -> SnapshotInfo:
        """Keeps the points as they are now, under `name`, without copying any: reads reach them by `as_of`.

        Raises:
            ConflictError: `snapshot_exists`, `too_many_snapshots`; nothing was changed.
            InvalidInputError: `invalid_snapshot`: not a name.
            PartialWriteError: not all of several shards keep their part; drop it before you make it again.
        """
        return await self.engine.create_snapshot(name)

    async def list_snapshots(self) -> list[SnapshotInfo]:
        """All snapshots, oldest first; after them those that are not `complete`, which can only be dropped."""
        return await self.engine.list_snapshots()

    async def drop_snapshot(self, name: str) -> None:
        """Forgets a snapshot. Raises NotFoundError; PartialWriteError: call it again."""
        await self.engine.drop_snapshot(name)

    async def revert(self, name: str, *, idempotency_key: str | None = None) -> RevertInfo:
        """Makes the points those of a snapshot, in each shard for every node at once, as one write. What there was
        before it is kept as a snapshot of its own, `before`, so that a revert can be reverted.

        Raises:
            NotFoundError: `snapshot_not_found`.
            ConflictError: `too_many_snapshots`: there is no room for `before`; nothing was changed.
            DeadlineExceededError: with code `outcome_unknown` it may have happened.
            PartialWriteError: some of several shards went back and others did not; sent again under the same
                `idempotency_key`, those that did are left as they are.
        """
        return await self.engine.revert(name, idempotency_key=idempotency_key)

    async def wait_indexed(self, timeout_ms: int = 600_000) -> None:
        """Returns when every point that is to be in a graph is in one; DeadlineExceededError past `timeout_ms`."""
        await self.engine.wait_indexed(timeout_ms)

    async def pin(self) -> CacheState:
        """Keeps the collection's segments in this machine's file cache: fetched in the background, never removed, also
        after a restart. Returns how much is there. Without a bucket all is here anyway, and nothing is pinned.

        Raises:
            InvalidInputError: `cache_too_small`: they and what is pinned already do not fit; nothing was changed.
            StorageFullError: the cache can't be written.
        """
        return await self.engine.pin()

    async def unpin(self) -> CacheState:
        """Lets the file cache remove them again."""
        return await self.engine.unpin()

    async def alter_index(self, changes: Mapping[str, Any]) -> None:
        """Changes some of the index parameters, {"type", "m", "ef_construction", "ef_search", "quantization"}; returns
        when that is durable. Graphs are built anew, where they need to be, in the background, and those of before
        answer meanwhile; `wait_indexed` waits.

        Raises:
            InvalidInputError: none of them, an unknown one, or a value that cannot be; nothing was changed.
        """
        await self._database.alter_index(self.name, changes)

    async def info(self) -> CollectionInfo:
        """Counts, sizes and the state of the index."""
        return await self.engine.info()


class EmbeddedDatabase(AsyncDatabase[EmbeddedCollection]):
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
        index: IndexParams | Mapping[str, Any] | None = None,
        payload_schema: Mapping[str, Any] | None = None,
        shard_count: int = 1,
        idempotency_key: str | None = None,
    ) -> EmbeddedCollection:
        """A new collection; `index` is IndexParams or a dict of some of its fields, `shard_count` into how many logs,
        1 to 256, its points are spread.

        Raises:
            ConflictError: the name is taken.
            InvalidInputError: bad values.
        """
        params = IndexParams.parse(index, self.engine.default_index)
        spec = CollectionSpec(name, dim, Metric.parse(metric), params, payload_schema, shard_count)
        made = await self.engine.create_collection(spec, idempotency_key=idempotency_key)
        return EmbeddedCollection(made, self.engine, self._settings)

    async def collection(self, name: str) -> EmbeddedCollection:
        """An existing collection. Raises NotFoundError."""
        return EmbeddedCollection(await self.engine.collection(name), self.engine, self._settings)

    async def clone_collection(
        self, source: str, name: str, *, as_of: str | None = None, idempotency_key: str | None = None
    ) -> EmbeddedCollection:
        """A new collection `name` with the points of `source`, or of its snapshot `as_of`; nothing is copied.

        Raises:
            ConflictError: the name is taken, or `too_many_snapshots` and clones of `source`; nothing was created.
            NotFoundError: there is no `source`, or no such snapshot of it.
            InvalidInputError: bad name.
        """
        Consistency.parse(None, as_of)
        made = await self.engine.clone_collection(source, name, as_of=as_of, idempotency_key=idempotency_key)
        return EmbeddedCollection(made, self.engine, self._settings)

    async def list_collections(self) -> list[str]:
        """Names, sorted."""
        return list(await self.engine.list_collections())

    async def drop_collection(self, name: str, *, idempotency_key: str | None = None) -> None:
        """Removes a collection with all its points. Raises NotFoundError."""
        await self.engine.drop_collection(name, idempotency_key=idempotency_key)

    async def close(self) -> None:
        """Waits for writes under way and lets go of files. What was acknowledged is durable without it.

        In a bucket a log that this process made long is folded first, so that others need not read it: after many
        writes that may take seconds.
        """
        try:
            await asyncio.gather(*(collection.settle() for collection in self.engine.at_hand))
        finally:
            await self.engine.close()
