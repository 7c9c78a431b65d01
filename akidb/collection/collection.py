"""One collection as the database's users see it: checked input in, durable writes and exact consistency out."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from uuid import UUID

import numpy as np

from akidb import query
from akidb.collection.follower import Follower
from akidb.collection.points import check_target_recall, check_values, refuse
from akidb.collection.prepared import PreparedSearch
from akidb.collection.shard import Shard
from akidb.collection.snapshots import Snapshots
from akidb.collection.token import session_token
from akidb.collection.writes import Writes
from akidb.errors import AkiDBError, ReadOnlyError
from akidb.filter import Filter
from akidb.query import SearchQuery, Snapshot
from akidb.types import (
    EF_MAX,
    EVENTUAL,
    CollectionInfo,
    CollectionSpec,
    CompactionState,
    Consistency,
    Lsn,
    Point,
    RevertInfo,
    ScoredPoint,
    SnapshotInfo,
)

READ_TIMEOUT_MS = 10_000
SPEC_SECS = 10.0
"""How old the index parameters that a node goes by may be while it answers."""


class Collection(Writes):
    """Points under one name. All methods are safe to call concurrently from one event loop; `prepare` and
    `snapshot_now` from any thread."""

    def __init__(self, shard: Shard, *, read_only: bool) -> None:
        super().__init__(shard, read_only=read_only)
        self._follower = Follower(shard) if read_only else None
        self._snapshots = Snapshots(shard, None if self._maintenance is None else self._maintenance.fold)
        self._looked_at_spec = time.monotonic()
        self._looking: asyncio.Task[None] | None = None

    @property
    def uuid(self) -> UUID:
        """What tells it from an earlier collection of its name."""
        return self._shard.uuid

    async def take_spec(self, spec: CollectionSpec) -> None:
        """Goes on with the catalogue's index parameters."""
        await self._shard.take_spec(spec)

    def token(self, lsn: Lsn | None = None) -> str:
        """For the consistency `session` of later reads, on any node: of slot `lsn`, or of all that this node knows."""
        return session_token(self.uuid, self.lsn if lsn is None else lsn)

    @property
    def last_answer(self) -> float:
        """When the store last answered a read or a write of this collection's log (time.monotonic seconds)."""
        return self._shard.last_answer

    @property
    def background_error(self) -> AkiDBError | None:
        """Why folding, graph building or following others does not get on, if it does not."""
        work = self._maintenance or self._follower
        return None if work is None else work.last_error

    async def get(
        self, ids: Sequence[str | int], *, consistency: Consistency | None = None, with_vector: bool = True
    ) -> list[Point | None]:
        """Points in the order of `ids`; None where there is none."""
        names = await self._checked_ids(ids)
        snapshot = await self.snapshot(consistency)
        return await self._in_thread(lambda: query.fetch(snapshot, names, with_vector=with_vector))

    async def search(
        self, queries: Sequence[SearchQuery], *, timeout_ms: int = 1000, consistency: Consistency | None = None
    ) -> list[list[ScoredPoint]]:
        """Answers in the order of `queries`, each best first.

        Raises:
            InvalidInputError: a vector of the wrong shape or with values that are not finite, top_k out of range.
            DeadlineExceededError: `timeout_ms` passed; the work has stopped.
            UnavailableError: the store did not answer a strong read.
        """
        prepared = self.prepare(queries, timeout_ms=timeout_ms)
        found = await self.search_remote(prepared, consistency)
        if found is not None:
            return found
        snapshot = await self.snapshot(consistency, deadline=prepared.deadline)
        return await self._in_thread(partial(prepared.run, snapshot))

    def read_since(self, consistency: Consistency | None = None) -> float | None:
        """A read with `consistency` that begins now sees all that the log held at this time (time.monotonic() seconds);
        None where that goes without saying: for strong reads, and for snapshots."""
        wanted, now = consistency or self._default_consistency(), time.monotonic()
        if wanted.mode == "strong" or wanted.as_of is not None:
            return None
        caught_up = self._shard.caught_up
        is_recent = wanted.mode != "bounded" or now - caught_up < wanted.bounded_ms / 1000
        return caught_up if is_recent and caught_up > -math.inf else now  # else the read looks at the log itself

    @property
    def staleness_ms(self) -> int:
        """How old, at most, the state is that this node has: what an eventual read sees."""
        since = self.read_since(EVENTUAL)
        assert since is not None, "of eventual reads it is known"
        return math.ceil((time.monotonic() - since) * 1000)

    async def search_remote(
        self, prepared: PreparedSearch, consistency: Consistency | None = None
    ) -> list[list[ScoredPoint]] | None:
        """The answers from segments in the bucket, by ranged reads, while they are not on this machine; None where they
        are, or where these queries need them here: those with a filter, exact ones, many or large ones.

        Raises as `search`, and CorruptionError.
        """
        self._refuse_closed()
        wanted = consistency or self._default_consistency()
        if wanted.as_of is not None:
            return None
        return await self._shard.search_remote(prepared.queries, wanted, deadline=prepared.deadline)

    def prepare(self, queries: Sequence[SearchQuery], *, timeout_ms: int = 1000) -> PreparedSearch:
        """Checks the queries; their time runs from here. Any thread may ask."""
        deadline = time.monotonic() + timeout_ms / 1000
        checked = [self._checked(search, i) for i, search in enumerate(queries)]
        limits = self._settings.query
        return PreparedSearch(checked, deadline, limits.max_parallel_segments if limits.parallel_segments else 1)

    def _checked(self, search: SearchQuery, position: int) -> SearchQuery:
        loc = ("queries", position)
        top_k_max = self._settings.api.validation.top_k_max
        numbers = [("invalid_top_k", "top_k", search.top_k, top_k_max)]
        if search.ef_search is not None:
            numbers.append(("invalid_ef_search", "ef_search", search.ef_search, EF_MAX))
        for code, name, value, most in numbers:
            if not isinstance(value, int | np.integer) or isinstance(value, bool) or not 1 <= value <= most:
                raise refuse(code, (*loc, name), f"is {value!r}, expected 1 to {most}, an integer")
        if search.target_recall is not None:
            check_target_recall(search.target_recall, search.ef_search, (*loc, "target_recall"))
        vector = np.asarray(search.vector)
        if vector.dtype.kind not in "fiub":
            raise refuse("invalid_vector", (*loc, "vector"), f"dtype is {vector.dtype}, expected numbers")
        if vector.shape != (self.spec.dim,):
            shape = f"{vector.shape[0]} dimensions" if vector.ndim == 1 else f"shape {vector.shape}"
            raise refuse("dimension_mismatch", (*loc, "vector"), f"has {shape}, the collection has {self.spec.dim}")
        with np.errstate(over="ignore"):
            vector = np.ascontiguousarray(vector, np.float32)
        check_values(vector[None], self.spec.metric, ("queries",), first=position)
        return replace(search, vector=vector)

    async def count(self, filter: Filter | None = None, *, consistency: Consistency | None = None) -> int:
        snapshot = await self.snapshot(consistency)
        if filter is None:
            return snapshot.live_rows
        return await self._in_thread(lambda: query.count(snapshot, filter))

    async def scroll(
        self,
        *,
        after: str | None = None,
        limit: int = 100,
        filter: Filter | None = None,
        with_vector: bool = False,
        consistency: Consistency | None = None,
    ) -> list[Point]:
        """Up to `limit` points in id order (code points) whose id is greater than `after`."""
        snapshot = await self.snapshot(consistency)
        return await self._in_thread(
            lambda: query.scroll(snapshot, after=after, limit=limit, filter=filter, with_vector=with_vector)
        )

    async def info(self, *, consistency: Consistency | None = None) -> CollectionInfo:
        snapshot = await self.snapshot(consistency)
        state = self._shard.state
        return CollectionInfo(
            spec=self.spec,
            count=snapshot.live_rows,
            segments=len(state.segments),
            bytes=sum(segment.ref.bytes for segment in state.segments) + state.tail_bytes,
            lsn=snapshot.lsn,
            index=state.index_state() if self._maintenance is None else self._maintenance.index_state(),
            version=state.head.version,
            compaction=CompactionState() if self._maintenance is None else self._maintenance.compaction_state(),
        )

    async def create_snapshot(self, name: str, *, timeout_ms: int | None = None) -> SnapshotInfo:
        """Keeps the points as they are now under `name`, without copying any.

        Raises:
            InvalidInputError: `invalid_snapshot`: not a name.
            ConflictError: `snapshot_exists`, `too_many_snapshots`; nothing changed.
            DeadlineExceededError: there may be a snapshot of that name now.
        """
        self._refuse_closed()
        return await self._snapshots.create(name, self._write_deadline(timeout_ms))

    async def list_snapshots(self, *, consistency: Consistency | None = None) -> list[SnapshotInfo]:
        """All snapshots, oldest first."""
        self._refuse_closed()
        return await self._snapshots.list(consistency or self._default_consistency(), _read_deadline())

    async def drop_snapshot(self, name: str, *, timeout_ms: int | None = None) -> None:
        """Forgets a snapshot. Raises NotFoundError `snapshot_not_found`."""
        self._refuse_closed()
        await self._snapshots.drop(name, self._write_deadline(timeout_ms))

    async def revert(self, name: str, *, timeout_ms: int | None = None) -> RevertInfo:
        """Makes the points those of a snapshot, for every node at once, as one write; what there was before it is kept
        as a snapshot of its own.

        Raises:
            NotFoundError: `snapshot_not_found`.
            ConflictError: `too_many_snapshots`: there is no room for that of before; nothing changed.
            DeadlineExceededError: `outcome_unknown`: it may have happened.
        """
        self._refuse_closed()
        return await self._snapshots.revert(name, self._write_deadline(timeout_ms))

    async def wait_indexed(self, timeout_ms: int = 600_000) -> None:
        """Returns when every point that is to be in a graph is in one; builds at once instead of waiting for a pause.

        Raises:
            DeadlineExceededError: past `timeout_ms`; building goes on in the background.
        """
        self._refuse_closed()
        if self._maintenance is None:
            raise ReadOnlyError(
                f"collection {self.spec.name!r} is open read-only; whoever writes to it builds its graphs"
            )
        await self._maintenance.wait_indexed(time.monotonic() + timeout_ms / 1000)

    async def snapshot(self, consistency: Consistency | None = None, *, deadline: float | None = None) -> Snapshot:
        """The immutable state that a read with `consistency` may use."""
        until = _read_deadline() if deadline is None else deadline
        wanted = consistency or self._default_consistency()
        await self._catch_up(wanted, until)
        self._refuse_closed()
        if wanted.as_of is not None:
            return (await self._snapshots.opened(wanted.as_of, wanted, until)).snapshot(self.spec)
        return self._shard.state.snapshot()

    async def _catch_up(self, consistency: Consistency, deadline: float) -> None:
        self._refuse_closed()
        if time.monotonic() - self._looked_at_spec > SPEC_SECS:
            self._looked_at_spec = time.monotonic()
            self._looking = asyncio.create_task(self._look_at_spec())
        await self._shard.catch_up(consistency, deadline=deadline)

    async def _look_at_spec(self) -> None:
        with contextlib.suppress(AkiDBError):  # another look comes
            await self._shard.follow_spec()

    def snapshot_now(self, consistency: Consistency | None = None) -> Snapshot | None:
        """What `snapshot` would give, if that takes neither waiting nor the event loop; any thread may ask."""
        wanted = consistency or self._default_consistency()
        return None if self._closed or wanted.as_of is not None else self._shard.snapshot_now(wanted)

    def _default_consistency(self) -> Consistency:
        return Consistency(self._settings.query.consistency)

    async def close(self) -> None:
        """Decides the writes under way and stops the background work. What comes later gets UnavailableError."""
        self._closed = True
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        work = self._maintenance or self._follower
        await asyncio.gather(self._shard.close(), *([work.close()] if work is not None else []))


def _read_deadline() -> float:
    return time.monotonic() + READ_TIMEOUT_MS / 1000
