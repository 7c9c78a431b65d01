"""Snapshots of a collection: one name for a part in each of its shards, which have half a uuid in common.

Each part is of one slot of its shard. Nothing holds the shards still together, so of a batch that went into several of
them while the snapshot was made some parts may be in it and others not. A snapshot is whole when each shard has a part
of it; what is not, because somebody died or the store failed, is listed as such, read by nobody, and can be dropped.
"""

from __future__ import annotations

import re
from collections.abc import Coroutine, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from akidb.collection.outcome import in_each, together
from akidb.collection.pinned import Pinned
from akidb.collection.points import refuse
from akidb.collection.requests import Request
from akidb.collection.shard_snapshots import ShardSnapshots
from akidb.errors import ConflictError, InvalidInputError, NotFoundError
from akidb.manifest import AUTOMATIC, REGULAR, Head, Pin, before_revert
from akidb.types import STRONG, Consistency, Lsn, RevertInfo, SnapshotInfo

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Snapshots:
    """`parts` are the shards', in their order. All of it may be called on any node.

    The first shard's part is made first and dropped last: who has made it is the one who makes that snapshot.
    """

    def __init__(self, parts: Sequence[ShardSnapshots]) -> None:
        self._parts = parts

    async def create(self, name: str, deadline: float) -> SnapshotInfo:
        """Keeps the points as they are, in each shard at one slot which no write acknowledged before this call comes
        after. Of a name that a user gives `check_name` is asked before.

        Raises:
            ConflictError: `snapshot_exists`, `too_many_snapshots`; nothing changed.
            DeadlineExceededError: there may be a snapshot of that name now.
            PartialWriteError: not all shards keep their part; it has to be dropped before it can be made.
        """
        self._parts[0].refuse_read_only()
        if len(self._parts) > 1:
            await self._refuse_taken(name, deadline)
        whole, (first, *others) = uuid4(), self._parts
        pins = {0: await first.create(name, whole, deadline)}
        work = {number: part.create(name, whole, deadline) for number, part in enumerate(others, 1)}
        told = f"keep their part of snapshot {name!r}, which has to be dropped before it can be made"
        return _info(name, await in_each(work, _lsn, told, done=pins), len(self._parts))

    async def _refuse_taken(self, name: str, deadline: float) -> None:
        having = await self._having(name, STRONG, deadline)
        if having:
            parts = "" if self._is_whole(having) else ", though not whole; drop it first"
            raise ConflictError(f"there is a snapshot {name!r} already{parts}", code="snapshot_exists")
        for part in self._parts:
            await part.make_room(name, deadline)

    @property
    def store_time(self) -> float | None:
        """Seconds of the store's clock when it was last asked, None if it does not tell."""
        return self._parts[0].store_time

    async def is_present(self, name: str, deadline: float) -> bool:
        """Whether the points are those of a snapshot still, as far as that can be told without reading them."""
        pins = await self._whole(name, STRONG, deadline)
        return all(await together([self._parts[number].is_present(pin, deadline) for number, pin in pins.items()]))

    async def drop(self, name: str, deadline: float) -> None:
        """Forgets a snapshot, whole or not.

        Raises:
            NotFoundError: `snapshot_not_found`.
            PartialWriteError: some shards still have their part; called again, it goes on.
        """
        self._parts[0].refuse_read_only()
        having = await self._having(name, STRONG, deadline)
        if not having:
            raise self._parts[0].missing(name)
        told = f"forget their part of snapshot {name!r}"
        others = {number: self._forget(number, pin, deadline) for number, pin in having.items() if number}
        done = await in_each(others, lambda lsn: lsn, told)
        if 0 in having:
            await in_each({0: self._forget(0, having[0], deadline)}, lambda lsn: lsn, told, done=done)

    async def _forget(self, number: int, pin: Pin, deadline: float) -> Lsn:
        try:
            return await self._parts[number].drop(pin, deadline)
        except NotFoundError as gone:
            if gone.code != "snapshot_not_found" or len(self._parts) == 1:
                raise
            return pin.lsn  # somebody else forgot it meanwhile

    async def revert(self, name: str, key: str | None, deadline: float) -> RevertInfo:
        """Makes the points those of a snapshot, in each shard for every node at once, as one write. What there was
        before it is kept as a snapshot, so that a revert can be reverted.

        Raises:
            NotFoundError: `snapshot_not_found`.
            ConflictError: `too_many_snapshots`: there is no room for that of before; nothing changed.
            DeadlineExceededError: `outcome_unknown`: it may have happened.
            PartialWriteError: some shards are not reverted; under the same key the others are not reverted again.
            InvalidInputError: `idempotency_key_reused`.
        """
        self._parts[0].refuse_read_only()
        request = Request.of(key, "revert", name)
        batch = uuid4() if request is None else request.uuid
        done = {} if request is None else await self._done(request, deadline)
        if len(done) < len(self._parts):
            pins = await self._whole(name, STRONG, deadline)
            await self._check_before(batch, set(pins) - set(done), deadline)
            work: dict[int, Coroutine[Any, Any, Lsn]] = {
                number: self._parts[number].revert(pin, batch, request, deadline)
                for number, pin in pins.items()
                if number not in done
            }
            done = await in_each(work, lambda lsn: lsn, f"go back to snapshot {name!r}", done=done)
        lsn = max(done.values())
        return RevertInfo(lsn, before_revert(lsn, batch, len(self._parts)))

    async def _done(self, request: Request, deadline: float) -> dict[int, Lsn]:
        """Where the shards that were reverted for the request have it."""
        found = await together([part.done(request, deadline) for part in self._parts])
        return {number: each.lsn for number, each in enumerate(found) if each is not None}

    async def _check_before(self, batch: UUID, numbers: set[int], deadline: float) -> None:
        """Raises what speaks against keeping, in these shards, what a revert finds."""
        for number in numbers:
            await self._parts[number].make_room(before_revert(0, UUID(int=0), 2), deadline)  # the longest of its kind
        if len(self._parts) == 1:
            return
        having = await self._having(before_revert(0, batch, len(self._parts)), STRONG, deadline)
        if numbers & set(having):
            raise InvalidInputError(
                f"the idempotency key was used for another revert, more than a day ago, of which snapshot "
                f"{next(iter(having.values())).name!r} is kept; nothing was changed",
                code="idempotency_key_reused",
            )

    async def opened(
        self, as_of: str, consistency: Consistency, deadline: float, numbers: Sequence[int]
    ) -> list[Pinned]:
        """A snapshot for reading these shards. Raises NotFoundError `snapshot_not_found`, InvalidInputError."""
        pins = await self._as_of(as_of, consistency, deadline)
        return await together([self._parts[number].open(pins[number]) for number in numbers])

    async def lend(self, borrower: UUID, as_of: str | None, deadline: float) -> list[Head]:
        """Keeps for a clone, collection `borrower`, what a snapshot holds, or with None the points as they are now;
        returns of each shard what the clone's HEAD begins with.

        Raises:
            NotFoundError: `snapshot_not_found`.
            InvalidInputError: `invalid_snapshot`.
            ConflictError: `too_many_snapshots`.
            DeadlineExceededError: nothing changed that outlives the round of garbage collection an hour later.
        """
        pins: Mapping[int, Pin] = {} if as_of is None else await self._as_of(as_of, STRONG, deadline)
        return await together([part.lend(borrower, pins.get(n), deadline) for n, part in enumerate(self._parts)])

    async def _as_of(self, as_of: str, consistency: Consistency, deadline: float) -> Mapping[int, Pin]:
        """The parts of the snapshot that `as_of` names, or of the newest that was made by the time that it tells.

        What reverts keep is not meant by a time: it was kept later than it was true.
        """
        if ":" not in as_of:  # as no name has
            return await self._whole(as_of, consistency, deadline)
        until = _seconds_of(as_of)
        listed = await self._listed(consistency, deadline)
        made = {  # of one second the later, which is listed after it
            max(pin.created for pin in having.values()): having
            for name, having in listed.items()
            if self._is_whole(having) and not name.startswith(AUTOMATIC)
        }
        made.pop(0, None)  # of an unknown time
        newest = max((created for created in made if created <= until), default=None)
        if newest is not None:
            return made[newest]
        oldest = f"the oldest was made at {_time_of(min(made)).isoformat()}" if made else "there is none with a time"
        raise self._parts[0].missing(as_of, f", made by then; {oldest}")

    async def _whole(self, name: str, consistency: Consistency, deadline: float) -> Mapping[int, Pin]:
        """The parts of a snapshot, by the number of their shard."""
        having = await self._having(name, consistency, deadline)
        if not self._is_whole(having):
            raise self._parts[0].missing(name, " that is whole; drop it and make it again" if having else "")
        return having

    async def _having(self, name: str, consistency: Consistency, deadline: float) -> dict[int, Pin]:
        found = await together([part.find(name, consistency, deadline) for part in self._parts])
        return {number: pin for number, pin in enumerate(found) if pin is not None}

    def _is_whole(self, having: Mapping[int, Pin]) -> bool:
        return _is_whole(having, len(self._parts))

    async def list(self, consistency: Consistency, deadline: float) -> list[SnapshotInfo]:
        """All snapshots, oldest first; after them those that are not whole."""
        listed = await self._listed(consistency, deadline)
        infos = [_info(name, having, len(self._parts)) for name, having in listed.items()]
        return sorted(infos, key=lambda info: not info.complete)

    async def _listed(self, consistency: Consistency, deadline: float) -> dict[str, dict[int, Pin]]:
        """The parts of each snapshot, by its name, in the order of the first shard that has it."""
        listed: dict[str, dict[int, Pin]] = {}
        for number, pins in enumerate(await together([part.pins(consistency, deadline) for part in self._parts])):
            for pin in pins:
                listed.setdefault(pin.name, {})[number] = pin
        return listed


def _is_whole(having: Mapping[int, Pin], shards: int) -> bool:
    """Whether these are all parts of one snapshot; somebody else may have made another under its name."""
    return len(having) == shards and len({pin.whole for pin in having.values()}) == 1


def _lsn(pin: Pin) -> Lsn:
    return pin.lsn


def _info(name: str, having: Mapping[int, Pin], shards: int) -> SnapshotInfo:
    pins = having.values()
    latest = max(pin.created for pin in pins)
    created = _time_of(latest) if latest else None
    points = sum(pin.points for pin in pins)
    return SnapshotInfo(name, max(pin.lsn for pin in pins), points, created, _is_whole(having, shards))


def _time_of(created: int) -> datetime:
    return datetime.fromtimestamp(created, UTC)


def _seconds_of(as_of: str) -> float:
    """Of a time as RFC 3339 writes it. Raises InvalidInputError `invalid_snapshot`."""
    try:
        time = datetime.fromisoformat(as_of)
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        msg = f"is {as_of!r:.80}, expected a snapshot's name, or a time with its zone, such as 2026-01-31T18:00:00Z"
        raise refuse("invalid_snapshot", ("as_of",), msg)
    return time.timestamp()


def check_name(name: str) -> None:
    """Raises InvalidInputError `invalid_snapshot` for what no user may call a snapshot."""
    if not isinstance(name, str) or NAME.fullmatch(name) is None:
        msg = f"is {name!r:.80}, expected 1 to 64 characters: a letter or digit, then letters, digits, '.', '_', '-'"
        raise refuse("invalid_snapshot", ("name",), msg)
    if name.startswith(AUTOMATIC):
        raise refuse("invalid_snapshot", ("name",), f"is {name!r}; what reverts find is kept under such names")
    if REGULAR.fullmatch(name):
        raise refuse("invalid_snapshot", ("name",), f"is {name!r}; those made at regular times have such names")
