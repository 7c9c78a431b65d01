"""Snapshots of one shard: named points in time, kept without copying anything.

A snapshot is what HEAD names once all slots up to one are folded, so making one is a fold and a swap of HEAD. Dropping
one goes through the log, as a revert to it does: which of the two came first is then known to every node, and a fold
takes the snapshot out of HEAD once no slot that needs it is left. Keeping the tail's slots instead of folding them was
rejected: a fold costs at most 64 MiB, and whatever reads a snapshot later needs segments alone.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from uuid import UUID

from akidb.collection.fold import too_old
from akidb.collection.pinned import Pinned
from akidb.collection.points import refuse
from akidb.collection.shard import Shard
from akidb.errors import AkiDBError, ConflictError, DeadlineExceededError, NotFoundError, ReadOnlyError
from akidb.manifest import AUTOMATIC, Head, Pin, before_revert, has_room
from akidb.types import STRONG, Consistency, Lsn, RevertInfo, SnapshotInfo
from akidb.wal import Operation, Revert, Unpin

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Snapshots:
    """`fold` is the shard's, None where the collection is open read-only. All of it may be called on any node."""

    def __init__(self, shard: Shard, fold: Callable[[], Awaitable[None]] | None) -> None:
        self._shard = shard
        self._fold = fold

    async def create(self, name: str, deadline: float) -> SnapshotInfo:
        """Keeps the points as they are at one slot, which no write acknowledged before this call comes after.

        Raises:
            InvalidInputError: `invalid_snapshot`: not a name.
            ConflictError: `snapshot_exists`, `too_many_snapshots`; nothing changed.
            DeadlineExceededError: there may be a snapshot of that name now.
        """
        check_name(name)
        while True:
            head = await self._folded(deadline)
            _check_free(head, name)
            pin = await self._pin(head, name, partial(_says_the_same, head))
            if pin is not None:
                return _info(pin)

    async def lend(self, borrower: UUID, name: str | None, deadline: float) -> Head:
        """Keeps for a clone, collection `borrower`, what a snapshot holds, or without a name the points as they are
        now; returns what the clone's HEAD begins with.

        Raises:
            NotFoundError: `snapshot_not_found`.
            ConflictError: `too_many_snapshots`; nothing changed.
            DeadlineExceededError: nothing changed that outlives an hour.
        """
        manifests = self._shard.heads.manifests
        while True:
            if name is None:
                head = await self._folded(deadline)
                holds = partial(_says_the_same, head)
            else:
                self._refuse_read_only()
                kept = await self._find(name, STRONG, deadline)
                epoch = self._shard.state.head.gc_epoch  # of the new manifest, though what it says is older
                head = replace(await manifests.read(kept.uuid, kept.epoch), gc_epoch=epoch)
                holds = partial(_names, kept)
            _check_free(self._shard.state.head, borrower.hex)
            if await self._pin(head, borrower.hex, holds, clone=True) is not None:
                return head.of_clone()

    async def _pin(self, head: Head, name: str, holds: Callable[[Head], bool], *, clone: bool = False) -> Pin | None:
        """Names in the store's HEAD what `head` says; None if that HEAD is one of which `holds` is not true."""
        shard = self._shard

        def pinned(now: Head) -> Head | None:
            if not holds(now) or too_old(now, pin.epoch) or now.sealed:
                return None
            _check_free(now, name)
            return replace(now, pins=(*now.pins, pin))

        async with shard.store.lock(shard.prefix, exclusive=False):
            pin = await shard.heads.manifests.put(head, name, clone=clone)
            swapped = await shard.heads.swap(pinned)
        await shard.refresh()
        return None if swapped is None else pin

    async def _folded(self, deadline: float) -> Head:
        """HEAD, once it tells all slots that were acknowledged before this call."""
        shard, fold = self._shard, self._refuse_read_only()
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

    def _refuse_read_only(self) -> Callable[[], Awaitable[None]]:
        """The shard's fold, where there is one."""
        if self._fold is None:
            raise ReadOnlyError(f"collection {self._shard.spec.name!r} is open read-only")
        return self._fold

    async def list(self, consistency: Consistency, deadline: float) -> list[SnapshotInfo]:
        """All snapshots, oldest first."""
        await self._shard.catch_up(consistency, deadline=deadline)
        await self._shard.refresh()
        return [_info(pin) for pin in sorted(self._shard.state.pins, key=lambda pin: pin.lsn)]

    async def drop(self, name: str, deadline: float) -> None:
        """Forgets a snapshot; what only it kept goes with the next garbage collection.

        Raises:
            NotFoundError: `snapshot_not_found`.
        """
        pin = await self._find(name, STRONG, deadline)
        await self._append(Unpin(pin.uuid), pin, deadline)
        await self._settle(lambda head: pin not in head.pins)

    async def revert(self, name: str, deadline: float) -> RevertInfo:
        """Makes the points those of a snapshot, for every node at once, as one write. What there was before it
        is kept as a snapshot, so that a revert can be reverted.

        Raises:
            NotFoundError: `snapshot_not_found`.
            ConflictError: `too_many_snapshots`: there is no room for that of before; nothing changed.
            DeadlineExceededError: `outcome_unknown`: it may have happened.
        """
        pin = await self._find(name, STRONG, deadline)
        _check_room(self._shard.state.head, before_revert(self._shard.applied))
        await self._shard.pinned(pin.uuid, pin.epoch)  # so that applying the slot asks nothing of the store
        lsn = await self._append(Revert(pin.uuid, pin.epoch), pin, deadline)
        await self._settle(lambda head: head.folded > lsn)
        return RevertInfo(lsn, before_revert(lsn))

    async def opened(self, name: str, consistency: Consistency, deadline: float) -> Pinned:
        """A snapshot for reading. Raises NotFoundError `snapshot_not_found`."""
        pin = await self._find(name, consistency, deadline)
        return await self._shard.pinned(pin.uuid, pin.epoch)

    async def _find(self, name: str, consistency: Consistency, deadline: float) -> Pin:
        await self._shard.catch_up(consistency, deadline=deadline)
        pin = self._shard.state.pin(name)
        if pin is None or consistency.mode != "eventual":  # HEAD alone tells of those that others made
            await self._shard.refresh()
            pin = self._shard.state.pin(name)
        if pin is None:
            raise self._missing(name)
        return pin

    async def _append(self, operation: Operation, pin: Pin, deadline: float) -> Lsn:
        self._refuse_read_only()

        def still_there() -> None:
            if pin not in self._shard.state.pins:
                raise self._missing(pin.name)

        return await self._shard.append([operation], deadline=deadline, check=still_there, exact=True)

    async def _settle(self, done: Callable[[Head], bool]) -> None:
        """Folds what was written, for those who look at once; it is durable without that, and folded later anyhow."""
        assert self._fold is not None
        with contextlib.suppress(AkiDBError):
            for _ in range(3):  # what came before a revert is a fold of its own, and another node may be quicker
                if done(self._shard.state.head):
                    return
                await self._fold()
                await self._shard.refresh()

    def _missing(self, name: str) -> NotFoundError:
        message = f"collection {self._shard.spec.name!r} has no snapshot {name!r}"
        return NotFoundError(message, code="snapshot_not_found")


def check_name(name: str) -> None:
    """Raises InvalidInputError `invalid_snapshot` for what no user may call a snapshot."""
    if not isinstance(name, str) or NAME.fullmatch(name) is None:
        msg = f"is {name!r:.80}, expected 1 to 64 characters: a letter or digit, then letters, digits, '.', '_', '-'"
        raise refuse("invalid_snapshot", ("name",), msg)
    if name.startswith(AUTOMATIC):
        raise refuse("invalid_snapshot", ("name",), f"is {name!r}; reverts call their snapshots {AUTOMATIC}<lsn>")


def _says_the_same(head: Head, now: Head) -> bool:
    return (now.folded, now.segments) == (head.folded, head.segments)


def _names(pin: Pin, now: Head) -> bool:
    return pin in now.pins


def _check_free(head: Head, name: str) -> None:
    if any(pin.name == name for pin in head.pins):
        raise ConflictError(f"there is a snapshot {name!r} already", code="snapshot_exists")
    _check_room(head, name)


def _check_room(head: Head, name: str) -> None:
    if not has_room(head.pins, name):
        message = f"the collection has {len(head.pins)} snapshots, as many as it may; drop some"
        raise ConflictError(message, code="too_many_snapshots")


def _info(pin: Pin) -> SnapshotInfo:
    created = datetime.fromtimestamp(pin.created, UTC) if pin.created else None
    return SnapshotInfo(pin.name, pin.lsn, pin.points, created)
