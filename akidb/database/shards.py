"""The shards of a collection: made before anything names it, and opened together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from uuid import UUID

from akidb.collection import Shard, Workers, shard_uuid
from akidb.config import Settings
from akidb.database.catalogue import TENANT, Created, shard_prefix
from akidb.manifest import Head, HeadStore
from akidb.storage.object_store import ObjectStore


async def lay_down(store: ObjectStore, collection: UUID, heads: Sequence[Head | None]) -> None:
    """Puts each shard's HEAD, before anything names the collection; None is that of an empty one."""
    await asyncio.gather(
        *(
            HeadStore(store, shard_prefix(TENANT, collection, number), shard_uuid(collection, number)).create(head)
            for number, head in enumerate(heads)
        )
    )


def shards_of(created: Created, store: ObjectStore, settings: Settings, workers: Workers) -> list[Shard]:
    """Not opened; nothing is asked of the store."""
    uuid, spec = created.uuid, created.spec()
    return [
        Shard(store, shard_uuid(uuid, number), shard_prefix(TENANT, uuid, number), spec, settings, workers)
        for number in range(created.shard_count)
    ]


async def open_all(shards: Sequence[Shard]) -> Sequence[Shard]:
    """Opens them all, or none. Raises as Shard.open."""
    outcomes = await asyncio.gather(*(shard.open() for shard in shards), return_exceptions=True)
    failed = next((each for each in outcomes if each is not None), None)
    if failed is not None:
        await asyncio.gather(*(shard.close() for shard in shards))  # those that opened fetch in the background
        raise failed
    return shards
