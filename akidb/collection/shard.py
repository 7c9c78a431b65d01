"""One shard: its state kept in step with its log, in memory and on the store.

Opening reads HEAD, opens the segments it names and applies the log from HEAD's `folded` on until a slot is not there.
The same is done again whenever another node's fold moved HEAD past what this node holds: there is one way to a state,
not two.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from akidb.collection.state import LiveSegment, ShardState
from akidb.config import Settings
from akidb.errors import CorruptionError, NotFoundError
from akidb.manifest import Head, HeadStore, SegmentRef
from akidb.segment import Segment, decode_deletes
from akidb.storage.object_store import ObjectStore
from akidb.telemetry.tracing import span
from akidb.types import CollectionSpec, Consistency, Lsn
from akidb.wal import Appender, Log, Operation, Slot


@dataclass(frozen=True)
class Workers:
    """The threads that work for every collection of a database: those that answer, and those for what takes long."""

    search: ThreadPoolExecutor
    background: ThreadPoolExecutor

    @classmethod
    def start(cls) -> Workers:
        cores = os.cpu_count() or 1
        return cls(ThreadPoolExecutor(cores + 2, "akidb-search"), ThreadPoolExecutor(2, "akidb-background"))

    def close(self) -> None:
        self.search.shutdown(wait=True, cancel_futures=True)
        self.background.shutdown(wait=True, cancel_futures=True)


class Shard:
    """The log, HEAD and state of one collection shard on this node."""

    def __init__(
        self, store: ObjectStore, uuid: UUID, prefix: str, spec: CollectionSpec, settings: Settings, workers: Workers
    ) -> None:
        self.store = store
        self.uuid = uuid
        self.prefix = prefix
        self.spec = spec
        self.settings = settings
        self.workers = workers
        self.heads = HeadStore(store, prefix, uuid, retry=settings.storage.manifest_retry)
        self.log = Log(store, prefix, uuid)
        self.appender = Appender(self.log, self, self.heads, settings)
        self._state: ShardState | None = None
        self.last_caught_up = 0.0
        self.last_write = 0.0
        self.last_answer = 0.0
        self.on_applied: Callable[[Slot], None] = lambda slot: None

    async def open(self) -> None:
        """Reads HEAD, opens what it names and applies the log's tail."""
        await self.reload()

    @property
    def state(self) -> ShardState:
        assert self._state is not None, "the shard was not opened"
        return self._state

    # What akidb.wal.State asks for.

    @property
    def applied(self) -> Lsn:
        return self.state.applied

    @property
    def chain(self) -> bytes:
        return self.state.chain

    def apply(self, slot: Slot) -> None:
        if slot.lsn <= self.state.applied:
            return  # adopting a newer HEAD read it already
        self.state.apply(slot)
        self.last_write = time.monotonic()
        self.on_applied(slot)

    async def reload(self) -> None:
        """Jumps to the store's HEAD, because slots that this node would have to read next are gone."""
        head, _ = await self.heads.read()
        await self._adopt(head)

    async def refresh(self) -> None:
        """Looks whether another node changed HEAD, and follows it."""
        head, _ = await self.heads.read()
        present = self.state.head
        if (head.folded, head.segments) != (present.folded, present.segments):
            await self._adopt(head)
        elif head.version > present.version:
            self.state.head = head

    async def _adopt(self, head: Head) -> None:
        """Builds the state that HEAD and the log tell, and takes it when it is not behind the present one."""
        while True:
            try:
                state = ShardState(self.spec, head, await self._open_segments(head))
                await self._read_tail(state)
            except CorruptionError:
                newest, _ = await self.heads.read()
                if newest.version == head.version:
                    raise
                head = newest  # what it named was folded away and collected under our hands
                continue
            newest, _ = await self.heads.read()
            if newest.garbage > state.applied + 1:
                head = newest
                continue
            while self._state is not None and state.applied < self._state.applied:
                await self._read_tail(state)
            self._state = state
            return

    async def _read_tail(self, state: ShardState) -> None:
        async for slot in self.log.read_from(state.applied + 1, chain=state.chain):
            state.apply(slot)

    async def _open_segments(self, head: Head) -> list[LiveSegment]:
        present = {} if self._state is None else {part.ref.uuid: part.reader for part in self._state.segments}
        return list(await asyncio.gather(*(self.open_segment(ref, present.get(ref.uuid)) for ref in head.segments)))

    async def open_segment(self, ref: SegmentRef, reader: Segment | None = None) -> LiveSegment:
        """Opens the object (or takes its open reader) and its deletes. CorruptionError names what is damaged."""
        loop = asyncio.get_running_loop()
        if reader is None:
            with span("load_segment", collection__name=self.spec.name):
                path = await self.store.local_path(ref.key)
                if path is None:
                    raise CorruptionError(f"object {ref.key}: HEAD names this segment, the store does not have it")
                reader = await loop.run_in_executor(self.workers.background, _open, path, ref.key)
        live = None
        if ref.deletes_key is not None:
            reply = await self.store.get(ref.deletes_key)
            if not reply.ok:
                raise CorruptionError(
                    f"object {ref.deletes_key}: HEAD names these deletes, the store does not have them"
                )
            live = decode_deletes(reply.body, rows=reader.rows, name=ref.deletes_key)
        return LiveSegment(ref, reader, live)

    async def append(
        self,
        operations: Sequence[Operation],
        *,
        deadline: float,
        check: Callable[[], None] | None = None,
        exact: bool = False,
    ) -> Lsn:
        """Puts operations into the log as one batch; returns the LSN when they are durable and applied here.

        `check` runs before each put; with `exact` nothing lies between the state it sees and the batch.
        """

        def still_there() -> None:
            if self.state.sealed:
                raise NotFoundError(f"collection {self.spec.name!r} was dropped", code="collection_not_found")
            if check is not None:
                check()

        lsn = await self.appender.append(list(operations), deadline=deadline, check=still_there, exact=exact)
        self.last_answer = time.monotonic()
        return lsn

    async def catch_up(self, consistency: Consistency, *, deadline: float) -> None:
        """Brings the state to what `consistency` asks for, with no request to the store where it is there already."""
        age = time.monotonic() - self.last_caught_up
        enough = (
            consistency.mode == "eventual"
            or (consistency.mode == "session" and self.applied >= consistency.lsn)
            or (consistency.mode == "bounded" and age < consistency.bounded_ms / 1000)
        )
        if not enough:
            began = time.monotonic()
            await self.appender.catch_up(deadline=deadline)
            self.last_caught_up, self.last_answer = began, time.monotonic()
        if self.state.sealed:
            raise NotFoundError(f"collection {self.spec.name!r} was dropped", code="collection_not_found")


def _open(path: Path, name: str) -> Segment:
    return Segment.open(path, name=name)
