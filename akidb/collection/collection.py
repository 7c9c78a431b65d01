"""One collection as the database's users see it: checked input in, durable writes and exact consistency out."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import copy_context
from dataclasses import replace
from functools import partial
from typing import TypeVar
from uuid import UUID

import numpy as np

from akidb import query
from akidb.collection.caching import Caching
from akidb.collection.follower import Follower
from akidb.collection.forwarding import Peers
from akidb.collection.history import History
from akidb.collection.maintenance import Maintenance
from akidb.collection.outcome import together
from akidb.collection.points import check_target_recall, check_values, refuse
from akidb.collection.prepared import PreparedSearch
from akidb.collection.routing import route
from akidb.collection.scrubbing import Scrubbing
from akidb.collection.shard import Shard
from akidb.collection.snapshots import Snapshots, check_name
from akidb.collection.writes import Writes
from akidb.errors import AkiDBError, CorruptionError, ReadOnlyError
from akidb.filter import Filter
from akidb.manifest import Head
from akidb.query import SearchQuery, Snapshot
from akidb.session import lsns_for, session_token
from akidb.types import (
    EF_MAX,
    EVENTUAL,
    CacheState,
    CollectionInfo,
    CollectionSpec,
    CompactionState,
    Consistency,
    IndexState,
    Lsn,
    Point,
    RevertInfo,
    ScoredPoint,
    SnapshotInfo,
)

T = TypeVar("T")

READ_TIMEOUT_MS = 10_000
SPEC_SECS = 10.0
"""How old the index parameters that a node goes by may be while it answers."""


class Collection(Writes):
    """Points under one name. All methods are safe to call concurrently from one event loop; `prepare` and
    `snapshot_now` from any thread."""

    def __init__(self, uuid: UUID, shards: Sequence[Shard], *, read_only: bool, peers: Peers | None = None) -> None:
        super().__init__(shards, read_only=read_only, peers=peers)
        self.uuid = uuid
        """What tells it from an earlier collection of its name."""
        self._followers = tuple(Follower(shard) for shard in shards) if read_only else ()
        self._kept = Snapshots([writer.snapshots for writer in self.writers])
        self._scrubbing = Scrubbing(shards, 86_400 * self._settings.storage.verify_interval_days)
        storage, self._history = self._settings.storage, None
        if storage.snapshot_interval_mins and not read_only:
            interval_secs, keep_secs = 60 * storage.snapshot_interval_mins, 3600 * storage.snapshot_keep_hours
            self._history = History(self.spec.name, self._kept, interval_secs, keep_secs)
        self._caching = Caching(shards)
        self._caching.begin()
        self._looked_at_spec = time.monotonic()
        self._looking: asyncio.Task[None] | None = None

    async def take_spec(self, spec: CollectionSpec) -> None:
        """Goes on with the catalogue's index parameters."""
        await together([shard.take_spec(spec) for shard in self.shards])

    @property
    def token(self) -> str:
        """For the consistency `session` of later reads, on any node: of all that this node knows."""
        return session_token(self.uuid, [writer.known for writer in self.writers])

    @property
    def last_answer(self) -> float:
        """When the store last answered a read or a write of this collection's log (time.monotonic seconds)."""
        return max(shard.last_answer for shard in self.shards)

    @property
    def background_error(self) -> AkiDBError | None:
        """What is damaged, or why folding, graph building or following others does not get on."""
        errors = (work.last_error for work in self._background())
        return next((error for error in errors if error is not None), None)

    def _background(self) -> Iterator[Maintenance | Follower | Scrubbing | History]:
        yield self._scrubbing
        if self._history is not None:
            yield self._history
        yield from self._followers
        yield from (writer.maintenance for writer in self.writers if writer.maintenance is not None)

    async def get(
        self, ids: Sequence[str | int], *, consistency: Consistency | None = None, with_vector: bool = True
    ) -> list[Point | None]:
        """Points in the order of `ids`; None where there is none."""
        names = await self._checked_ids(ids)
        routed = route(names, len(self.shards))
        asked = {number: [names[i] for i in places.tolist()] for number, places in routed}
        snapshots = await self._snapshots_of(list(asked), consistency, _read_deadline(), asked, with_vector)

        def fetch() -> list[Point | None]:
            found: list[Point | None] = [None] * len(names)
            for snapshot, (_, places) in zip(snapshots, routed, strict=True):
                chosen = places.tolist()
                some = query.fetch(snapshot, [names[i] for i in chosen], with_vector=with_vector)
                for i, point in zip(chosen, some, strict=True):
                    found[i] = point
            return found

        return await self._in_thread(fetch)

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

    @property
    def is_warm(self) -> bool:
        """Whether the segments of all shards are on this machine. Any thread may ask."""
        return all(shard.is_warm for shard in self.shards)

    def read_since(self, consistency: Consistency | None = None) -> float | None:
        """A read with `consistency` that begins now sees all that the logs held at this time (time.monotonic()
        seconds); None where that goes without saying: for strong reads, and for snapshots."""
        wanted, now = consistency or self._default_consistency(), time.monotonic()
        if wanted.mode == "strong" or wanted.as_of is not None:
            return None
        oldest = now
        for shard in self.shards:
            is_recent = wanted.mode != "bounded" or now - shard.caught_up < wanted.bounded_ms / 1000
            if is_recent and shard.caught_up > -math.inf:  # else the read looks at the log itself
                oldest = min(oldest, shard.caught_up)
        return oldest

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
        are, or where these queries need them here: under a filter that many points match, exact, many or large ones.

        Raises as `search`, and CorruptionError.
        """
        self._refuse_closed()
        wanted = consistency or self._default_consistency()
        if wanted.as_of is not None:
            return None
        queries, deadline = prepared.queries, prepared.deadline
        found = await together(
            [
                shard.search_remote(queries, wanted, deadline=deadline, wanted=lsn)
                for shard, lsn in zip(self.shards, self._wanted(wanted), strict=True)
            ]
        )
        answers = [each for each in found if each is not None]
        if not answers:
            return None
        here = [number for number, each in enumerate(found) if each is None]
        if here:
            snapshot = query.side_by_side(await self._snapshots_of(here, wanted, deadline))
            answers.append(await self._in_thread(partial(prepared.run, snapshot)))
        return answers[0] if len(answers) == 1 else query.merged(answers, queries, self.spec.metric)

    def prepare(self, queries: Sequence[SearchQuery], *, timeout_ms: int = 1000) -> PreparedSearch:
        """Checks the queries; their time runs from here. Any thread may ask."""
        deadline = time.monotonic() + timeout_ms / 1000
        checked = [self._checked(search, i) for i, search in enumerate(queries)]
        limits = self._settings.query
        max_parallel = limits.max_parallel_segments if limits.parallel_segments else 1
        return PreparedSearch(checked, deadline, max_parallel, self._scrubbing.doubt)

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
        numbers = range(len(self.shards))
        asked = dict.fromkeys(numbers)
        snapshot = query.side_by_side(await self._snapshots_of(numbers, consistency, _read_deadline(), asked))
        if filter is None:
            return query.count(snapshot)
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

    async def info(self, *, consistency: Consistency | None = None, deadline: float | None = None) -> CollectionInfo:
        """Sums over the shards; `lsn` and `version` are the largest of theirs. `deadline` as of `snapshot`."""
        return await self._described(await self.snapshot(consistency, deadline=deadline))

    async def glance(self) -> CollectionInfo | None:
        """What this node knows, the store unasked; None while it does not have the segments, or knows of a drop."""
        if not self.is_warm or self.sealed:
            return None
        return await self._described(query.side_by_side([shard.state.snapshot() for shard in self.shards]))

    async def _described(self, snapshot: Snapshot) -> CollectionInfo:
        states = [shard.state for shard in self.shards]
        segments = [segment for state in states for segment in state.segments]
        return CollectionInfo(
            spec=self.spec,
            count=snapshot.live_rows,
            segments=len(segments),
            bytes=sum(segment.ref.bytes for segment in segments) + sum(state.tail_bytes for state in states),
            lsn=snapshot.lsn,
            index=IndexState.of([writer.index_state() for writer in self.writers]),
            version=max(state.head.version for state in states),
            compaction=CompactionState.of([writer.compaction_state() for writer in self.writers]),
            cache=await self._caching.state(),
            damaged=self._scrubbing.damaged,
            tail_points=sum(state.tail_rows for state in states),
        )

    async def pin(self) -> CacheState:
        """Keeps the collection's segments on this machine: fetched in the background, never removed from the file
        cache, also after a restart. Where the store is of this machine they are there anyway, and nothing is pinned.

        Raises:
            InvalidInputError: `cache_too_small`: they and what is pinned already do not fit; nothing changed.
            StorageFullError: the cache can't be written.
        """
        self._refuse_closed()
        return await self._caching.pin()

    async def unpin(self) -> CacheState:
        """Lets the file cache remove them again."""
        self._refuse_closed()
        return await self._caching.unpin()

    async def create_snapshot(self, name: str, *, timeout_ms: int | None = None) -> SnapshotInfo:
        """Keeps the points as they are now under `name`, without copying any. Each shard's are of a moment of its own
        within the call.

        Raises:
            InvalidInputError: `invalid_snapshot`: not a name.
            ConflictError: `snapshot_exists`, `too_many_snapshots`; nothing changed.
            DeadlineExceededError: there may be a snapshot of that name now.
            PartialWriteError: not all of several shards keep their part: it is not `complete`, and has to be dropped
                before it can be made.
        """
        self._refuse_closed()
        check_name(name)
        return await self._kept.create(name, self._write_deadline(timeout_ms))

    async def lend(self, borrower: UUID, as_of: str | None) -> list[Head]:
        """Keeps for a clone, collection `borrower`, the points as they are now, or those of a snapshot; returns of each
        shard what the clone's HEAD begins with.

        Raises:
            NotFoundError: `snapshot_not_found`.
            ConflictError: `too_many_snapshots`.
        """
        self._refuse_closed()
        return await self._kept.lend(borrower, as_of, self._write_deadline(None))

    async def list_snapshots(self, *, consistency: Consistency | None = None) -> list[SnapshotInfo]:
        """All snapshots, oldest first; after them those that are not complete."""
        self._refuse_closed()
        return await self._kept.list(consistency or self._default_consistency(), _read_deadline())

    async def drop_snapshot(self, name: str, *, timeout_ms: int | None = None) -> None:
        """Forgets a snapshot, complete or not.

        Raises:
            NotFoundError: `snapshot_not_found`.
            PartialWriteError: some of several shards still keep their part; called again, it goes on.
        """
        self._refuse_closed()
        await self._kept.drop(name, self._write_deadline(timeout_ms))

    async def revert(
        self, name: str, *, idempotency_key: str | None = None, timeout_ms: int | None = None
    ) -> RevertInfo:
        """Makes the points those of a snapshot, in each shard for every node at once, as one write; what there was
        before it is kept as a snapshot of its own.

        Raises:
            NotFoundError: `snapshot_not_found`.
            ConflictError: `too_many_snapshots`: there is no room for that of before; nothing changed.
            DeadlineExceededError: `outcome_unknown`: it may have happened.
            PartialWriteError: some of several shards went back and others did not; sent again under the same key, those
                that did are left as they are.
        """
        self._refuse_closed()
        return await self._kept.revert(name, idempotency_key, self._write_deadline(timeout_ms))

    async def wait_indexed(self, timeout_ms: int = 600_000) -> None:
        """Returns when every point that is to be in a graph is in one; builds at once instead of waiting for a pause.

        Raises:
            DeadlineExceededError: past `timeout_ms`; building goes on in the background.
        """
        self._refuse_closed()
        if self._read_only:
            raise ReadOnlyError(
                f"collection {self.spec.name!r} is open read-only; whoever writes to it builds its graphs"
            )
        deadline = time.monotonic() + timeout_ms / 1000
        await together([writer.wait_indexed(deadline) for writer in self.writers])

    async def snapshot(self, consistency: Consistency | None = None, *, deadline: float | None = None) -> Snapshot:
        """The immutable state that a read with `consistency` may use: of each shard its own, all asked at once.

        Raises:
            InvalidInputError: `invalid_token`: the session's token is of another collection.
        """
        until = _read_deadline() if deadline is None else deadline
        return query.side_by_side(await self._snapshots_of(range(len(self.shards)), consistency, until))

    async def _snapshots_of(
        self,
        numbers: Sequence[int],
        consistency: Consistency | None,
        deadline: float,
        asked: Mapping[int, Sequence[str] | None] | None = None,
        with_vector: bool = True,
    ) -> list[Snapshot]:
        """What each of these shards has to say to a read; to one of some ids, or (None) a count, that is `asked` of
        shards, without their segments where these are not here."""
        wanted = consistency or self._default_consistency()
        if wanted.as_of is not None:
            await self._catch_up(wanted, deadline, range(len(self.shards)))  # all of them say whether it is whole
            kept = await self._kept.opened(wanted.as_of, wanted, deadline, numbers)
            return [pinned.snapshot(self.spec) for pinned in kept]
        if asked is not None and not self.is_warm:
            remote = await self._snapshots_remote(asked, wanted, deadline, with_vector)
            here = [number for number in numbers if remote[number] is None]
            rest = iter(await self._snapshots_of(here, wanted, deadline) if here else [])
            return [remote[number] or next(rest) for number in numbers]
        await self._catch_up(wanted, deadline, numbers)
        self._refuse_closed()
        return [self.shards[number].state.snapshot() for number in numbers]

    async def _snapshots_remote(
        self, asked: Mapping[int, Sequence[str] | None], wanted: Consistency, deadline: float, with_vector: bool
    ) -> dict[int, Snapshot | None]:
        self._refuse_closed()
        lsns = self._wanted(wanted)
        found = await together(
            [
                self.shards[number].snapshot_remote(
                    ids, wanted, deadline=deadline, wanted=lsns[number], with_vector=with_vector
                )
                for number, ids in asked.items()
            ]
        )
        return dict(zip(asked, found, strict=True))

    async def _catch_up(self, consistency: Consistency, deadline: float, numbers: Sequence[int]) -> None:
        self._refuse_closed()
        if time.monotonic() - self._looked_at_spec > SPEC_SECS:
            self._looked_at_spec = time.monotonic()
            self._looking = asyncio.create_task(self._look_at_spec())
        wanted = self._wanted(consistency)
        await together([self.shards[n].catch_up(consistency, deadline=deadline, wanted=wanted[n]) for n in numbers])

    def _wanted(self, consistency: Consistency) -> Sequence[Lsn]:
        """The slot of each shard that a session must see, 0 for other reads."""
        if consistency.mode == "session":
            return lsns_for(consistency.token, self.uuid, len(self.shards))
        return (0,) * len(self.shards)

    async def _look_at_spec(self) -> None:
        with contextlib.suppress(AkiDBError):  # another look comes
            await self.shards[0].follow_spec()

    def snapshot_now(self, consistency: Consistency | None = None) -> Snapshot | None:
        """What `snapshot` would give, if that takes neither waiting nor the event loop; any thread may ask."""
        consistency = consistency or self._default_consistency()
        if self._closed or consistency.as_of is not None:
            return None
        found = []
        for shard, wanted in zip(self.shards, self._wanted(consistency), strict=True):
            snapshot = shard.snapshot_now(consistency, wanted)
            if snapshot is None:
                return None
            found.append(snapshot)
        return query.side_by_side(found)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """Runs `work` off the event loop, inside the caller's span."""
        workers = self.shards[0].workers
        try:
            return await workers.run(workers.search, partial(copy_context().run, work))
        except CorruptionError as damage:
            self._scrubbing.doubt(damage)
            raise

    def _default_consistency(self) -> Consistency:
        return Consistency(self._settings.query.consistency)

    async def settle(self) -> None:
        """Folds what this process wrote and would leave in a long log."""
        await asyncio.gather(
            *(writer.maintenance.settle() for writer in self.writers if writer.maintenance is not None)
        )

    async def close(self) -> None:
        """Decides the writes under way and stops the background work. What comes later gets UnavailableError."""
        self._closed = True
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        work = [each.close() for each in self._background()]
        await self._caching.close()
        await asyncio.gather(*(shard.close() for shard in self.shards), *work)


def _read_deadline() -> float:
    return time.monotonic() + READ_TIMEOUT_MS / 1000
