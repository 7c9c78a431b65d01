"""What callers of HeadStore.swap were told, beside what the bucket took: each lands once, and who made it knows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from unittest.mock import patch
from uuid import UUID

from akidb.codec import frame
from akidb.codec.frame import KIND_CATALOGUE_HEAD, KIND_HEAD
from akidb.manifest import Head, HeadStore, decode_head
from tests.simulation.bucket import Bucket

Change = Callable[[Head], Head | None]


@dataclass
class Swap:
    """One call: the commits it made, and what it told. `told` is that HEAD's commit, None: another was first."""

    commits: list[UUID] = field(default_factory=list)
    told: UUID | None = None
    ended: bool = False


@contextmanager
def watched() -> Iterator[list[Swap]]:
    """Notes every swap; one that raises was not decided, which is no answer."""
    swaps: list[Swap] = []
    making: dict[object, Swap] = {}
    swap, successor = HeadStore.swap, HeadStore._successor

    async def watched_swap(self: HeadStore, change: Change) -> Head | None:
        def of_this_call(head: Head) -> Head | None:
            return change(head)

        noted = making[of_this_call] = Swap()
        swaps.append(noted)
        head = await swap(self, of_this_call)
        noted.told, noted.ended = None if head is None else head.commit_id, True
        return head

    def watched_successor(self: HeadStore, head: Head, change: Change) -> Head | None:
        new = successor(self, head, change)
        if new is not None:
            making[change].commits.append(new.commit_id)
        return new

    with patch.object(HeadStore, "swap", watched_swap), patch.object(HeadStore, "_successor", watched_successor):
        yield swaps


def judge(swaps: list[Swap], bucket: Bucket) -> None:
    """Raises AssertionError if what was told is not what became of it."""
    landed: Counter[UUID] = Counter()
    for key, bodies in bucket.heads.items():
        kind = KIND_CATALOGUE_HEAD if "/cat/" in key else KIND_HEAD
        for body in bodies:
            shard = frame.decode(body, kind=kind, name=key).uuid
            landed[decode_head(body, shard=shard, name=key, kind=kind).commit_id] += 1
    for swap in swaps:
        there = [commit for commit in swap.commits if landed[commit]]
        assert len(there) <= 1, f"a swap landed {len(there)} times: {there}"
        assert max((landed[commit] for commit in swap.commits), default=0) <= 1, f"{there} landed twice"
        if swap.ended:
            assert there == ([] if swap.told is None else [swap.told]), (
                f"a swap was told {swap.told}, and {there} is there"
            )
