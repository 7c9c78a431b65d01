"""Garbage of one shard, on stores that delete under a lock: folded slots, and objects that no HEAD names any more."""

from __future__ import annotations

from dataclasses import replace

from akidb.manifest import FOLDERS, Head, HeadStore, is_object
from akidb.wal.log import Log


async def collect(log: Log, heads: HeadStore, *, dropped: bool = False) -> int:
    """Deletes the slots below HEAD's `folded` and the objects beside the log that neither it nor a snapshot names;
    returns how many.

    What others put there stays: `akidb fsck` names it. Of a collection that is `dropped`, gone for good, what HEAD
    names goes as well, but for what clones need.

    HEAD's `garbage` says so first, by compare-and-swap, all under the shard's exclusive lock: whoever puts a slot, or
    puts an object and then names it, holds the shared one from before the put, so nothing half-way is taken for
    garbage. Does nothing on a store without such a lock. May be called again after dying anywhere in between.

    Raises:
        UnavailableError: the store; calling again goes on.
    """
    store = log.store
    if not store.can_delete:
        return 0
    async with store.lock(log.prefix, exclusive=True):
        head = await heads.swap(_raised) or (await heads.read())[0]
        doomed = []
        async for info in log.slots():
            if info.key >= log.key(head.garbage):
                break
            doomed.append(info.key)
        kept = await heads.manifests.keys(head.of_dropped() if dropped else head)
        for folder in FOLDERS:
            listed = [info.key async for info in store.list_from(f"{log.prefix}/{folder}/")]
            doomed += [key for key in listed if key not in kept and is_object(key)]
        await store.delete_many(doomed)
    return len(doomed)


def _raised(head: Head) -> Head | None:
    return replace(head, garbage=head.folded) if head.garbage < head.folded else None
