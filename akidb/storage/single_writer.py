"""The way out for a store that has no conditional writes: one process writes, and judges the conditions itself.

A lease object keeps others from writing at the same time, as far as it goes: whoever wants it puts it, waits, and has
it if it is still there; its owner changes it now and then; another takes it once it has not seen it change for
EXPIRY_SECS by its own clock (Fischer's algorithm, after Lamport, "A fast mutual exclusion algorithm", 1987). That is
no fence. An owner that stands still between its look at the lease and its put, or a put that the network delivers late,
overwrites what another wrote meanwhile. Only the store itself could refuse that, by conditions that it does not have.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from contextvars import Context
from uuid import UUID, uuid4
from weakref import WeakValueDictionary

from akidb.errors import AkiDBError, ConfigurationError, UnavailableError
from akidb.storage.held import EXPIRY_SECS, NOBODY, RELEASE_SECS, RENEW_SECS, Held, decode_lease, encode_lease
from akidb.storage.keys import WRITER_KEY
from akidb.storage.object_store import Body, ObjectStore, Reply, Status
from akidb.storage.probe import require_conditional_puts
from akidb.storage.wrapper import StoreWrapper

log = logging.getLogger(__name__)

LOOK_SECS = 5.0
"""Pauses between looks at a lease that is waited for."""

SETTLE_SECS = 2.0
"""How long a put of the lease may be on its way: the last of several that come at once wins."""

_STORE = UUID(int=0)


class SingleWriterStore(StoreWrapper):
    """Conditional puts over plain ones. The first write of any kind takes the lease, which may take a while; reads need
    none. A process that lost the lease writes nothing any more until it is started again."""

    def __init__(self, inner: ObjectStore) -> None:
        super().__init__(inner)
        self._owner = uuid4()
        self._held: Held | None = None
        self._lost = False
        self._seen_at = 0.0
        self._leasing = asyncio.Lock()
        self._renewing: asyncio.Task[None] | None = None
        self._keys: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @property
    def location(self) -> str:
        return f"{self.inner.location} (single-writer)"

    @property
    def refuses_writes(self) -> bool:
        """Whether the lease is lost."""
        return self._lost

    async def put(self, key: str, body: Body) -> Reply:
        await self._own()
        return await self.inner.put(key, body)

    async def put_if_absent(self, key: str, body: Body) -> Reply:
        async with self._alone(key):
            found = await self.inner.head(key)
            return _refused(found) if found.ok else await self.inner.put(key, body)

    async def put_if_match(self, key: str, body: Body, etag: str) -> Reply:
        async with self._alone(key):
            found = await self.inner.head(key)
            if not found.ok:
                return found
            return await self.inner.put(key, body) if found.etag == etag else _refused(found)

    async def delete_many(self, keys: Iterable[str]) -> None:
        await self._own()
        await self.inner.delete_many(keys)

    async def close(self) -> None:
        """Lets go of the lease, so that the next process need not wait for its end."""
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)
        if self._held is not None and not self._lost:
            with contextlib.suppress(AkiDBError, TimeoutError):
                async with asyncio.timeout(RELEASE_SECS):
                    if _is_of(await self._look(), self._held):
                        await self._change(NOBODY)
        await self.inner.close()

    @asynccontextmanager
    async def _alone(self, key: str) -> AsyncIterator[None]:
        """Nobody else of this process changes the key meanwhile."""
        lock = self._keys.setdefault(key, asyncio.Lock())
        async with lock:
            await self._own()  # not before: the wait may be longer than a lease
            yield

    # The lease

    async def _own(self) -> None:
        """Returns if this process is the one that writes.

        Raises:
            UnavailableError: `another_writer`: another is, or became it; or the store does not tell.
        """
        if self._lost:
            raise self._another()
        if self._held is not None and time.monotonic() - self._seen_at < EXPIRY_SECS / 2:
            return
        async with self._leasing:
            if self._held is None:
                await self._acquire()
            elif time.monotonic() - self._seen_at >= EXPIRY_SECS / 2:  # it stood still, or the store was away
                await self._renew()

    async def _acquire(self) -> None:
        before = await self._look()
        if before is not None and before.owner not in (NOBODY, self._owner):
            log.info("waiting for %s s whether another process writes to %s", EXPIRY_SECS, self.location)
            await self._outlive(before)
        epoch = 1 if before is None else before.epoch + 1
        wanted = Held(self._owner, epoch, 1 if before is None else before.counter + 1)
        await self.inner.put(WRITER_KEY, encode_lease(wanted, shard=_STORE))
        await asyncio.sleep(SETTLE_SECS)
        if not _is_of(await self._look(), wanted):
            raise self._another()
        self._held, self._seen_at = wanted, time.monotonic()
        self._renewing = asyncio.create_task(self._keep(), context=Context())
        await self._judge_store()

    async def _outlive(self, before: Held) -> None:
        """Returns once the lease has not changed for long enough, or was let go of."""
        until = time.monotonic() + EXPIRY_SECS
        while time.monotonic() < until:
            await asyncio.sleep(LOOK_SECS)
            now = await self._look()
            if now is None or now.owner == NOBODY:
                return
            if now != before:
                raise self._another()

    async def _judge_store(self) -> None:
        try:
            await require_conditional_puts(self.inner)
        except ConfigurationError as fault:
            log.warning("%s, were it not for storage.conditional_writes: single-writer, which nothing fences", fault)
        else:
            log.warning(
                "%s keeps conditional writes, so far as three puts tell: without storage.conditional_writes: "
                "single-writer it is safer and needs fewer requests",
                self.location,
            )

    async def _keep(self) -> None:
        while not self._lost:
            await asyncio.sleep(RENEW_SECS)
            with contextlib.suppress(AkiDBError):  # then the next write asks
                async with self._leasing:
                    await self._renew()

    async def _renew(self) -> None:
        began = time.monotonic()
        if not _is_of(await self._look(), self._held):
            self._lost = True
            log.error("another process took the lease of %s: this one writes nothing any more", self.location)
            raise self._another()
        await self._change(self._owner)
        self._seen_at = began

    async def _change(self, owner: UUID) -> None:
        assert self._held is not None, "only its owner changes a lease"
        after = Held(owner, self._held.epoch, self._held.counter + 1)
        await self.inner.put(WRITER_KEY, encode_lease(after, shard=_STORE))
        self._held = after

    async def _look(self) -> Held | None:
        reply = await self.inner.get(WRITER_KEY)
        return decode_lease(reply.body, shard=_STORE, name=WRITER_KEY) if reply.ok else None

    def _another(self) -> UnavailableError:
        return UnavailableError(
            f"another process writes to {self.location}, and storage.conditional_writes: single-writer allows one",
            code="another_writer",
            retry_after_secs=EXPIRY_SECS,
        )


def _is_of(now: Held | None, held: Held | None) -> bool:
    """Whether the lease still has its owner; the answer of the last change of it may have been lost."""
    return now is not None and held is not None and (now.owner, now.epoch) == (held.owner, held.epoch)


def _refused(found: Reply) -> Reply:
    return Reply(Status.CONDITION_FAILED, date=found.date)
