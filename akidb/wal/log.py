"""The log of one shard on the store: its keys, and its slots as they are; what they mean is said by `tail.py`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from akidb.codec.frame import KIND_SLOT
from akidb.errors import CorruptionError
from akidb.storage.object_store import ObjectInfo, ObjectStore, Status
from akidb.types import Lsn
from akidb.wal.slot import Slot, decode_slot

READS_AT_ONCE = 64
DAMAGED_READS_MAX = 3
"""Reads of a slot that fails its checks before it is taken for damaged in the store."""

GROWN_READS_MAX = 16
"""Slots read at once that were not listed, so that none is known to be there, nor how large."""

READ_BYTES_AT_ONCE = 64 << 20
THREAD_BYTES_MIN = 256 << 10
"""Larger slots are packed and checked in a thread: it takes longer than the event loop may stand still."""


def slot_key(prefix: str, lsn: Lsn) -> str:
    """`<prefix>/wal/<lsn / 4096>/<lsn>` in hex of fixed width: key order is LSN order, and folders stay small."""
    return f"{prefix}/wal/{lsn // 4096:013x}/{lsn:016x}"


def lsn_of(prefix: str, key: str) -> Lsn | None:
    """Which slot of the log under `prefix` lies at `key`; None for a key that no slot has, whatever it resembles."""
    try:
        lsn = int(key.rpartition("/")[2], 16)
    except ValueError:
        return None
    return lsn if lsn >= 0 and slot_key(prefix, lsn) == key else None


@dataclass(frozen=True, slots=True)
class Look:
    """What the store said of slot `lsn`, and when by its clock; None for what is not there or was not told."""

    lsn: Lsn
    slot: Slot | None
    date: float | None = None


class Log:
    """Slots under `prefix`. `kind` is KIND_SLOT, or KIND_CATALOGUE_SLOT for a catalogue."""

    def __init__(self, store: ObjectStore, prefix: str, shard: UUID, *, kind: int = KIND_SLOT) -> None:
        self.store = store
        self.prefix = prefix
        self.shard = shard
        self.kind = kind

    def key(self, lsn: Lsn) -> str:
        return slot_key(self.prefix, lsn)

    async def read(self, lsn: Lsn) -> Slot | None:
        """The slot, or None if the store has none there now: it may have been folded and deleted. Raises as `look`."""
        return (await self.look(lsn)).slot

    async def look(self, lsn: Lsn) -> Look:
        """The slot, and when the store told.

        Raises:
            CorruptionError: it is not what was put there, however often it is read; names the object.
            UnavailableError: the store is away.
        """
        for _ in range(DAMAGED_READS_MAX - 1):
            with contextlib.suppress(CorruptionError):  # on the way here, perhaps
                return await self._look(lsn)
        return await self._look(lsn)

    async def _look(self, lsn: Lsn) -> Look:
        key = self.key(lsn)
        reply = await self.store.get(key)
        if reply.status is Status.NOT_FOUND:
            return Look(lsn, None, reply.date)

        def decode() -> Slot:
            return decode_slot(reply.body, lsn=lsn, shard=self.shard, name=key, kind=self.kind)

        slot = await asyncio.to_thread(decode) if len(reply.body) >= THREAD_BYTES_MIN else decode()
        return Look(lsn, slot, reply.date)

    async def look_run(self, lsn: Lsn, count: int) -> list[Look]:
        """Looks at slots lsn .. lsn + count - 1, in parallel."""
        return await asyncio.gather(*(self.look(lsn + i) for i in range(count)))

    async def read_from(self, lsn: Lsn, *, chain: bytes | None = None) -> AsyncIterator[Slot]:
        """Slots from `lsn` to the end, in order: a list, parallel reads of what it names, then of what came since.

        `chain` is the digest of slot lsn - 1 where the caller knows it. That the end is an end, and not a slot folded
        away, the caller checks: HEAD's `garbage` must not be above it.

        Raises:
            CorruptionError: as read; also when a slot does not continue the one before.
        """
        async for looks in self.look_from(lsn):
            for look in looks:
                if look.slot is not None:
                    check_chain(look.slot, chain, self.key(look.slot.lsn))
                    yield look.slot
                    chain = look.slot.digest

    async def look_from(self, lsn: Lsn) -> AsyncIterator[list[Look]]:
        """What `read_from` reads, in groups read at once; only the very last look is at no slot."""
        async for count in self._groups(lsn):
            found = await asyncio.gather(*(self.look(lsn + i) for i in range(count)), return_exceptions=True)
            looks = _until_none(list(_until_failure(found)))
            if looks:
                yield looks
                if looks[-1].slot is None:
                    return  # the end; or a gap: what was listed is folded away or lost
            for each in found:
                if isinstance(each, BaseException):
                    raise each  # now, that is after what comes before it
            lsn += count

    async def _groups(self, lsn: Lsn) -> AsyncIterator[int]:
        """How many slots to read at once, from `lsn` on, without end: of those that are listed READ_BYTES_AT_ONCE, or
        one, and with the last of them the one after, which saves the round that would ask for it alone. Then ever
        more, lest the log grow as fast as it is read."""
        count = size = 0
        async for info in self.slots(self.key(lsn - 1)):
            if count and (count == READS_AT_ONCE or size + info.size > READ_BYTES_AT_ONCE):
                yield count
                count = size = 0
            count, size = count + 1, size + info.size
        if count:
            yield count + 1
        count = 1
        while True:
            yield count
            count = min(2 * count, GROWN_READS_MAX)

    async def exists_after(self, lsn: Lsn) -> bool:
        """Whether the store lists any slot above `lsn`."""
        async for _ in self.slots(self.key(lsn)):
            return True
        return False

    async def slots(self, start_after: str | None = None) -> AsyncIterator[ObjectInfo]:
        """The slots that the store lists, in order. What others put among them is no slot, and none is missing before
        it."""
        async for info in self.store.list_from(f"{self.prefix}/wal/", start_after):
            if lsn_of(self.prefix, info.key) is not None:
                yield info


def _until_failure(found: Sequence[Look | BaseException]) -> Iterator[Look]:
    for each in found:
        if isinstance(each, BaseException):
            return
        yield each


def _until_none(looks: list[Look]) -> list[Look]:
    """Up to the first at no slot."""
    end = next((i for i, look in enumerate(looks) if look.slot is None), len(looks))
    return looks[: end + 1]


def check_chain(slot: Slot, chain: bytes | None, name: str) -> None:
    """Raises CorruptionError if `slot` was put by a node that had another slot before it (None: not known here)."""
    if chain is not None and slot.prev_hash != chain:
        raise CorruptionError(
            f"it continues a slot of digest {slot.prev_hash.hex()}, the one before it has {chain.hex()}", key=name
        )
