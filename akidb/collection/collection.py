"""One collection as the database's users see it: checked input in, durable writes and exact consistency out."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import copy_context
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar
from uuid import UUID, uuid4

import numpy as np
import numpy.typing as npt

from akidb import query
from akidb.collection.conditions import Conditions, conditions
from akidb.collection.fold import clear
from akidb.collection.follower import Follower
from akidb.collection.maintenance import Maintenance
from akidb.collection.points import (
    check_ids,
    check_target_recall,
    check_values,
    check_vectors,
    encode_patch,
    encode_payloads,
    refuse,
)
from akidb.collection.prepared import PreparedSearch
from akidb.collection.requests import DoneError, Request, Written
from akidb.collection.shard import Shard
from akidb.collection.token import session_token
from akidb.errors import AkiDBError, DeadlineExceededError, NotFoundError, ReadOnlyError, UnavailableError
from akidb.filter import Filter, PayloadSchema, is_unconditional
from akidb.query import SearchQuery, Snapshot
from akidb.types import (
    EF_MAX,
    STRONG,
    CollectionInfo,
    CollectionSpec,
    CompactionState,
    Consistency,
    IfVersion,
    Lsn,
    Point,
    ScoredPoint,
)
from akidb.wal import Batch, Check, Delete, Operation, Patch, Seal, Upsert

T = TypeVar("T")

READ_TIMEOUT_MS = 10_000
RESOLVE_TRIES = 3
"""How often a filter is resolved while this node goes on writing; then its writers wait."""

SPEC_SECS = 10.0
"""How old the index parameters that a node goes by may be while it answers."""

INLINE_IDS_MAX, INLINE_BYTES_MAX = 256, 128 << 10
"""Batches with more than this are checked in a thread: it takes longer than the event loop may stand still."""


class _MovedError(AkiDBError):
    """The state changed between resolving a filter to ids and taking the slot."""


class Collection:
    """Points under one name. All methods are safe to call concurrently from one event loop; `prepare` and
    `snapshot_now` from any thread."""

    def __init__(self, shard: Shard, *, read_only: bool) -> None:
        self._shard = shard
        self._settings = shard.settings
        self._schema = PayloadSchema.parse(shard.spec.payload_schema)
        self._maintenance = None if read_only else Maintenance(shard)
        self._follower = Follower(shard) if read_only else None
        self._resolving = asyncio.Lock()
        self._looked_at_spec = time.monotonic()
        self._looking: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def spec(self) -> CollectionSpec:
        return self._shard.spec

    @property
    def lsn(self) -> Lsn:
        """The log position up to which this node has applied writes."""
        return self._shard.applied

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
    def sealed(self) -> bool:
        """Whether the collection was dropped, as far as this node knows."""
        return self._shard.state.sealed

    @property
    def last_answer(self) -> float:
        """When the store last answered a read or a write of this collection's log (time.monotonic seconds)."""
        return self._shard.last_answer

    @property
    def background_error(self) -> AkiDBError | None:
        """Why folding, graph building or following others does not get on, if it does not."""
        work = self._maintenance or self._follower
        return None if work is None else work.last_error

    # Writes

    async def upsert(
        self,
        ids: Sequence[str | int],
        vectors: npt.ArrayLike,
        payloads: Sequence[Mapping[str, Any] | bytes | None] | None = None,
        *,
        if_absent: bool = False,
        if_version: IfVersion = None,
        idempotency_key: str | None = None,
        timeout_ms: int | None = None,
    ) -> Lsn:
        """Stores n points, all or nothing; returns their LSN, which is their version, when they are durable.

        Args:
            ids: n texts or integers, each once.
            vectors: (n, dim).
            payloads: n objects, or their JSON text as bytes, or None.
            if_absent: only if none of them is there.
            if_version: only if each has this version, or its own of n; 0 is not there, None is any.
            idempotency_key: the caller's name for the request: sent again under it within a day, to any node, it is not
                done again, and answered as before.

        Raises:
            ConflictError: `point_exists`, `version_mismatch`; nothing changed.
            InvalidInputError, NotFoundError (dropped), ReadOnlyError, StorageFullError, UnavailableError: nothing
                changed.
            DeadlineExceededError: code `outcome_unknown`: it may have happened.
        """

        def check() -> tuple[Upsert, Conditions | None, Request | None]:
            points = self._checked_points(ids, vectors, payloads)
            wanted = conditions(points.ids, if_absent=if_absent, if_version=if_version)
            texts = b"\0".join(text or b"" for text in points.payloads)
            versions = None if wanted is None else wanted.expected.tolist()
            request = Request.of(idempotency_key, "upsert", points.ids, points.vectors, texts, versions)
            return points, wanted, request

        points, wanted, request = check() if self._is_small(ids, payloads) else await asyncio.to_thread(check)
        if not points.ids:
            return self.lsn
        return (await self._append([points], timeout_ms, self._holds(wanted), request)).lsn

    def _holds(self, wanted: Conditions | None) -> Check | None:
        """The check of a write's conditions."""
        if wanted is None:
            return None

        def check() -> Awaitable[None] | None:
            judged = partial(wanted.check, self._shard.state.snapshot())
            return judged() if len(wanted.ids) <= INLINE_IDS_MAX else self._in_thread(judged)

        return check

    def _is_small(self, ids: Sequence[Any], payloads: Sequence[Any] | None) -> bool:
        size = len(ids) * self.spec.dim * 4 + sum(len(text) for text in payloads or () if isinstance(text, bytes))
        return len(ids) <= INLINE_IDS_MAX and size <= INLINE_BYTES_MAX

    async def _checked_ids(self, ids: Sequence[str | int]) -> list[str]:
        return check_ids(ids) if len(ids) <= INLINE_IDS_MAX else await asyncio.to_thread(check_ids, ids)

    def _checked_points(
        self, ids: Sequence[str | int], vectors: npt.ArrayLike, payloads: Sequence[Any] | None
    ) -> Upsert:
        names = check_ids(ids, unique=True)
        array = check_vectors(vectors, self.spec, count=len(names))
        if array is vectors or array.base is not None:
            array = array.copy()  # the caller may go on writing to it while the group waits for its slot
        return Upsert(names, array, encode_payloads(payloads, len(names), self._schema))

    async def delete(
        self,
        ids: Sequence[str | int],
        *,
        if_version: IfVersion = None,
        idempotency_key: str | None = None,
        timeout_ms: int | None = None,
    ) -> Lsn:
        """Deletes by id, all or none; ids that are not there are no error.

        Raises:
            ConflictError: `version_mismatch`: one has another version than `if_version` says (one for all, or one each,
                None for any); nothing changed.
        """
        names = await self._checked_ids(ids)
        if not names:
            return self.lsn
        wanted = conditions(names, if_version=if_version)
        versions = None if wanted is None else wanted.expected.tolist()
        request = Request.of(idempotency_key, "delete", names, versions)
        deletes: list[Operation] = [Delete(list(dict.fromkeys(names)))]
        return (await self._append(deletes, timeout_ms, self._holds(wanted), request)).lsn

    async def delete_where(
        self, filter: Filter, *, idempotency_key: str | None = None, timeout_ms: int | None = None
    ) -> tuple[int, Lsn]:
        """Deletes what matches at the moment of the write; returns how many points that were, and the LSN.

        Raises:
            InvalidInputError: `invalid_filter`: it has no condition, so that every point matches.
        """
        if is_unconditional(filter):
            msg = "has no condition and would delete every point; delete the collection if that is meant"
            raise refuse("invalid_filter", ("filter",), msg)
        request = Request.of(idempotency_key, "delete_where", repr(filter))
        deadline = self._write_deadline(timeout_ms)
        for _ in range(RESOLVE_TRIES):
            with contextlib.suppress(_MovedError):
                return await self._delete_resolved(filter, deadline, request)
        async with self._resolving:
            while time.monotonic() < deadline:
                with contextlib.suppress(_MovedError):
                    return await self._delete_resolved(filter, deadline, request)
        raise DeadlineExceededError("other nodes wrote faster than the filter could be resolved; nothing was deleted")

    async def _delete_resolved(self, filter: Filter, deadline: float, request: Request | None) -> tuple[int, Lsn]:
        """Raises _MovedError, with nothing done, if anything was written between resolving and deleting."""
        await self._catch_up(STRONG, deadline)
        snapshot = self._shard.state.snapshot()
        ids = await self._in_thread(partial(query.matching_ids, snapshot, filter))
        if not ids and request is None:
            return 0, snapshot.lsn

        def unchanged() -> None:
            if self.lsn != snapshot.lsn:
                raise _MovedError("resolved at an older state")

        done = await self._put([Delete(ids)], deadline, unchanged, request, exact=True)
        return done.points, done.lsn

    async def patch(
        self,
        id: str | int,
        payload: Mapping[str, Any] | bytes,
        *,
        if_version: int | None = None,
        idempotency_key: str | None = None,
        timeout_ms: int | None = None,
    ) -> Lsn:
        """Merges `payload` into a point's (RFC 7396: null removes a field).

        Raises:
            NotFoundError: `point_not_found`.
            ConflictError: `version_mismatch`: it has another version than `if_version`; nothing changed.
        """
        (name,) = check_ids([id])
        patch = encode_patch(payload, self._schema)
        wanted = conditions([name], if_version=if_version)
        request = Request.of(idempotency_key, "patch", name, patch, if_version)

        def there() -> None:
            snapshot = self._shard.state.snapshot()
            if not query.versions(snapshot, [name])[0]:
                raise NotFoundError(f"collection {self.spec.name!r} has no point {name!r}", code="point_not_found")
            if wanted is not None:
                wanted.check(snapshot)

        return (await self._append([Patch([name], [patch])], timeout_ms, there, request)).lsn

    async def seal(self, *, timeout_ms: int | None = None) -> None:
        """Ends the log: the first half of a drop. Every node that reads the seal refuses further use."""
        if not self.sealed:
            await self._append([Seal()], timeout_ms)

    async def clear(self) -> None:
        """Gives back the room of a sealed collection, on stores where that is safe."""
        if self._maintenance is not None:
            await self._maintenance.close()
        await clear(self._shard)

    async def _append(
        self,
        operations: list[Operation],
        timeout_ms: int | None,
        check: Check | None = None,
        request: Request | None = None,
    ) -> Written:
        deadline = self._write_deadline(timeout_ms)
        if self._resolving.locked():
            async with self._resolving:  # a filter is being resolved, which takes a state that stays as it is
                pass
        return await self._put(operations, deadline, check, request)

    async def _put(
        self,
        operations: list[Operation],
        deadline: float,
        check: Check | None = None,
        request: Request | None = None,
        *,
        exact: bool = False,
    ) -> Written:
        if self._maintenance is None:
            raise ReadOnlyError(f"collection {self.spec.name!r} is open read-only")
        self._refuse_closed()
        await self._maintenance.make_room(deadline)
        if request is None:
            batch = Batch(uuid4(), operations)
        else:
            batch, check = Batch(request.uuid, [request.once, *operations]), self._not_done(request, check)
        try:
            lsn = await self._shard.append(
                batch.operations, deadline=deadline, check=check, exact=exact, uuid=batch.uuid
            )
        except DoneError as found:
            assert request is not None, "only a request is looked for"
            request.refuse_another(found.done)
            return found.done
        return Written.by(batch, lsn)

    def _not_done(self, request: Request, check: Check | None) -> Check:
        """`check`, and before it that the state does not hold the request."""

        def judge() -> Awaitable[None] | None:
            done = self._shard.state.requests.find(request.uuid)
            if done is not None:
                raise DoneError(done)
            return None if check is None else check()

        return judge

    def _write_deadline(self, timeout_ms: int | None) -> float:
        return time.monotonic() + (self._settings.api.write_timeout_ms if timeout_ms is None else timeout_ms) / 1000

    # Reads

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
        snapshot = await self.snapshot(consistency, deadline=prepared.deadline)
        return await self._in_thread(partial(prepared.run, snapshot))

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
        until = time.monotonic() + READ_TIMEOUT_MS / 1000 if deadline is None else deadline
        await self._catch_up(consistency or self._default_consistency(), until)
        self._refuse_closed()
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

    def _refuse_closed(self) -> None:
        if self._closed and not self.sealed:  # of a dropped one the shard says so
            raise UnavailableError("the connection is closed", code="closing")

    def snapshot_now(self, consistency: Consistency | None = None) -> Snapshot | None:
        """What `snapshot` would give, if that takes neither waiting nor the event loop; any thread may ask."""
        return None if self._closed else self._shard.snapshot_now(consistency or self._default_consistency())

    def _default_consistency(self) -> Consistency:
        return Consistency(self._settings.query.consistency)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """Runs `work` off the event loop, inside the caller's span."""
        workers = self._shard.workers
        return await workers.run(workers.search, partial(copy_context().run, work))

    async def close(self) -> None:
        """Decides the writes under way and stops the background work. What comes later gets UnavailableError."""
        self._closed = True
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        work = self._maintenance or self._follower
        await asyncio.gather(self._shard.appender.close(), *([work.close()] if work is not None else []))
