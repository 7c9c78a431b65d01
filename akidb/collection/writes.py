"""The writes of a collection: checked, under their conditions and keys, durable before they are acknowledged."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import copy_context
from functools import partial
from typing import Any, TypeVar
from uuid import uuid4

import numpy.typing as npt

from akidb import query
from akidb.collection.conditions import Conditions, conditions
from akidb.collection.fold import clear
from akidb.collection.maintenance import Maintenance
from akidb.collection.points import check_ids, check_vectors, encode_patch, encode_payloads, refuse
from akidb.collection.requests import DoneError, Request, Written
from akidb.collection.shard import Shard
from akidb.errors import AkiDBError, DeadlineExceededError, NotFoundError, ReadOnlyError, UnavailableError
from akidb.filter import Filter, PayloadSchema, is_unconditional
from akidb.types import STRONG, CollectionSpec, IfVersion, Lsn
from akidb.wal import Batch, Check, Delete, Operation, Patch, Seal, Upsert

T = TypeVar("T")

RESOLVE_TRIES = 3
"""How often a filter is resolved while this node goes on writing; then its writers wait."""

INLINE_IDS_MAX, INLINE_BYTES_MAX = 256, 128 << 10
"""Batches with more than this are checked in a thread: it takes longer than the event loop may stand still."""


class _MovedError(AkiDBError):
    """The state changed between resolving a filter to ids and taking the slot."""


class Writes:
    """What changes the points of a collection. All methods are safe to call concurrently from one event loop."""

    def __init__(self, shard: Shard, *, read_only: bool) -> None:
        self._shard = shard
        self._settings = shard.settings
        self._schema = PayloadSchema.parse(shard.spec.payload_schema)
        self._maintenance = None if read_only else Maintenance(shard)
        self._resolving = asyncio.Lock()
        self._closed = False

    @property
    def spec(self) -> CollectionSpec:
        return self._shard.spec

    @property
    def lsn(self) -> Lsn:
        """The log position up to which this node has applied writes."""
        return self._shard.applied

    @property
    def sealed(self) -> bool:
        """Whether the collection was dropped, as far as this node knows."""
        return self._shard.known.sealed

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
        self._refuse_closed()
        await self._shard.catch_up(STRONG, deadline=deadline)
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
        await self._shard.warm(deadline=deadline)
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

    def _refuse_closed(self) -> None:
        if self._closed and not self.sealed:  # of a dropped one the shard says so
            raise UnavailableError("the connection is closed", code="closing")

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """Runs `work` off the event loop, inside the caller's span."""
        workers = self._shard.workers
        return await workers.run(workers.search, partial(copy_context().run, work))
