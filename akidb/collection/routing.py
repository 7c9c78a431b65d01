"""Which shard of a collection holds a point, and what a shard is called."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import numpy as np
import numpy.typing as npt

from akidb.segment import id_hashes


def shard_uuid(collection: UUID, number: int) -> UUID:
    """What a shard's objects carry, so that none passes for another's: the collection's own, with the number in it."""
    return UUID(int=collection.int ^ number)


def route(ids: Sequence[str], shards: int) -> list[tuple[int, npt.NDArray[np.int64]]]:
    """The shards that hold `ids`, by number, each with the positions of its ids, rising.

    A point's shard is XXH3-64 (seed 0) of its id's UTF-8 bytes, modulo the number of shards (docs/formats/shards.md).
    """
    if not ids:
        return []
    if shards == 1:  # nothing to hash for
        return [(0, np.arange(len(ids)))]
    numbers = (id_hashes([id_.encode() for id_ in ids]) % np.uint64(shards)).astype(np.int64)
    order = np.argsort(numbers, kind="stable")
    present, starts = np.unique(numbers[order], return_index=True)
    return list(zip(present.tolist(), np.split(order, starts[1:]), strict=True))
