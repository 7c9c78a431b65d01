"""Snapshots of one shard: named points in time, kept without copying anything.

A snapshot is what HEAD names once all slots up to one are folded, so making one is a fold and a swap of HEAD. Dropping
one goes through the log, as a revert to it does: which of the two came first is then known to every node, and a fold
takes the snapshot out of HEAD once no slot that needs it is left. Keeping the tail's slots instead of folding them was
rejected: a fold costs at most 64 MiB, and whatever reads a snapshot later needs segments alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from uuid import UUID

from akidb.collection.fold import too_old
from akidb.collection.pinned import Pinned
from akidb.collection.requests import DoneError, Request, Written
from akidb.collection.shard import Shard
from akidb.errors import AkiDBError, ConflictError, DeadlineExceededError, NotFoundError, ReadOnlyError
from akidb.manifest import Head, Pin, has_room, part_of
from akidb.types import STRONG, Consistency, Lsn
from akidb.wal import Operation, Revert, Unpin


class ShardSnapshots:
    """`fold` is the shard's, None where the collection is open read-only. All of it may be called on any node."""

    def __init__(self, shard: Shard, fold: Callable[[], Awaitable[None]] | None) -> None:
        self._shard = shard
        self._fold = fold

    async def create(self, name: str, whole: UUID, deadline: float) -> Pin:
        """Keeps the points as they are at one slot, which no write acknowledged before this call comes after, as a part
        of snapshot `whole`.

        Raises:
            ConflictError: `snapshot_exists`, `too_many_snapshots`; nothing changed.
            DeadlineExceededError: it may be kept now.
        """
        while True:
            head = await self._folded(deadline)
            _check_unused(head, name)
            await self.make_room(name, deadline)
            pin = await self._pin(head, name, whole, partial(_says_the_same, head))
            if pin is not None:
                return pin

    async def lend(self, borrower: UUID, pin: Pin | None, deadline: float) -> Head:
        """Keeps for a clone, collection `borrower`, what a snapshot holds, or with None the points as they are now;
        returns what the clone's HEAD begins with.

        Raises:
            NotFoundError: `snapshot_not_found`.
            ConflictError: `too_many_snapshots`; nothing changed.
            DeadlineExceededError: nothing changed that outlives the round of garbage collection an hour later.
        """
        while True:
            if pin is None:
                head = await self._folded(deadline)
                holds = partial(_says_the_same, head)
            else:
                head, holds = await self._kept(pin), partial(_names, pin)
            await self.make_room(borrower.hex, deadline)
            if await self._pin(head, borrower.hex, borrower, holds, clone=True) is not None:
                return head.of_clone()

    async def _kept(self, pin: Pin) -> Head:
        """What a snapshot says, to be said by a manifest of the present epoch."""
        shard = self._shard
        self.refuse_read_only()
        await shard.refresh()
        if pin not in shard.state.pins:
            raise self.missing(pin.name)
        kept = await shard.heads.manifests.read(pin.uuid, pin.epoch)
        return replace(kept, gc_epoch=shard.state.head.gc_epoch)

    async def _pin(
        self, head: Head, name: str, whole: UUID, holds: Callable[[Head], bool], *, clone: bool = False
    ) -> Pin | None:
        """Names in the store's HEAD what `head` says; None if that HEAD is one of which `holds` is not true."""
        shard = self._shard

        def pinned(now: Head) -> Head | None:
            if not holds(now) or too_old(now, pin.epoch) or now.sealed:
                return None
            _check_unused(now, name)
            _check_room(now, name)
            return replace(now, pins=(*now.pins, pin))

        async with shard.store.lock(shard.prefix, exclusive=False):
            pin = await shard.heads.manifests.put(head, name, part_of(whole), clone=clone)
            swapped = await shard.heads.swap(pinned)
        await shard.refresh()
        return None if swapped is None else pin

    async def _folded(self, deadline: float) -> Head:
        """HEAD, once it tells all slots that were acknowledged before this call."""
        shard, fold = self._shard, self.refuse_read_only()
        await shard.catch_up(STRONG, deadline=deadline)
        wanted = shard.applied
        while True:
            await shard.refresh()
            head = shard.state.head
            if head.folded > wanted:
                return head
            if time.monotonic() > deadline:
                raise DeadlineExceededError("the log's tail was not folded in time; nothing was changed")
            await fold()

    def refuse_read_only(self) -> Callable[[], Awaitable[None]]:
        """The shard's fold. Raises ReadOnlyError where there is none."""
        if self._fold is None:
            raise ReadOnlyError(f"collection {self._shard.spec.name!r} is open read-only")
        return self._fold

    async def pins(self, consistency: Consistency, deadline: float) -> Sequence[Pin]:
        """The users' snapshots, oldest first."""
        await self._shard.catch_up(consistency, deadline=deadline)
        await self._shard.refresh()
        return sorted(self._shard.state.pins, key=lambda pin: pin.lsn)

    async def find(self, name: str, consistency: Consistency, deadline: float) -> Pin | None:
        """The snapshot of that name."""
        await self._shard.catch_up(consistency, deadline=deadline)
        pin = self._shard.state.pin(name)
        if pin is None or consistency.mode != "eventual":  # HEAD alone tells of those that others made
            await self._shard.refresh()
            pin = self._shard.state.pin(name)
        return pin

    async def make_room(self, name: str, deadline: float) -> None:
        """Raises ConflictError `too_many_snapshots` unless a snapshot called `name` may be added, also once what was
        kept for clones that do not need it any more has gone."""
        shard = self._shard
        if not has_room(shard.state.head.pins, name):
            # What fails there, such as a clone's damaged HEAD, garbage collection tells; here there is no room then.
            with contextlib.suppress(AkiDBError, TimeoutError):
                async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                    await shard.release()
            await shard.refresh()
        _check_room(shard.state.head, name)

    @property
    def store_time(self) -> float | None:
        """Seconds of the store's clock when HEAD was last read, None if the store does not tell."""
        return self._shard.heads.date

    async def is_present(self, pin: Pin, deadline: float) -> bool:
        """Whether HEAD names the snapshot's objects still: nothing was written since, nor merged. Slots that are about
        snapshots alone do not change what it names."""
        head = await self._folded(deadline)
        return head.object_keys == (await self._shard.heads.manifests.read(pin.uuid, pin.epoch)).object_keys

    async def open(self, pin: Pin) -> Pinned:
        """A snapshot for reading. Raises CorruptionError, UnavailableError."""
        return await self._shard.pinned(pin.uuid, pin.epoch)

    async def drop(self, pin: Pin, deadline: float) -> Lsn:
        """Forgets a snapshot; what only it kept goes with the next garbage collection.

        Raises:
            NotFoundError: `snapshot_not_found`.
        """
        lsn = await self._append([Unpin(pin.uuid)], pin, deadline)
        await self._settle(lambda head: pin not in head.pins)
        return lsn

    async def revert(self, pin: Pin, batch: UUID, request: Request | None, deadline: float) -> Lsn:
        """Makes the points those of a snapshot, for every node at once, as one write: `batch`, of a request its own.
        What there was before it is kept as a snapshot.

        Raises:
            NotFoundError: `snapshot_not_found`.
            DeadlineExceededError: `outcome_unknown`: it may have happened.
        """
        await self.open(pin)  # so that applying the slot asks nothing of the store
        once = [] if request is None else [request.once]
        try:
            lsn = await self._append([*once, Revert(pin.uuid, pin.epoch)], pin, deadline, batch=batch)
        except DoneError as found:
            assert request is not None, "only a request is looked for"
            request.refuse_another(found.done)
            lsn = found.done.lsn
        await self._settle(lambda head: head.folded > lsn)
        return lsn

    async def done(self, request: Request, deadline: float) -> Written | None:
        """What became of a revert that was asked for before. Raises InvalidInputError `idempotency_key_reused`."""
        await self._shard.catch_up(STRONG, deadline=deadline)
        found = self._shard.state.requests.find(request.uuid)
        if found is not None:
            request.refuse_another(found)
            lsn = found.lsn
            await self._settle(lambda head: head.folded > lsn)  # a fold keeps what it found
        return found

    async def _append(
        self, operations: Sequence[Operation], pin: Pin, deadline: float, *, batch: UUID | None = None
    ) -> Lsn:
        """Writes what is about `pin`; raises DoneError if it is a request that is in the log already."""
        self.refuse_read_only()

        def still_there() -> None:
            state = self._shard.state
            done = None if batch is None else state.requests.find(batch)
            if done is not None:
                raise DoneError(done)
            if pin not in state.pins:
                raise self.missing(pin.name)

        return await self._shard.append(operations, deadline=deadline, check=still_there, exact=True, uuid=batch)

    async def _settle(self, done: Callable[[Head], bool]) -> None:
        """Folds what was written, for those who look at once; it is durable without that, and folded later anyhow."""
        assert self._fold is not None
        with contextlib.suppress(AkiDBError):
            for _ in range(3):  # what came before a revert is a fold of its own, and another node may be quicker
                if done(self._shard.state.head):
                    return
                await self._fold()
                await self._shard.refresh()

    def missing(self, name: str, but: str = "") -> NotFoundError:
        """The error for who asks for a snapshot that there is not."""
        message = f"collection {self._shard.spec.name!r} has no snapshot {name!r}{but}"
        return NotFoundError(message, code="snapshot_not_found")


def _says_the_same(head: Head, now: Head) -> bool:
    return (now.folded, now.segments) == (head.folded, head.segments)


def _names(pin: Pin, now: Head) -> bool:
    return pin in now.pins


def _check_unused(head: Head, name: str) -> None:
    if any(pin.name == name for pin in head.pins):
        raise ConflictError(f"there is a snapshot {name!r} already", code="snapshot_exists")


def _check_room(head: Head, name: str) -> None:
    if not has_room(head.pins, name):
        message = f"the collection has {len(head.pins)} snapshots, as many as it may; drop some"
        raise ConflictError(message, code="too_many_snapshots")
