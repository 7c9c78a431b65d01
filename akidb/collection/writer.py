"""The writes of one shard on this node: a batch, under its conditions and its request's key, into the shard's log."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import TypeVar
from uuid import uuid4

from akidb import query
from akidb.collection.conditions import Conditions
from akidb.collection.fold import clear
from akidb.collection.maintenance import Maintenance
from akidb.collection.requests import DoneError, Request, Written
from akidb.collection.shard import Shard
from akidb.collection.snapshots import Snapshots
from akidb.errors import AkiDBError, DeadlineExceededError, NotFoundError, ReadOnlyError
from akidb.filter import Filter
from akidb.types import STRONG, CompactionState, IndexState
from akidb.wal import Batch, Check, Delete, Operation, Seal

T = TypeVar("T")

RESOLVE_TRIES = 3
"""How often a filter is resolved while this node goes on writing; then its writers wait."""

INLINE_CONDITIONS_MAX = 256
"""More conditions than this are judged in a thread: it takes longer than the event loop may stand still."""


class _MovedError(AkiDBError):
    """The state changed between resolving a filter to ids and taking the slot."""


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """What one request asks of one shard: operations that are done as a whole, if the conditions hold, and once."""

    operations: Sequence[Operation]
    conditions: Conditions | None = None
    request: Request | None = None


class Writer:
    """One shard's writes and, unless it is open read-only, the work that keeps its log short."""

    def __init__(self, shard: Shard, *, read_only: bool) -> None:
        self.shard = shard
        self.maintenance = None if read_only else Maintenance(shard)
        self.snapshots = Snapshots(shard, None if self.maintenance is None else self.maintenance.fold)
        self._resolving = asyncio.Lock()

    async def write(self, change: Change, deadline: float) -> Written:
        """Returns when the change is durable. Errors as of Collection.upsert."""
        if self._resolving.locked():
            async with self._resolving:  # a filter is being resolved, which takes a state that stays as it is
                pass
        return await self._put(change, deadline)

    async def delete_where(self, filter: Filter, request: Request | None, deadline: float) -> Written:
        """Deletes what matches at the moment of the write."""
        for _ in range(RESOLVE_TRIES):
            with contextlib.suppress(_MovedError):
                return await self._delete_resolved(filter, request, deadline)
        async with self._resolving:
            while time.monotonic() < deadline:
                with contextlib.suppress(_MovedError):
                    return await self._delete_resolved(filter, request, deadline)
        raise DeadlineExceededError("other nodes wrote faster than the filter could be resolved; nothing was deleted")

    async def _delete_resolved(self, filter: Filter, request: Request | None, deadline: float) -> Written:
        """Raises _MovedError, with nothing done, if anything was written between resolving and deleting."""
        await self.shard.catch_up(STRONG, deadline=deadline)
        snapshot = self.shard.state.snapshot()
        ids = await self._in_thread(partial(query.matching_ids, snapshot, filter))
        if not ids and request is None:
            return Written(snapshot.lsn, 0)

        def unchanged() -> None:
            if self.shard.applied != snapshot.lsn:
                raise _MovedError("resolved at an older state")

        return await self._put(Change([Delete(ids)], request=request), deadline, unchanged)

    async def seal(self, deadline: float) -> None:
        """Ends the log. Raises NotFoundError if another node did so first."""
        await self.write(Change([Seal()]), deadline)

    async def seal_too(self, deadline: float) -> None:
        """Ends the log unless it is ended, whoever did it."""
        if not self.shard.known.sealed:
            with contextlib.suppress(NotFoundError):
                await self.seal(deadline)

    async def clear(self) -> None:
        """Gives back the room of a sealed shard, on stores where that is safe."""
        if self.maintenance is not None:
            await self.maintenance.close()
        await clear(self.shard)

    async def _put(self, change: Change, deadline: float, unchanged: Check | None = None) -> Written:
        """`unchanged` holds of the very state that the change is applied to, or nothing is written."""
        if self.maintenance is None:
            raise ReadOnlyError(f"collection {self.shard.spec.name!r} is open read-only")
        await self.shard.warm(deadline=deadline)
        await self.maintenance.make_room(deadline)
        request = change.request
        if request is None:
            batch = Batch(uuid4(), change.operations)
        else:
            batch = Batch(request.uuid, [request.once, *change.operations])
        check = partial(self._judge, change, unchanged)
        exact = unchanged is not None
        try:
            lsn = await self.shard.append(
                batch.operations, deadline=deadline, check=check, exact=exact, uuid=batch.uuid
            )
        except DoneError as found:
            assert request is not None, "only a request is looked for"
            request.refuse_another(found.done)
            return found.done
        return Written.by(batch, lsn)

    def _judge(self, change: Change, unchanged: Check | None) -> Awaitable[None] | None:
        """Raises what refuses the change on the state as it is."""
        if change.request is not None:
            done = self.shard.state.requests.find(change.request.uuid)
            if done is not None:
                raise DoneError(done)
        if unchanged is not None:
            return unchanged()
        if change.conditions is None:
            return None
        judged = partial(change.conditions.check, self.shard.state.snapshot())
        if len(change.conditions.ids) <= INLINE_CONDITIONS_MAX:
            return judged()
        return self._in_thread(judged)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """Runs `work` off the event loop, inside the caller's span."""
        workers = self.shard.workers
        return await workers.run(workers.search, partial(copy_context().run, work))

    def index_state(self) -> IndexState:
        """Points in graphs, and points that are searched exactly until their graph is there."""
        return self.shard.state.index_state() if self.maintenance is None else self.maintenance.index_state()

    def compaction_state(self) -> CompactionState:
        return CompactionState() if self.maintenance is None else self.maintenance.compaction_state()

    async def wait_indexed(self, deadline: float) -> None:
        """Builds now what is to be built. Raises DeadlineExceededError."""
        assert self.maintenance is not None, "whoever may not write builds nothing"
        await self.maintenance.wait_indexed(deadline)
