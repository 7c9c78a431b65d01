"""The same surface without `await`. I/O runs on one background event loop; searches run in the caller's own thread."""

from __future__ import annotations

import os
from collections.abc import Coroutine, Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from akidb.config import Settings
from akidb.connection.asynchronous import AsyncCollection, AsyncConnection, connect_async
from akidb.connection.embedded import EmbeddedCollection
from akidb.connection.io_loop import IoLoop
from akidb.errors import InvalidInputError, relocated
from akidb.surface import check_timeout
from akidb.types import (
    AnyConsistency,
    CacheState,
    CollectionInfo,
    Consistency,
    IfVersion,
    IndexParams,
    Metric,
    Point,
    RevertInfo,
    ScoredPoint,
    SnapshotInfo,
)


class Collection:
    """One collection. Vectors are what numpy can read as float32; ids are text or integers (kept as decimal text)."""

    def __init__(self, inner: AsyncCollection, io: IoLoop) -> None:
        self._inner = inner
        self._io = io

    def __repr__(self) -> str:
        return f"Collection({self.name!r}, dim={self.dim}, metric={self.metric.value!r})"

    @property
    def name(self) -> str:
        return self._inner.name

    @property
    def dim(self) -> int:
        return self._inner.dim

    @property
    def metric(self) -> Metric:
        return self._inner.metric

    @property
    def token(self) -> str:
        """For {"session": token} of reads elsewhere: all writes through this handle are in what they see."""
        return self._inner.token

    @property
    def staleness_ms(self) -> int | None:
        """How old, in ms and at most, the state is that an eventual read sees; of a server, that its last answer to a
        bounded, eventual or session read saw (None before there was one)."""
        return self._inner.staleness_ms

    def upsert(
        self,
        ids: Sequence[str | int],
        vectors: npt.ArrayLike,
        payloads: Sequence[Mapping[str, Any] | bytes | None] | None = None,
        *,
        if_absent: bool = False,
        if_version: IfVersion = None,
        idempotency_key: str | None = None,
    ) -> int:
        """Stores points, all or nothing; returns when they are durable.

        Args:
            ids: n ids, each once. An existing point is replaced whole.
            vectors: shape (n, dim).
            payloads: n JSON objects (dicts, or their JSON text as bytes) or None.
            if_absent: only if none of them is there.
            if_version: only if each has this version, or its own of n; 0 is not there, None is any.
            idempotency_key: a name for this request: sent again under it within a day it is not done again, whichever
                node it reaches, and answered as before.

        Returns:
            The log position (LSN) of the write, which is the points' version.

        Raises:
            ConflictError: `point_exists`, `version_mismatch`; `faults` has the points; nothing was changed.
            InvalidInputError: names the position and what was expected; nothing was changed.
            UnavailableError, StorageFullError: nothing was changed.
            DeadlineExceededError: with code `outcome_unknown` the write may have happened.
        """
        writing = self._inner.upsert(
            ids, vectors, payloads, if_absent=if_absent, if_version=if_version, idempotency_key=idempotency_key
        )
        return self._io.run(writing)

    def delete(
        self, ids: Sequence[str | int], *, if_version: IfVersion = None, idempotency_key: str | None = None
    ) -> int:
        """Deletes points by id; ids that are not there are no error. Returns the log position.

        Raises:
            ConflictError: `version_mismatch`: one has another version than `if_version` says (one for all, or one
                each, None for any); nothing was changed.
        """
        return self._io.run(self._inner.delete(ids, if_version=if_version, idempotency_key=idempotency_key))

    def delete_where(self, filter: Mapping[str, Any], *, idempotency_key: str | None = None) -> int:
        """Deletes what matches at the moment of the write; returns how many points that were.

        Raises:
            InvalidInputError: the filter is none, or has no condition.
        """
        return self._io.run(self._inner.delete_where(filter, idempotency_key=idempotency_key))

    def patch(
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
        writing = self._inner.patch(id, payload, if_version=if_version, idempotency_key=idempotency_key)
        return self._io.run(writing)

    def get(
        self,
        ids: Sequence[str | int],
        *,
        with_vector: bool = True,
        consistency: AnyConsistency = None,
        as_of: str | None = None,
    ) -> list[Point | None]:
        """The points in the order of `ids`, None where there is none."""
        return self._io.run(self._inner.get(ids, with_vector=with_vector, consistency=consistency, as_of=as_of))

    def search(
        self, vector: npt.ArrayLike | None = None, top_k: int = 10, *, id: str | int | None = None, **options: Any
    ) -> list[ScoredPoint]:
        """The `top_k` points nearest to a vector of shape (dim,), or to the stored point `id`, which is left out.

        Options: filter (dict), ef_search or target_recall, exact, with_vector, with_payload, score_threshold,
        timeout_ms = 1000, consistency, as_of (a snapshot's name, or a time). Best first.

        Raises:
            InvalidInputError: wrong dimension, values that are not finite, an unknown option, a bad filter.
            NotFoundError: `point_not_found`: there is no point `id`.
            DeadlineExceededError: `timeout_ms` passed.
        """
        if vector is None or id is not None or not isinstance(self._inner, EmbeddedCollection):
            return self._io.run(self._inner.search(vector, top_k, id=id, **options))
        try:
            return self.search_batch(np.asarray(vector)[None], top_k, **options)[0]
        except InvalidInputError as error:
            raise relocated(error, ("queries", 0), ()) from None

    def search_batch(
        self,
        vectors: npt.ArrayLike,
        top_k: int = 10,
        *,
        timeout_ms: int = 1000,
        consistency: AnyConsistency = None,
        as_of: str | None = None,
        **options: Any,
    ) -> list[list[ScoredPoint]]:
        """`search` for each row of `vectors`, shape (n, dim), in order."""
        inner = self._inner
        if not isinstance(inner, EmbeddedCollection):
            asked = {"timeout_ms": timeout_ms, "consistency": consistency, "as_of": as_of, **options}
            return self._io.run(inner.search_batch(vectors, top_k, **asked))
        check_timeout(timeout_ms)
        wanted, queries = Consistency.parse(consistency, as_of), inner.queries(vectors, top_k=top_k, **options)
        self._io.check_process()
        prepared = inner.engine.prepare(queries, timeout_ms=timeout_ms)
        # Asking the background loop costs two changes of thread, more than the search of a small collection.
        snapshot = inner.engine.snapshot_now(wanted)
        if snapshot is None and not inner.engine.is_warm:
            found = self._io.run(inner.engine.search_remote(prepared, wanted))
            if found is not None:
                return found
        if snapshot is None:
            snapshot = self._io.run(inner.engine.snapshot(wanted, deadline=prepared.deadline))
        return prepared.run(snapshot)

    def count(
        self,
        filter: Mapping[str, Any] | None = None,
        *,
        consistency: AnyConsistency = None,
        as_of: str | None = None,
    ) -> int:
        """How many points there are, or how many match `filter`."""
        return self._io.run(self._inner.count(filter, consistency=consistency, as_of=as_of))

    def scroll(
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
        page = self._inner.scroll(after, limit, filter, with_vector, consistency=consistency, as_of=as_of)
        return self._io.run(page)

    def create_snapshot(self, name: str) -> SnapshotInfo:
        """Keeps the points as they are now, under `name`, without copying any: reads reach them by `as_of`.

        Raises:
            ConflictError: `snapshot_exists`, `too_many_snapshots`; nothing was changed.
            InvalidInputError: `invalid_snapshot`: not a name.
            PartialWriteError: not all of several shards keep their part; drop it before you make it again.
        """
        return self._io.run(self._inner.create_snapshot(name))

    def list_snapshots(self) -> list[SnapshotInfo]:
        """All snapshots, oldest first; after them those that are not `complete`, which can only be dropped."""
        return self._io.run(self._inner.list_snapshots())

    def drop_snapshot(self, name: str) -> None:
        """Forgets a snapshot. Raises NotFoundError; PartialWriteError: call it again."""
        self._io.run(self._inner.drop_snapshot(name))

    def revert(self, name: str, *, idempotency_key: str | None = None) -> RevertInfo:
        """Makes the points those of a snapshot, in each shard for every node at once, as one write. What there was
        before it is kept as a snapshot of its own, `before`, so that a revert can be reverted.

        Raises:
            NotFoundError: `snapshot_not_found`.
            ConflictError: `too_many_snapshots`: there is no room for `before`; nothing was changed.
            DeadlineExceededError: with code `outcome_unknown` it may have happened.
            PartialWriteError: some of several shards went back and others did not; sent again under the same
                `idempotency_key`, those that did are left as they are.
        """
        return self._io.run(self._inner.revert(name, idempotency_key=idempotency_key))

    def wait_indexed(self, timeout_ms: int = 600_000) -> None:
        """Returns when every point that is to be in a graph is in one; DeadlineExceededError past `timeout_ms`."""
        self._io.run(self._inner.wait_indexed(timeout_ms))

    def pin(self) -> CacheState:
        """Keeps the collection's segments in the file cache, of this machine or of the server that answers: fetched in
        the background, never removed, also after a restart. Returns how much is there. Of a store that is a folder or
        memory all is there anyway, and nothing is pinned.

        Raises:
            InvalidInputError: `cache_too_small`: they and what is pinned already do not fit; nothing was changed.
            StorageFullError: the cache can't be written.
        """
        return self._io.run(self._inner.pin())

    def unpin(self) -> CacheState:
        """Lets the file cache remove them again."""
        return self._io.run(self._inner.unpin())

    def alter_index(self, changes: Mapping[str, Any]) -> None:
        """Changes some of the index parameters, {"type", "m", "ef_construction", "ef_search", "quantization"}; returns
        when that is durable. Graphs are built anew, where they need to be, in the background, and those of before
        answer meanwhile; `wait_indexed` waits.

        Raises:
            InvalidInputError: none of them, an unknown one, or a value that cannot be; nothing was changed.
        """
        self._io.run(self._inner.alter_index(changes))

    def info(self) -> CollectionInfo:
        """Counts, sizes and the state of the index."""
        return self._io.run(self._inner.info())


class Connection:
    """A database: what `akidb.connect` gives. Use it in a `with` statement, or call `close`."""

    def __init__(self, inner: AsyncConnection, io: IoLoop) -> None:
        self._inner = inner
        self._io = io
        io.open.add(inner)

    def __repr__(self) -> str:
        return f"Connection({self._inner.location!r})"

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def location(self) -> str:
        return self._inner.location

    def create_collection(
        self,
        name: str,
        dim: int,
        *,
        metric: str | Metric = Metric.COSINE,
        index: IndexParams | Mapping[str, Any] | None = None,
        payload_schema: Mapping[str, Any] | None = None,
        shard_count: int = 1,
        idempotency_key: str | None = None,
    ) -> Collection:
        """A new collection of `dim`-dimensional vectors under "cosine", "euclidean" or "dot".

        Args:
            index: IndexParams, or what REST takes: {"type", "m", "ef_construction", "ef_search"}, each optional.
            shard_count: 1 to 256 logs, over which the points are spread by their ids. Each commits for itself: a batch
                is all or nothing in each, not in all together.
            idempotency_key: a name for this request: sent again under it, whichever node it reaches, it is not done
                again, and answered as before.

        Raises:
            ConflictError: a collection of that name exists.
            InvalidInputError: bad name, dimension or index parameters.
        """
        created: Coroutine[Any, Any, AsyncCollection] = self._inner.create_collection(
            name,
            dim,
            metric=metric,
            index=index,
            payload_schema=payload_schema,
            shard_count=shard_count,
            idempotency_key=idempotency_key,
        )
        return Collection(self._io.run(created), self._io)

    def get_or_create_collection(
        self,
        name: str,
        dim: int,
        *,
        metric: str | Metric | None = None,
        index: IndexParams | Mapping[str, Any] | None = None,
        payload_schema: Mapping[str, Any] | None = None,
        shard_count: int = 1,
    ) -> Collection:
        """The collection of that name, made if need be; `metric` None: whatever it has, Cosine for a new one. `index`,
        `payload_schema` and `shard_count` are of a new one.

        Raises:
            ConflictError: it has another dimension or metric.
        """
        found: Coroutine[Any, Any, AsyncCollection] = self._inner.get_or_create_collection(
            name, dim, metric=metric, index=index, payload_schema=payload_schema, shard_count=shard_count
        )
        return Collection(self._io.run(found), self._io)

    def collection(self, name: str) -> Collection:
        """An existing collection. Raises NotFoundError."""
        found: Coroutine[Any, Any, AsyncCollection] = self._inner.collection(name)
        return Collection(self._io.run(found), self._io)

    def clone_collection(
        self, source: str, name: str, *, as_of: str | None = None, idempotency_key: str | None = None
    ) -> Collection:
        """A new collection `name` with the points, versions and index parameters of `source`; nothing is copied. From
        then on the two have nothing to do with each other: either may be written to and dropped.

        Args:
            as_of: a snapshot of `source`, or a time as of Consistency, whose points are taken instead of the present.
            idempotency_key: as of `create_collection`.

        Raises:
            ConflictError: a collection `name` exists; or `too_many_snapshots`: clones count as snapshots of `source`
                until they have objects of their own. Nothing was created.
            NotFoundError: there is no collection `source`, or no snapshot `as_of` of it.
            InvalidInputError: bad name.
        """
        cloned: Coroutine[Any, Any, AsyncCollection] = self._inner.clone_collection(
            source, name, as_of=as_of, idempotency_key=idempotency_key
        )
        return Collection(self._io.run(cloned), self._io)

    def list_collections(self) -> list[str]:
        """Names, sorted."""
        return self._io.run(self._inner.list_collections())

    def drop_collection(self, name: str, *, idempotency_key: str | None = None) -> None:
        """Removes a collection with all its points. Raises NotFoundError."""
        self._io.run(self._inner.drop_collection(name, idempotency_key=idempotency_key))

    def close(self) -> None:
        """Waits for writes under way and lets go of files and sockets. What was acknowledged is durable without it."""
        self._io.run(self._inner.close())
        self._io.open.discard(self._inner)


def connect(
    where: str | os.PathLike[str],
    *,
    read_only: bool = False,
    settings: Settings | None = None,
    api_key: str | None = None,
) -> Connection:
    """Opens a database.

    Args:
        where: ":memory:" (gone at close), a folder, "s3://bucket/prefix" or "http://host:port" of a running akidb-api.
        read_only: never writes, not even to lay down an empty database.
        settings: as akidb-api reads them; by default the built-in ones, with the AKIDB_S3_ variables for s3://.
        api_key: for a server.

    Raises:
        ConfigurationError: `where` is of no known kind, or the store refuses the credentials or lacks what AkiDB needs.
        NotFoundError: read-only, and there is no database.
        UnavailableError: the store or the server does not answer.
    """
    io = IoLoop.current()
    return Connection(io.run(connect_async(where, read_only=read_only, settings=settings, api_key=api_key)), io)
