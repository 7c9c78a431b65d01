"""One shard: its state kept in step with its log, in memory and on the store.

Opening reads HEAD, opens the segments it names and applies the log from HEAD's `folded` on until a slot is not there.
The same is done again whenever another node's fold moved HEAD past what this node holds: there is one way to a state,
not two.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar
from uuid import UUID

from akidb.collection.fetching import Fetching
from akidb.collection.freshness import suffices
from akidb.collection.opening import Opener
from akidb.collection.pinned import Pinned
from akidb.collection.polling import Polling
from akidb.collection.remote import RemoteShard
from akidb.collection.requests import open_requests
from akidb.collection.state import ShardState
from akidb.collection.workers import INLINE_ROWS, Workers, aside
from akidb.config import Settings
from akidb.errors import AkiDBError, CorruptionError, DeadlineExceededError, NotFoundError, UnavailableError
from akidb.manifest import Head, HeadStore
from akidb.query import SearchQuery, Snapshot, serves
from akidb.storage.object_store import ObjectStore
from akidb.telemetry.tracing import span
from akidb.types import CollectionSpec, Consistency, Lsn, ScoredPoint
from akidb.wal import Appender, Check, Log, Operation, Slot

T = TypeVar("T")

PINNED_MAX = 4
"""Snapshots that stay open for the next read as of one."""

LOOK_SECS = 10.0
"""How long following the log may take where nobody waits for it."""

SESSION_LOOK_SECS_MIN, SESSION_LOOK_SECS_MAX = 0.05, 1.0
"""Pauses between looks for a write that a session knows of and the log does not hold yet."""


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
        self.remote: RemoteShard | None = None
        self.opener = Opener(store, workers, spec.name)
        self._fetching = Fetching(self.reload, f"collection {spec.name!r}")
        self.changing = asyncio.Lock()
        self._adopting = asyncio.Lock()
        self._pinned: dict[UUID, Pinned] = {}
        self._polling: Polling | None = None
        self.last_caught_up = -math.inf
        self.last_write = 0.0
        self.last_answer = 0.0
        self._log_damage: CorruptionError | None = None
        self.follow_spec: Callable[[], Awaitable[None]] = _nothing
        """Looks whether another node changed the index parameters, and has them taken."""
        self.release: Callable[[], Awaitable[None]] = _nothing
        """Takes what HEAD keeps for clones that do not need it any more out of HEAD."""
        self.on_applied: Callable[[Slot], None] = lambda slot: None
        self.on_adopted: Callable[[], None] = lambda: None
        self.on_damage: Callable[[CorruptionError], None] = lambda error: None
        """To be told of damage that was met; from any thread."""

    async def open(self) -> None:
        """Reads HEAD, opens what it names and applies the log's tail; or leaves both to `warm`, and to searches that do
        without, where large segments are not on this machine."""
        self._polling = Polling(self._look, self.settings.query.tail_poll_ms / 1000)
        head, _ = await self.heads.read()
        if not await self._is_remote(head):
            await self._adopt(head)
            return
        self.remote = RemoteShard(self.store, self.heads, self.log, self.spec, head, self.opener.segment)
        if sum(ref.bytes for ref in head.segments) <= self.settings.cache.hot_size_gb * (1 << 30):
            self.fetch_soon()

    async def _is_remote(self, head: Head) -> bool:
        large = [ref for ref in head.segments if ref.coarse_bytes]
        return not all(await asyncio.gather(*(self.store.has_local(ref.key) for ref in large)))

    async def warm(self, *, deadline: float) -> None:
        """Returns when the segments are on this machine and the state is whole.

        Raises:
            CorruptionError, UnavailableError: why they cannot be fetched.
            DeadlineExceededError: `warming`: they were not fetched by `deadline` (time.monotonic() seconds).
        """
        if self._state is None:
            await self._fetching.wait(deadline)

    def fetch_soon(self) -> None:
        """Fetches the segments in the background, if they are not here."""
        if not self.is_warm:
            self._fetching.begin_soon()

    async def search_remote(
        self, queries: Sequence[SearchQuery], consistency: Consistency, *, deadline: float, wanted: Lsn = 0
    ) -> list[list[ScoredPoint]] | None:
        """Answers by reading ranges of segments that are not here; None if they are, or must be for these queries. A
        session asks for slot `wanted`.

        Raises as `catch_up`, and CorruptionError.
        """
        near, filtered = serves(queries), all(query.filter is not None for query in queries)
        if not (near or filtered):
            return None
        run = partial(self.workers.run, self.workers.search)

        def ask(
            remote: RemoteShard, follow: Callable[[], Awaitable[None]]
        ) -> Awaitable[list[list[ScoredPoint]] | None]:
            search = remote.search if near else remote.search_filtered
            return search(queries, follow, deadline=deadline, run=run)

        return await self._ask_remote(ask, consistency, deadline, wanted)

    async def snapshot_remote(
        self,
        ids: Sequence[str] | None,
        consistency: Consistency,
        *,
        deadline: float,
        wanted: Lsn = 0,
        with_vector: bool = True,
    ) -> Snapshot | None:
        """A snapshot to `get` these points of, or, of None, to count in, read by ranges; None as `search_remote`."""
        run = partial(self.workers.run, self.workers.search)

        def ask(remote: RemoteShard, follow: Callable[[], Awaitable[None]]) -> Awaitable[Snapshot | None]:
            return remote.snapshot(ids, follow, run=run, with_vector=with_vector)

        return await self._ask_remote(ask, consistency, deadline, wanted)

    async def _ask_remote(
        self,
        ask: Callable[[RemoteShard, Callable[[], Awaitable[None]]], Awaitable[T | None]],
        consistency: Consistency,
        deadline: float,
        wanted: Lsn,
    ) -> T | None:
        remote = self.remote
        if remote is None or self.is_warm:
            return None
        self._refuse_sealed()
        self._note_read(consistency)

        def position() -> tuple[Lsn, float]:
            return remote.state.applied, remote.caught_up

        async def follow() -> None:
            if consistency.mode == "eventual" and remote.caught_up == -math.inf:
                await remote.follow()  # what this node has is nothing yet
            await self._reach(consistency, wanted, deadline, position, remote.follow)

        segments = len(remote.head.segments)
        with self._fetching.left_to_it(), span("search_remote", collection__name=self.spec.name, segments=segments):
            found = await self._in_time(ask(remote, follow), deadline)
        self._refuse_sealed()
        return found

    async def _in_time(self, work: Awaitable[T], deadline: float) -> T:
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                return await work
        except TimeoutError as late:
            if isinstance(late, AkiDBError):
                raise
            raise DeadlineExceededError(f"{self.store.location} did not answer in time") from None

    async def close(self) -> None:
        """Stops fetching, and decides the writes under way."""
        await self._fetching.close()
        if self._polling is not None:
            await self._polling.close()
        if self.remote is not None:
            await self.remote.close()
        await self.appender.close()

    @property
    def state(self) -> ShardState:
        assert self._state is not None, "the shard's segments were not opened"
        return self._state

    @property
    def is_warm(self) -> bool:
        """Whether the segments are on this machine and open."""
        return self._state is not None

    @property
    def known(self) -> ShardState:
        """The state, or what is known without the segments: the end of the log, whether it is sealed."""
        if self._state is None and self.remote is not None:
            return self.remote.state
        return self.state

    # What akidb.wal.State asks for.

    @property
    def applied(self) -> Lsn:
        return self.known.applied

    @property
    def chain(self) -> bytes:
        return self.state.chain

    async def apply(self, slot: Slot) -> None:
        try:
            reverted = await self._reverted(slot)
        except CorruptionError:
            # Once a fold took a revert into HEAD, what it goes back to may be dropped and collected: a node that comes
            # to the slot later goes on from HEAD.
            head, _ = await self.heads.read()
            if head.folded <= slot.lsn:
                raise
            await self._adopt(head)
            return
        async with self.changing:
            if slot.lsn <= self.state.applied:
                return  # adopting a newer HEAD read it already
            if reverted is None:
                await self.change(partial(self.state.apply, slot), rows=slot.rows)
            else:
                self._state = reverted.after(self.state, slot)
        self.last_write = time.monotonic()
        self.on_applied(slot)

    async def change(self, call: Callable[[], T], *, rows: int) -> T:
        """Makes a call that changes the state, for a holder of `changing`. One that looks at many rows is made in a
        thread, and readers get the snapshot from before it meanwhile."""
        if rows > INLINE_ROWS:
            self.state.snapshot()
        return await aside(call, rows=rows)

    async def reload(self) -> None:
        """Jumps to the store's HEAD, because slots that this node would have to read next are gone."""
        head, _ = await self.heads.read()
        await self._adopt(head)

    async def renew(self) -> None:
        """Makes the state anew: what was made with a damaged segment may be wrong, and its file is another one now."""
        self._pinned.clear()
        if self.is_warm:
            await self.reload()
        elif self.remote is not None:
            await self.remote.renew()

    @property
    def damage(self) -> CorruptionError | None:
        """What is wrong with an object that the shard needs, if that is known."""
        found = next((each.damage for each in self.opener.opened if each.damage is not None), None)
        return found or self._fetching.damage or self._log_damage

    async def refresh(self) -> None:
        """Looks whether another node changed HEAD, and follows it."""
        head, _ = await self.heads.read()
        present = self.state.head
        if head.version <= present.version:
            return
        if (head.folded, head.segments) != (present.folded, present.segments):
            await self._adopt(head)
        else:
            self.state.take_head(head)

    async def pinned(self, uuid: UUID, epoch: int) -> Pinned:
        """The snapshot whose manifest is `uuid`, opened. Raises CorruptionError, UnavailableError."""
        found = self._pinned.pop(uuid, None)
        if found is None:
            manifest = await self.heads.manifests.read(uuid, epoch)
            found = Pinned(manifest, tuple(await self.opener.segments(manifest)))
        self._pinned[uuid] = found
        while len(self._pinned) > PINNED_MAX:
            del self._pinned[next(iter(self._pinned))]
        return found

    async def _reverted(self, slot: Slot) -> Pinned | None:
        """What the slot reverts to, if it does."""
        if slot.revert is None:
            return None
        _, revert = slot.revert
        return await self.pinned(revert.uuid, revert.epoch)

    async def take_spec(self, spec: CollectionSpec) -> None:
        """Goes on with other index parameters."""
        async with self.changing:
            self.spec = spec
            if self._state is not None:
                self._state.take_spec(spec)
            if self.remote is not None:
                await self.remote.take_spec(spec)
        if self.is_warm:
            self.on_adopted()

    async def _adopt(self, head: Head) -> None:
        """Takes the state that HEAD and the log tell, unless the present one is newer."""
        newer: Head | None = head
        async with self._adopting:
            while newer is not None:
                newer = await self._take(newer)
        self.remote = None
        self.on_adopted()

    async def _take(self, head: Head) -> Head | None:
        """Builds the state from `head` and takes it once it is not behind the present one.

        Returns a newer HEAD if what `head` needs was folded away and collected under our hands.
        """
        try:
            opened = {} if self._state is None else self._state.requests.folded
            requests = await open_requests(self.store, self.prefix, head.requests, opened)
            state = ShardState(self.spec, head, await self.opener.segments(head), requests)
            while True:
                before, known = state.applied, 0 if self._state is None else self._state.applied
                began = time.monotonic()
                state = await self._read_tail(state)
                newest, _ = await self.heads.read()
                # Without locks a slot may have been created again; what HEAD says may be gone decides of all that were
                # read. With them only the end may have been taken for one.
                if newest.garbage > (state.applied if self.store.can_delete else before) + 1:
                    return newest
                async with self.changing:
                    present = self._state
                    if present is not None and present.head.version > head.version:
                        return None
                    if present is None or present.applied <= state.applied:
                        if state.spec is not self.spec:  # altered while it was built
                            state.take_spec(self.spec)
                        self._state, self.last_caught_up = state, max(self.last_caught_up, began)
                        return None
                if state.applied == before < known:
                    key = self.log.key(before + 1)
                    raise CorruptionError("the slot was applied, now it is missing", key=key)
        except CorruptionError:
            newest, _ = await self.heads.read()
            if newest.version == head.version:
                raise
            return newest

    async def _read_tail(self, state: ShardState) -> ShardState:
        async for slot in self.log.read_from(state.applied + 1, chain=state.chain):
            reverted = await self._reverted(slot)
            if reverted is not None:
                state = reverted.after(state, slot)
            elif slot.rows > INLINE_ROWS:
                await asyncio.to_thread(state.apply, slot)
            else:
                state.apply(slot)
                await asyncio.sleep(0)  # slots come up to 64 at a time; together they would hold up the event loop
        return state

    async def append(
        self,
        operations: Sequence[Operation],
        *,
        deadline: float,
        check: Check | None = None,
        exact: bool = False,
        uuid: UUID | None = None,
    ) -> Lsn:
        """Puts operations into the log as one batch, `uuid`; returns the LSN when they are durable and applied here.

        `check` runs before each put; with `exact` nothing lies between the state it sees and the batch.
        """

        def still_there() -> Awaitable[None] | None:
            self._refuse_sealed()
            return None if check is None else check()

        await self.warm(deadline=deadline)
        self._refuse_sealed()
        with self._noting_damage():
            lsn = await self.appender.append(operations, deadline=deadline, check=still_there, exact=exact, uuid=uuid)
        self.last_answer = time.monotonic()
        return lsn

    async def catch_up(self, consistency: Consistency, *, deadline: float, wanted: Lsn = 0) -> None:
        """Brings the state to what `consistency` asks for, with no request to the store where it is there already. A
        session asks for slot `wanted`.

        Raises:
            DeadlineExceededError: the store did not answer, or (`session_not_reached`) the log did not reach the
                session's write.
        """
        self._refuse_sealed()
        self._note_read(consistency)
        await self.warm(deadline=deadline)
        follow = partial(self._catch_up, deadline)
        await self._reach(consistency, wanted, deadline, lambda: (self.applied, self.last_caught_up), follow)

    async def _reach(
        self,
        consistency: Consistency,
        wanted: Lsn,
        deadline: float,
        position: Callable[[], tuple[Lsn, float]],
        follow: Callable[[], Awaitable[None]],
    ) -> None:
        """Has the log followed until `position`, the last slot applied and when it was the log's end, suffices."""
        pause = SESSION_LOOK_SECS_MIN
        while not suffices(consistency, wanted, *position()):
            await follow()
            applied, _ = position()
            if applied >= wanted:
                return
            # Tokens are of acknowledged writes, so what this store's log lacks is on its way to it, or lost with it.
            if time.monotonic() + pause >= deadline:
                msg = f"the session is of slot {wanted}, the log ends at {applied}: it was not there in time"
                raise DeadlineExceededError(msg, code="session_not_reached")
            await asyncio.sleep(pause)
            pause = min(2 * pause, SESSION_LOOK_SECS_MAX)

    async def _catch_up(self, deadline: float) -> None:
        began = time.monotonic()
        try:
            with self._noting_damage():
                await self.appender.catch_up(deadline=deadline)
        except UnavailableError:
            self._refuse_sealed()  # the drop closed the log under this reader
            raise
        self.last_caught_up, self.last_answer = began, time.monotonic()
        self._refuse_sealed()

    @contextlib.contextmanager
    def _noting_damage(self) -> Iterator[None]:
        try:
            yield
        except CorruptionError as damage:
            self._log_damage = damage
            raise
        self._log_damage = None

    def snapshot_now(self, consistency: Consistency, wanted: Lsn = 0) -> Snapshot | None:
        """A snapshot that `consistency` allows, if there is one that needs no waiting and no change of the state. A
        session asks for slot `wanted`.

        Any thread may ask, while the event loop applies, folds and adopts: a snapshot never changes, and the log ending
        with the snapshot's last slot after this call began proves that it holds all that was acknowledged before.
        """
        # The order matters: a snapshot is no older than the catching up before it, and one that has the seal in it is
        # of a state that says so afterwards.
        caught_up, state = self.last_caught_up, self._state
        snapshot = None if state is None else state.latest
        if state is None or snapshot is None or state.sealed or snapshot.lsn < wanted:
            return None
        if suffices(consistency, wanted, snapshot.lsn, caught_up) or self.appender.ends_at(snapshot.lsn):
            self._note_read(consistency)
            return snapshot
        return None

    def _note_read(self, consistency: Consistency) -> None:
        if consistency.mode in ("bounded", "eventual") and self._polling is not None:
            self._polling.note_read()

    async def _look(self) -> None:
        """Follows the log for those who do not ask for it themselves."""
        if self.known.sealed:
            return
        if self._state is None and self.remote is not None:
            await self.remote.follow()
        else:
            await self._catch_up(time.monotonic() + LOOK_SECS)

    @property
    def caught_up(self) -> float:
        """All that the log held at this time (time.monotonic() seconds) is known here; -inf: it was not read."""
        if self._state is None and self.remote is not None:
            return self.remote.caught_up
        return self.last_caught_up

    def _refuse_sealed(self) -> None:
        if self.known.sealed:
            raise NotFoundError(f"collection {self.spec.name!r} was dropped", code="collection_not_found")


async def _nothing() -> None:
    """Where no catalogue knows of the shard."""
