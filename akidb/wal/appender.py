"""Writing to the log: group commit, one put at a time, and honest answers when the store gives none.

What arrives while a put is under way is the next group. A group is bound to its slot until that slot is decided:

    won                     applied, acknowledged
    taken, by this group    the same: an earlier put of it had landed and its answer was lost
    taken, by another       that slot is applied, checks run again, the group goes to the next slot
    answer lost             the same bytes at the same slot again, until decided

A caller whose deadline passes meanwhile is told `outcome_unknown`, and its batch is never put at another slot: it could
otherwise overtake a later write. The put goes on in the background; what comes after it waits.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Sequence
from uuid import UUID, uuid4

from akidb.codec.frame import Buffer
from akidb.config import Settings
from akidb.errors import AkiDBError, CorruptionError, InvalidInputError, UnavailableError
from akidb.manifest import HeadStore
from akidb.storage.breaking import CIRCUIT_OPEN
from akidb.telemetry.metrics import METRICS
from akidb.types import Lsn
from akidb.wal.log import THREAD_BYTES_MIN, Log
from akidb.wal.probe import Probe
from akidb.wal.queue import Check, Group, Queue, Request, outcome_unknown, too_late
from akidb.wal.record import BATCH_BYTES_MAX, Batch, Operation, encode_operation, estimate_bytes
from akidb.wal.slot import Slot, encode_slot
from akidb.wal.tail import Put, State, Tail

CLOSE_TIMEOUT_SECS = 10.0

FAIR_SECS_MAX = 1.0
"""Most that a put counts for as a round trip: one that was repeated while the store was away may have taken an hour."""


class Appender:
    """The writer of one shard's log on this node, and the strong reader's probe. Belongs to one event loop."""

    def __init__(self, log: Log, state: State, heads: HeadStore, settings: Settings) -> None:
        self.writer = uuid4()
        self._log = log
        self._state = state
        self._tail = Tail(log, state, heads)
        self._probe = Probe(self._tail.follow)
        self._retry = settings.storage.retry
        self._interval = settings.wal.commit_interval_ms / 1000
        self._queue = Queue()
        self._task: asyncio.Task[None] | None = None
        self._next_put = 0.0

    async def append(
        self,
        operations: Sequence[Operation],
        *,
        deadline: float,
        check: Check | None = None,
        exact: bool = False,
        uuid: UUID | None = None,
    ) -> Lsn:
        """Makes the operations durable as one batch; returns its LSN, with the batch applied to the state.

        Args:
            deadline: time.monotonic() seconds.
            check: called before each put, when the state holds every slot before the one aimed at; what it raises on a
                state that holds all acknowledged before this call is raised here and nothing is written. Other batches
                of its group may come before this one in the slot, but none that writes a point of this one.
            exact: none at all may: all that `check` saw is what this batch is applied to. Costs each a slot.
            uuid: the batch's; of a request that may be sent again always the same. `check` must then refuse it where
                the state holds it already.

        Raises:
            InvalidInputError: the operations can't be encoded, or are more than BATCH_BYTES_MAX.
            DeadlineExceededError: `deadline_exceeded`: nothing was written, nor will be. `outcome_unknown`: it may or
                may not have been, which any read after a later acknowledged write shows.
            UnavailableError: too much is waiting already (`overloaded`), HEAD can't be read, or the store failed so
                often that nothing is sent for now (`circuit_open`); nothing was written.
            StorageFullError: nothing was written.
            CorruptionError: the log can't be continued; names the object.
        """
        batch = Batch(uuid or uuid4(), list(operations))
        encoded = await self._encode_operations(batch.operations)
        size = sum(memoryview(part).nbytes for parts in encoded for part in parts)
        if size > BATCH_BYTES_MAX:
            raise InvalidInputError(
                f"a batch of {size:,} bytes, expected at most {BATCH_BYTES_MAX:,}; send it in parts",
                code="batch_too_large",
            )
        done: asyncio.Future[Lsn] = asyncio.get_running_loop().create_future()
        request = Request(batch, encoded, size, deadline, check, exact, done)
        self._queue.add(request)
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        try:
            await asyncio.wait({request.done}, timeout=max(0.0, deadline - time.monotonic()))
            if request.done.done():
                return request.done.result()
        finally:
            request.abandoned = True  # also when this caller was cancelled: the others of the group must not notice
            self._queue.discard(request)
            if request.done.done():
                request.done.exception()  # heard, though a cancelled caller does not tell it
        if not request.proposed:
            raise too_late()
        self._queue.behind_unknown = True
        raise outcome_unknown()

    async def catch_up(self, *, deadline: float) -> Lsn:
        """Applies all that any node acknowledged before this call; returns the last LSN. Concurrent calls share reads.

        Raises:
            DeadlineExceededError, UnavailableError, CorruptionError.
        """
        return await self._probe.fresh(deadline)

    def ends_at(self, lsn: Lsn) -> bool:
        """Whether the log ended with `lsn` at some moment during this call, as far as that can be told at once; unlike
        all else here for any thread."""
        return self._tail.ends_at(lsn)

    async def close(self) -> None:
        """Refuses new batches, lets those under way be decided, and stops."""
        self._queue.closed = True
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=CLOSE_TIMEOUT_SECS)
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        await self._probe.close()

    async def _encode_operations(self, operations: Sequence[Operation]) -> list[list[Buffer]]:
        def encode() -> list[list[Buffer]]:
            return [encode_operation(operation) for operation in operations]

        large = sum(map(estimate_bytes, operations)) >= THREAD_BYTES_MIN
        return await asyncio.to_thread(encode) if large else encode()

    # The one task that puts.

    async def _run(self) -> None:
        group = Group([])
        try:
            while self._queue:
                await asyncio.sleep(max(0.0, self._next_put - time.monotonic()))
                group = self._queue.take()
                try:
                    await self._commit(group)
                except Exception as error:  # a caller learns of our bug; the next group must not wait for ever
                    group.settle(error)
                self._queue.behind_unknown = False
                self._queue.refusal = None
        finally:
            self._task = None
            for request in (*group.requests, *self._queue):
                request.settle(outcome_unknown() if request.proposed else too_late())

    async def _commit(self, group: Group) -> None:
        """Puts the group at one slot after another until it has one, or nobody is left in it."""
        try:
            await self._tail.reach()
            while await self._recheck(group):
                began = time.monotonic()
                if await self._propose(group):
                    METRICS.wal_operations.labels("append", "ok").inc()
                    self._next_put = self._pause_after(group, began)
                    return
                METRICS.wal_operations.labels("append", "lost_slot").inc()
                group.lose()
                if group.losses > 1:  # others are faster: read to the end rather than lose slot by slot
                    await self._tail.follow()
                    group.current = True
        except AkiDBError as error:
            METRICS.wal_operations.labels("append", "error").inc()
            group.settle(outcome_unknown() if group.ambiguous else error)

    async def _recheck(self, group: Group) -> bool:
        """Drops who is gone, late or refused by the state as it is now. True if any request is left.

        A state that lacks what others wrote may refuse what theirs allows, so it is brought to the log's end first.
        """
        refusals = await self._refusals(group)
        if refusals and not group.current:
            await self._tail.follow()
            group.current = True
            refusals = await self._refusals(group)
        kept = []
        for request in group.requests:
            if request.abandoned:
                continue
            if request.deadline <= time.monotonic():
                request.settle(too_late())
            elif request in refusals:
                request.settle(refusals[request])
            else:
                kept.append(request)
        group.requests = kept
        return bool(kept)

    async def _refusals(self, group: Group) -> dict[Request, Exception]:
        """What the requests' checks say, all of them of the state as it is when this returns."""
        while True:
            seen, refusals = self._state.applied, {}
            for request in group.requests:
                if request.check is None or request.abandoned or request.deadline <= time.monotonic():
                    continue
                try:
                    checking = request.check()
                    if checking is not None:
                        await checking
                except Exception as refusal:
                    refusals[request] = refusal
            if self._state.applied == seen:
                return refusals

    async def _propose(self, group: Group) -> bool:
        """Puts the group at slot applied + 1 until that slot is decided. True if it is the group's.

        Raises:
            AkiDBError: nothing of the group is in the log, or (DeadlineExceededError) that can't be told any more.
        """
        group.mark(proposed=True)
        batches = [request.batch for request in group.requests]
        slot = Slot(self._state.applied + 1, self._log.shard, self.writer, self._state.chain, batches)
        body, slot = await self._encode(slot, group)
        for attempt in itertools.count():
            match await self._put(slot.lsn, body, group):
                case Put.WON:
                    await self._decided(slot, group)
                    return True
                case Slot() as found:
                    if found.digest == slot.digest:
                        await self._decided(slot, group)
                        return True
                    await self._tail.apply(found)
                    return False
                case Put.GONE:
                    await self._tail.reload()
                    if group.ambiguous:
                        raise outcome_unknown()
                    return False
                case Put.DOUBTFUL:
                    group.ambiguous = True
                    await self._tail.reload()
                    raise outcome_unknown()
                case Put.UNKNOWN:
                    group.ambiguous = True
                    METRICS.wal_operations.labels("append", "ambiguous").inc()
            await asyncio.sleep(self._backoff(attempt))
        raise AssertionError("the loop ends by a decision")

    async def _put(self, lsn: Lsn, body: bytes, group: Group) -> Put | Slot:
        """One attempt. After a lost answer a refusal decides nothing: the earlier attempt may have landed."""
        try:
            return await self._tail.put(lsn, body)
        except CorruptionError:
            raise
        except AkiDBError as failed:
            if not group.ambiguous:
                raise
            if isinstance(failed, UnavailableError) and failed.code == CIRCUIT_OPEN:
                self._refuse_for_now(group, failed)
            return Put.UNKNOWN

    def _refuse_for_now(self, group: Group, refusal: UnavailableError) -> None:
        """The store is not asked before `refusal` says so: who can't live that long is told now, and who waits behind
        the group, or comes until its slot is decided, is refused."""
        asked_again = time.monotonic() + refusal.retry_after_secs
        for request in group.requests:
            if request.deadline < asked_again:
                self._queue.behind_unknown = True
                request.settle(outcome_unknown())
        self._queue.refuse(refusal)

    async def _encode(self, slot: Slot, group: Group) -> tuple[bytes, Slot]:
        def encode() -> tuple[bytes, Slot]:
            return encode_slot(slot, kind=self._log.kind, encoded=[request.encoded for request in group.requests])

        large = group.size >= THREAD_BYTES_MIN
        return await asyncio.to_thread(encode) if large else encode()

    async def _decided(self, slot: Slot, group: Group) -> None:
        group.ambiguous = True  # it is in the log, whatever fails now
        await self._tail.apply(slot)
        group.settle(slot.lsn)

    def _pause_after(self, group: Group, began: float) -> float:
        """When the next put may begin. Who won against others pauses for about one round trip: their turn."""
        trip = min(time.monotonic() - began, FAIR_SECS_MAX)
        fair = random.uniform(0.5, 1.5) * trip if group.losses else 0.0  # noqa: S311 - jitter
        return max(began + self._interval, time.monotonic() + fair)

    def _backoff(self, attempt: int) -> float:
        growth = self._retry.backoff_multiplier ** min(attempt, 64)  # a put may be tried for days; a float ends
        longest = min(self._retry.max_backoff_ms, self._retry.initial_backoff_ms * growth)
        return random.uniform(0, longest) / 1000  # noqa: S311 - jitter
