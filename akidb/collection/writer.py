"""The writes of one shard on this node: a batch, under its conditions and its request's key, into the shard's log."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from functools import partial
from typing import TypeVar

from akidb import query
from akidb.collection.change import Change
from akidb.collection.fold import clear
from akidb.collection.forwarding import Forwarded, Forwarding, Origin, Peers
from akidb.collection.maintenance import Maintenance
from akidb.collection.requests import DoneError, Request, Written
from akidb.collection.shard import Shard
from akidb.collection.shard_snapshots import ShardSnapshots
from akidb.errors import AkiDBError, DeadlineExceededError, NotFoundError, ReadOnlyError, UnavailableError
from akidb.filter import Filter
from akidb.telemetry.metrics import METRICS
from akidb.types import STRONG, CompactionState, IndexState, Lsn
from akidb.wal import Batch, Check, Delete, Seal
from akidb.wal.log import THREAD_BYTES_MIN
from akidb.wal.queue import outcome_unknown

T = TypeVar("T")

RESOLVE_TRIES = 3
"""How often a filter is resolved while this node goes on writing; then its writers wait."""

INLINE_CONDITIONS_MAX = 256
"""More conditions than this are judged in a thread: it takes longer than the event loop may stand still."""


class _MovedError(AkiDBError):
    """The state changed between resolving a filter to ids and taking the slot."""


class Writer:
    """One shard's writes and, unless it is open read-only, the work that keeps its log short. `peers`: other nodes that
    may have the shard's slots put by one of them."""

    def __init__(self, shard: Shard, *, read_only: bool, peers: Peers | None = None) -> None:
        self.shard = shard
        self._forwarding = None if peers is None or read_only else Forwarding(peers, shard)
        self.maintenance = None if read_only else Maintenance(shard)
        self.snapshots = ShardSnapshots(shard, None if self.maintenance is None else self.maintenance.fold)
        self._resolving = asyncio.Lock()

    @property
    def known(self) -> Lsn:
        """The last slot that this node applied, or that another told it of for a write from here."""
        told = 0 if self._forwarding is None else self._forwarding.acknowledged
        return max(self.shard.applied, told)

    async def write(self, change: Change, deadline: float) -> Written:
        """Returns when the change is durable, here or by the shard's owner. Errors as of Collection.upsert."""
        await self._resolved()
        batch = change.batch()
        if self._forwarding is None:
            return await self._put(batch, change, deadline)
        sent = await self._forwarding.send(batch, change, deadline)
        if sent is None:
            return await self._put(batch, change, deadline)
        if isinstance(sent, Written):
            return sent
        try:
            return await self._put(batch, change, deadline, origin=sent)
        except AkiDBError as failed:
            if failed.code == "idempotency_key_reused":  # the log holds another request under the key, for good
                raise
            # Nothing came of it here. But the other node may yet do it, on a later state even what was refused on this.
            raise outcome_unknown() from failed

    async def _resolved(self) -> None:
        """Returns once no filter is being resolved, which takes a state that stays as it is."""
        if self._resolving.locked():
            async with self._resolving:
                pass

    async def receive(self, message: Forwarded, wanted: Callable[[], bool]) -> Written:
        """Puts what another node sent, whoever owns the shard: so nothing goes round in circles. `wanted` says whether
        that node still waits.

        Raises as Collection.upsert, and UnavailableError `warming`, `not_taken`: another node had better put it.
        """
        METRICS.cluster_batches.labels("received").inc()
        if not self.shard.is_warm:
            self.shard.fetch_soon()
            name = self.shard.spec.name
            raise UnavailableError(f"the segments of collection {name!r} are not here yet", code="warming")
        deadline = time.monotonic() + message.timeout_ms / 1000
        await self._resolved()
        large = len(message.slot) >= THREAD_BYTES_MIN
        batch, change = await asyncio.to_thread(message.change, self.shard) if large else message.change(self.shard)
        return await self._put(batch, change, deadline, origin=Origin(message.since, wanted))

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

        change = Change([Delete(ids)], request=request)
        return await self._put(change.batch(), change, deadline, unchanged=unchanged)

    async def seal(self, deadline: float) -> None:
        """Ends the log. Raises NotFoundError if another node did so first."""
        change = Change([Seal()])
        await self._put(change.batch(), change, deadline)

    async def seal_too(self, deadline: float) -> None:
        """Ends the log unless it is ended, whoever did it."""
        if not self.shard.known.sealed:
            with contextlib.suppress(NotFoundError):
                await self.seal(deadline)

    async def clear(self) -> None:
        """Gives back the room of a sealed shard, on stores where that is safe."""
        if self.maintenance is not None:
            await self.maintenance.close()
        await clear(self.shard, self.shard.known)

    async def _put(
        self,
        batch: Batch,
        change: Change,
        deadline: float,
        *,
        unchanged: Check | None = None,
        origin: Origin | None = None,
    ) -> Written:
        """`unchanged` holds of the very state that the change is applied to, or nothing is written; `origin` is of a
        batch that another node may put as well."""
        if self.maintenance is None:
            raise ReadOnlyError(f"collection {self.shard.spec.name!r} is open read-only")
        await self.shard.warm(deadline=deadline)
        await self.maintenance.make_room(deadline)
        check = partial(self._judge, batch, change, unchanged, origin)
        exact = unchanged is not None
        try:
            lsn = await self.shard.append(
                batch.operations, deadline=deadline, check=check, exact=exact, uuid=batch.uuid
            )
        except DoneError as found:
            if change.request is not None:
                change.request.refuse_another(found.done)
            return found.done
        return Written.by(batch, lsn)

    def _judge(
        self, batch: Batch, change: Change, unchanged: Check | None, origin: Origin | None
    ) -> Awaitable[None] | None:
        """Raises what refuses the change on the state as it is."""
        if change.request is not None:
            done = self.shard.state.requests.find(change.request.uuid)
            if done is not None:
                raise DoneError(done)
        if origin is not None:
            origin.judge(batch, self.shard.state)
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
