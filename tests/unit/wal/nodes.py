"""Nodes over one store: the smallest state there can be, and an appender on it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from uuid import UUID

import numpy as np

from akidb.config.settings import Retry, Settings, Storage, Wal
from akidb.manifest import HeadStore
from akidb.storage.memory import MemoryStore
from akidb.storage.object_store import ObjectStore
from akidb.wal import CHAIN_START, Appender, Delete, Entry, Log, Patch, Seal, Slot, Upsert
from tests.unit.stores import FaultyStore

PREFIX = "t/0/c/1/0000"
SHARD = UUID(int=9)

FOREIGN = (
    "Readme.TXT", "zz", "ffffffffffffg", "ffffffffffffffff", "0000000000000/Readme.TXT", "0000000000000/zz",
    "0000000000000/000000000000000g", "0000000000000/FFFFFFFFFFFFFFFF", "0000000000009/0000000000000001",
    "0000000000000/0000000000000002.bak", "0000000000000/0000000000000002/2",
)  # fmt: skip
"""Names below `wal/` that no slot has; some sort before slots, some behind, some between."""


async def put_foreign(store: FaultyStore, *names: str) -> None:
    """Objects under keys that no store of ours would take, as other programs put them into a bucket."""
    assert isinstance(store.inner, MemoryStore)
    for name in names:
        store.inner._set(f"{PREFIX}/{name}", b"x")


class Points:
    """What the log says, as a dictionary of id to (vector, payload), and the texts of its entries in order."""

    def __init__(self) -> None:
        self.applied = 0
        self.chain = CHAIN_START
        self.points: dict[str, tuple[tuple[float, ...], bytes | None]] = {}
        self.entries: list[bytes] = []
        self.at: dict[bytes, int] = {}
        self.batches: list[UUID] = []
        self.sealed = False
        self.reloads = 0
        self.source: Points | None = None

    async def apply(self, slot: Slot) -> None:
        assert slot.lsn == self.applied + 1
        assert slot.prev_hash == self.chain
        for batch in slot.batches:
            if batch.uuid in self.batches:
                continue
            self.batches.append(batch.uuid)
            for operation in batch.operations:
                match operation:
                    case Upsert(ids, vectors, payloads):
                        for id_, vector, payload in zip(ids, vectors.tolist(), payloads, strict=True):
                            self.points[id_] = (tuple(vector), payload)
                    case Delete(ids):
                        for id_ in ids:
                            self.points.pop(id_, None)
                    case Patch(ids, patches):
                        for id_, patch in zip(ids, patches, strict=True):
                            if id_ in self.points:
                                self.points[id_] = (self.points[id_][0], patch)
                    case Entry(json):
                        self.entries.append(json)
                        self.at[json] = slot.lsn
                    case Seal():
                        self.sealed = True
        self.applied = slot.lsn
        self.chain = slot.digest

    async def reload(self) -> None:
        """Jumps to where `source` (who folded) is: a segment's worth of state, without segments."""
        assert self.source is not None
        self.reloads += 1
        for name in ("applied", "chain", "sealed"):
            setattr(self, name, getattr(self.source, name))
        self.points, self.at = dict(self.source.points), dict(self.source.at)
        self.entries, self.batches = list(self.source.entries), list(self.source.batches)


class Node:
    """A state, its log, HEAD and appender. Pauses between attempts are a millisecond at most."""

    def __init__(self, store: ObjectStore, *, commit_interval_ms: int = 0) -> None:
        settings = Settings(
            storage=Storage(retry=Retry(initial_backoff_ms=1, max_backoff_ms=1)),
            wal=Wal(commit_interval_ms=commit_interval_ms),
        )
        self.state = Points()
        self.heads = HeadStore(store, PREFIX, SHARD)
        self.log = Log(store, PREFIX, SHARD)
        self.appender = Appender(self.log, self.state, self.heads, settings)

    @classmethod
    async def start(cls, store: ObjectStore) -> Node:
        node = cls(store)
        await node.heads.create()
        return node

    async def say(self, text: str, *, seconds: float = 30.0, **how: object) -> int:
        return await self.appender.append([Entry(text.encode())], deadline=soon(seconds), **how)  # type: ignore[arg-type]

    async def heard(self) -> list[bytes]:
        await self.appender.catch_up(deadline=soon())
        return self.state.entries


def soon(seconds: float = 30.0) -> float:
    return time.monotonic() + seconds


async def until(condition: Callable[[], bool]) -> None:
    """Lets others have their turns until `condition`, which only the component under test can make true."""
    while not condition():  # noqa: ASYNC110 - the components have no event for it, and need none
        await asyncio.sleep(0)


def upsert(*ids: str, value: float = 1.0, dim: int = 3) -> Upsert:
    return Upsert(list(ids), np.full((len(ids), dim), value, np.float32), [None] * len(ids))
