"""The end of a log as one node knows it: which answers about a slot to believe, and a state kept in step with them.

Folded slots are deleted, so a missing slot may be one that was folded away, and a slot may be created a second time.
With locks a missing slot is the end only if HEAD's `garbage`, read afterwards, is not above it; and a slot is put only
under the shard's shared lock after HEAD said so, while deletions hold the exclusive one. In a bucket any answer about a
slot needs HEAD to vouch that the slot was never deleted: HEAD as read a moment before the answer, or after it.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable
from typing import Protocol

from akidb.errors import CorruptionError, UnavailableError
from akidb.manifest import Head, HeadStore
from akidb.storage.breaking import CIRCUIT_OPEN
from akidb.storage.object_store import Status
from akidb.types import Lsn
from akidb.wal.log import Log, Look, check_chain
from akidb.wal.slot import Slot

_ACTIVE_WIDTH = 4
"""Slots probed at once while others write, 1 otherwise. Without it a busy log could keep a reader chasing."""

FAR = 512
"""Slots read one by one before HEAD is asked for a state that is as much further: a segment is read at once."""


class State(Protocol):
    """What the log's slots are applied to. `chain` is the digest of slot `applied`, CHAIN_START before the first."""

    @property
    def applied(self) -> Lsn: ...

    @property
    def chain(self) -> bytes: ...

    async def apply(self, slot: Slot) -> None:
        """Applies slot applied + 1 if that is still the next; skips batches whose uuid was applied already. No I/O."""
        ...

    async def reload(self) -> None:
        """Jumps forward to what HEAD says now, at least slot folded - 1: the next was folded, and perhaps deleted."""
        ...


class Put(enum.Enum):
    """What became of a put, besides finding another slot there."""

    WON = "won"  # the slot is ours
    GONE = "gone"  # the slot was folded and deleted; this put wrote nothing
    CONFLICT = "conflict"  # the store did not decide; this put wrote nothing
    DOUBTFUL = "doubtful"  # the store has this slot, but as it was first or created again, that can't be told any more
    UNKNOWN = "unknown"  # the answer was lost: it may or may not land


class Tail:
    """Follows `log` with `state`. Only slots that continue the state's chain are ever applied, each once, in order."""

    def __init__(self, log: Log, state: State, heads: HeadStore) -> None:
        self._log = log
        self._state = state
        self._heads = heads
        self._changing = asyncio.Lock()  # a reload awaits; nothing may be applied to the state it replaces
        self._attempts: set[asyncio.Task[Put | Slot]] = set()
        self._width = 1
        self._at_end = False
        self._locks = log.store.can_delete

    async def apply(self, slot: Slot) -> None:
        """Applies a slot unless it is applied already. Raises CorruptionError if it does not continue the chain."""
        async with self._changing:
            if slot.lsn == self._state.applied + 1:
                check_chain(slot, self._state.chain, self._log.key(slot.lsn))
                await self._state.apply(slot)

    async def follow(self) -> Lsn:
        """Applies all that was in the log at some moment during this call; returns the last LSN.

        Raises:
            CorruptionError: a slot can't be read, does not fit, or is missing though later ones are there.
            UnavailableError: the store is away.
        """
        while True:
            # Who knows nothing yet asks for the list at once: reading the next slot before it would be a round more.
            before = self._state.applied
            run = await self._log.look_run(before + 1, self._width) if self._at_end else []
            if not await self._take(run):
                continue
            far = all(look.slot is not None for look in run)
            if far and not await self._take_far():
                continue
            self._width = _ACTIVE_WIDTH if self._state.applied > before else 1
            if self._locks and await self._reload_if_gone():
                continue
            suspect = far or _has_hole(run)
            if suspect and await self._hole():
                continue
            self._at_end = True
            return self._state.applied

    async def _take(self, looks: list[Look]) -> bool:
        """Applies what these looks found. False if their slots may be gone, and the state jumped ahead."""
        vouched = self._locks or all(self._heads.vouches(look.lsn, look.date) for look in looks)
        if not vouched and await self._reload_if_gone():
            return False
        for look in looks:
            if look.slot is None:
                break
            await self.apply(look.slot)
        return True

    async def _take_far(self) -> bool:
        """As `_take`, with all that is in the log."""
        read = 0
        async for looks in self._log.look_from(self._state.applied + 1):
            if not await self._take(looks):
                return False
            read += len(looks)
            if read >= FAR:
                read = 0
                if await self._reload_if(lambda head: head.folded > self._state.applied + FAR):
                    return False
        return True

    def ends_at(self, lsn: Lsn) -> bool:
        """Whether the log was seen to end with slot `lsn` at some moment during this call; False also where that can't
        be told at once. Changes nothing, so any thread may ask.

        As in `follow` the slot is looked for first and HEAD read afterwards: deletions raise HEAD's `garbage` before
        they begin, so a slot that was gone by the first look is below it by the second.
        """
        if not self._at_end:
            return False  # never looked for holes
        reply = self._log.store.get_now(self._log.key(lsn + 1))
        if reply is None or reply.status is not Status.NOT_FOUND:
            return False
        head = self._heads.unchanged()
        return head is not None and head.garbage <= lsn + 1

    async def reach(self) -> None:
        """Follows to the end if this node has never been there; a writer begins so, and then loses slots instead."""
        if not self._at_end:
            await self.follow()

    async def put(self, lsn: Lsn, body: bytes) -> Put | Slot:
        """Tries to make `body` slot `lsn`; answers with the slot that is there if it is taken (it may be this body).

        Raises:
            UnavailableError: HEAD can't be read, or nothing is sent for now (CIRCUIT_OPEN); this put wrote nothing (a
                lost answer is UNKNOWN).
            StorageFullError: this put wrote nothing.
            CorruptionError: the slot that is there can't be read.
        """
        if not self._locks:
            return await self._put_unlocked(lsn, body)
        # Cancelled, it must keep the lock until the store is done with it: a put that outlives its lock could create a
        # slot again that was folded and deleted.
        attempt = asyncio.create_task(self._put(lsn, body))
        self._attempts.add(attempt)
        attempt.add_done_callback(self._attempts.discard)
        return await asyncio.shield(attempt)

    async def _put(self, lsn: Lsn, body: bytes) -> Put | Slot:
        store = self._log.store
        async with store.lock(self._log.prefix, exclusive=False):
            if (await self._heads.read())[0].garbage > lsn:
                return Put.GONE
            try:
                reply = await store.put_if_absent(self._log.key(lsn), body)
            except UnavailableError as failed:
                if failed.code == CIRCUIT_OPEN:  # not sent
                    raise
                return Put.UNKNOWN
            if reply.status is Status.OK:
                return Put.WON
            # HTTP clients repeat a put whose connection ended, unasked: what refuses the repetition may be our own
            # slot. What is there decides, and nothing is known until it can be read.
            try:
                found = await self._log.read(lsn) if reply.status is Status.CONDITION_FAILED else None
            except UnavailableError:
                return Put.UNKNOWN
        return Put.CONFLICT if found is None else found

    async def _put_unlocked(self, lsn: Lsn, body: bytes) -> Put | Slot:
        # After a pause HEAD is read now rather than after the put, which could create a slot that was deleted.
        if self._heads.is_stale and (await self._heads.read())[0].garbage > lsn:
            return Put.GONE
        try:
            reply = await self._log.store.put_if_absent(self._log.key(lsn), body)
        except UnavailableError as failed:
            if failed.code == CIRCUIT_OPEN:  # not sent
                raise
            return Put.UNKNOWN
        try:
            if reply.status is Status.CONFLICT:
                return Put.CONFLICT
            found = None if reply.ok else await self._log.look(lsn)
            if not await self._is_first(lsn, reply.date if found is None else found.date):
                return Put.DOUBTFUL
        except UnavailableError:  # a put that landed stays so, and the next attempt finds it
            return Put.UNKNOWN
        if found is None:
            return Put.WON
        return Put.CONFLICT if found.slot is None else found.slot

    async def _is_first(self, lsn: Lsn, date: float | None) -> bool:
        """Whether an answer about slot `lsn` is of the slot as it was first."""
        return self._heads.vouches(lsn, date) or (await self._heads.read())[0].garbage <= lsn

    async def reload(self) -> None:
        """Jumps forward if HEAD says that the next slot is gone."""
        await self._reload_if_gone()

    async def _reload_if_gone(self) -> bool:
        return await self._reload_if(lambda head: head.garbage > self._state.applied + 1)

    async def _reload_if(self, is_ahead: Callable[[Head], bool]) -> bool:
        async with self._changing:
            head, _ = await self._heads.read()
            if not is_ahead(head):
                return False
            await self._state.reload()
            if self._state.applied + 1 < head.garbage:
                raise CorruptionError(
                    f"slots below {head.garbage} are gone, but the state that HEAD tells ends at {self._state.applied}",
                    key=self._heads.key,
                )
            return True

    async def _hole(self) -> bool:
        """Looks for slots behind the end. True if the end moved on meanwhile; CorruptionError if a slot is missing."""
        end = self._state.applied + 1
        if not await self._log.exists_after(end):
            return False
        # A later slot was put by a node that had read this one: by now it is there, or was folded away, or is lost.
        if await self._log.read(end) is not None or self._state.applied >= end or await self._reload_if_gone():
            return True
        raise CorruptionError(
            "the slot is missing though later ones are there", code="missing_slot", key=self._log.key(end)
        )


def _has_hole(run: list[Look]) -> bool:
    """Whether a slot is there behind one that is not."""
    missing = next((i for i, look in enumerate(run) if look.slot is None), len(run))
    return any(look.slot is not None for look in run[missing:])
