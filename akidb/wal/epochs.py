"""Garbage of one shard on stores without locks, such as S3: what nothing names, told by epochs instead of clocks.

HEAD's `gc_epoch` E stands in the key of every object as its maker knew it, and HEAD takes a new object only while its
own epoch is at most EPOCHS_OPEN more. So once E was raised, whatever is older than that by its key and is named by
neither HEAD nor a snapshot never will be, however long a node stood still: no node's clock takes part. `collected` only
keeps the rounds apart, so that jobs have that long for their work. tests/model/test_epochs.py visits all states.

Folded slots go as well. A round says in HEAD that they may be gone (`garbage`), the next remembers when HEAD said so
by the store's clock (`settled`, `collected`), and a round SETTLED_SECS after that deletes them, lowest first. Meanwhile
every node that uses an answer about a slot has looked at HEAD (HeadStore.vouches). How old a slot is does not matter.

A reader that still goes by an older HEAD may find an object gone; it looks at HEAD again, as it does after any fold.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from akidb.errors import CorruptionError
from akidb.manifest import EPOCHS_OPEN, FOLDERS, Head, HeadStore, epoch_of
from akidb.manifest.store import SETTLED_SECS
from akidb.storage.object_store import ObjectInfo
from akidb.telemetry.metrics import METRICS
from akidb.wal.log import Log, lsn_of

REFUSED_SHARE, REFUSED_BYTES_MIN = 0.5, 64 << 20
"""A round that would delete more than this share, and at least so many bytes, is left to a human."""


@dataclass(frozen=True, slots=True)
class Collected:
    """What a round deleted, how many objects and bytes that nothing names are too young to go, and how many objects are
    left (None where it did not look); or why it deleted nothing: a word for metrics, and what was seen; or, where the
    last round was too short a time ago, in how long the next is due.
    """

    objects: int = 0
    bytes: int = 0
    young_objects: int = 0
    young_bytes: int = 0
    kept: int | None = None
    refused: str | None = None
    detail: str = ""
    due_secs: int = 0


async def collect_by_epoch(
    log: Log, heads: HeadStore, *, interval_secs: float, dropped: bool = False, force: bool = False
) -> Collected:
    """One round, if the last was at least `interval_secs` ago by the store's clock.

    Args:
        dropped: the collection is gone for good, so what its HEAD names is garbage as well, but for what clones need.
        force: delete also more than REFUSED_SHARE of the bytes.

    Raises:
        CorruptionError: HEAD is missing or damaged; nothing was deleted.
        UnavailableError: the store; the next round goes on.
    """
    seen, _ = await heads.read()
    now = max(0, int(heads.date or 0))
    if now - seen.collected < interval_secs:
        return Collected(due_secs=due_secs(seen, now, interval_secs))
    head = await heads.swap(lambda head: _raised(head, seen, now))
    if head is None:  # another node's round
        return Collected()
    named = await heads.manifests.keys(head.of_dropped() if dropped else head)
    kept = {key for key in named if heads.manifests.is_own(key)}  # the others are the business of their own shard
    stored = [info for folder in FOLDERS async for info in log.store.list_from(f"{log.prefix}/{folder}/")]
    logged = [info async for info in log.store.list_from(f"{log.prefix}/wal/")]
    foreign = _foreign(stored, logged, log.prefix)
    if foreign is not None:
        METRICS.gc_refused.labels(foreign.refused).inc()
        return foreign
    unnamed = [info for info in stored if info.key not in kept]
    garbage = [info for info in unnamed if head.gc_epoch - epoch_of(info.key) > EPOCHS_OPEN]
    refusal = _refusal(head, kept, stored, garbage, force=force or dropped)
    if refusal is not None:
        if (await heads.read())[0].gc_epoch != head.gc_epoch:  # this round took so long that another came after it
            return Collected()
        METRICS.gc_refused.labels(refusal.refused).inc()
        return refusal
    is_settled = now - seen.collected >= SETTLED_SECS
    folded = [info for info in logged if info.key < log.key(head.folded)]
    slots = [info for info in folded if is_settled and info.key < log.key(seen.settled)]
    doomed = [*slots, *garbage]
    await log.store.delete_many(info.key for info in doomed)
    going, all_going = _bytes(doomed), _bytes([*folded, *unnamed])
    young = len(folded) + len(unnamed) - len(doomed)
    done = Collected(len(doomed), going, young, all_going - going, kept=len(stored) - len(garbage))
    METRICS.gc_objects.inc(done.objects)
    METRICS.gc_bytes.inc(done.bytes)
    return done


def due_secs(head: Head, now: int, interval_secs: float) -> int:
    """Seconds until a round is due, by the store's clock."""
    return max(0, math.ceil(head.collected + interval_secs - now))


def _raised(head: Head, seen: Head, now: int) -> Head | None:
    """HEAD with a new epoch. All that was folded may be gone from here on; what HEAD said so of at `now`, when it was
    read, is settled. That the swap itself may come hours later does no harm."""
    if head.gc_epoch != seen.gc_epoch:
        return None
    return replace(head, gc_epoch=seen.gc_epoch + 1, garbage=head.folded, collected=now, settled=seen.garbage)


def _foreign(stored: Iterable[ObjectInfo], logged: Iterable[ObjectInfo], prefix: str) -> Collected | None:
    """What is not to be told garbage or not: an object that no AkiDB put. The log itself passes over those among its
    slots."""
    try:
        for info in stored:
            epoch_of(info.key)
        for info in logged:
            if lsn_of(prefix, info.key) is None:
                raise CorruptionError("AkiDB did not put it there: its name is no slot's", key=info.key)
    except CorruptionError as found:
        return Collected(refused="foreign", detail=str(found))
    return None


def _refusal(
    head: Head, kept: Iterable[str], stored: list[ObjectInfo], garbage: list[ObjectInfo], *, force: bool
) -> Collected | None:
    """What speaks against trusting that HEAD is the one that belongs to these objects."""
    missing = set(kept) - {info.key for info in stored}
    if missing:
        return Collected(refused="missing", detail=f"HEAD names {min(missing)}, which the store does not list")
    newer = next((info.key for info in stored if epoch_of(info.key) > head.gc_epoch), None)
    if newer is not None:
        return Collected(refused="older_head", detail=f"HEAD is of epoch {head.gc_epoch}, older than {newer}")
    total, going = _bytes(stored), _bytes(garbage)
    if not force and going >= REFUSED_BYTES_MIN and going > REFUSED_SHARE * total:
        return Collected(refused="share", detail=f"{going:,} of {total:,} bytes would go, which is to be forced")
    return None


def _bytes(objects: Iterable[ObjectInfo]) -> int:
    return sum(info.size for info in objects)
