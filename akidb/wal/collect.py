"""Garbage of one shard, on stores that delete under a lock: folded slots, and objects that no HEAD names any more."""

from __future__ import annotations

from dataclasses import replace

from akidb.manifest import Head, HeadStore
from akidb.wal.log import Log


async def collect(log: Log, heads: HeadStore) -> int:
    """Deletes the slots below HEAD's `folded` and the objects beside the log that it does not name; returns how many.

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
        async for info in store.list_from(f"{log.prefix}/wal/"):
            if info.key >= log.key(head.garbage):
                break
            doomed.append(info.key)
        named = {key for ref in head.segments for key in (ref.key, ref.deletes_key)}
        named |= {ref.key(log.prefix) for ref in head.requests}
        for folder in ("seg", "del", "req"):
            doomed += [info.key async for info in store.list_from(f"{log.prefix}/{folder}/") if info.key not in named]
        await store.delete_many(doomed)
    return len(doomed)


def _raised(head: Head) -> Head | None:
    return replace(head, garbage=head.folded) if head.garbage < head.folded else None
