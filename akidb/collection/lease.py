"""Leases: who does a piece of background work on a shard, so that two nodes seldom do the same at a time.

They save work and nothing else. A node that stood still may go on with what another took over meanwhile: each commits
by a swap of HEAD, and one of them finds its inputs gone. So no clock is compared with another's. A lease is an object
that its owner changes while it works; a node takes it over once it has not seen it change for EXPIRY_SECS by its own
clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextvars import Context
from dataclasses import replace
from uuid import UUID

from akidb.errors import AkiDBError, CorruptionError
from akidb.storage.held import EXPIRY_SECS, NOBODY, RELEASE_SECS, RENEW_SECS, Held, decode_lease, encode_lease
from akidb.storage.object_store import ObjectStore, Status


class Lease:
    """The right of this node, `owner`, to one kind of work on the shard under `prefix`."""

    def __init__(self, store: ObjectStore, prefix: str, kind: str, shard: UUID, owner: UUID) -> None:
        self.key = f"{prefix}/lease/{kind}"
        self._store = store
        self._shard = shard
        self._owner = owner
        self._seen: tuple[Held, str] | None = None
        self._seen_since = 0.0

    @contextlib.asynccontextmanager
    async def held(self) -> AsyncIterator[bool]:
        """Whether the work is this node's: True is kept up while the context lasts, as far as the store lets.

        Raises UnavailableError, StorageFullError.
        """
        if not await self._acquire():
            yield False
            return
        renewing = asyncio.create_task(self._renew(), context=Context())
        try:
            yield True
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)
            with contextlib.suppress(AkiDBError, TimeoutError):  # then it expires
                async with asyncio.timeout(RELEASE_SECS):
                    await self._release()

    async def _release(self) -> None:
        if not await self._change(owner=NOBODY) and await self._look():
            assert self._seen is not None, "just looked at"
            if self._seen[0].owner == self._owner:  # the renewal that was given up had landed
                await self._change(owner=NOBODY)

    async def _acquire(self) -> bool:
        if not await self._look():
            return await self._put(Held(self._owner, 1, 1), None)
        assert self._seen is not None, "just looked at"
        held, _ = self._seen
        foreign = held.owner not in (self._owner, NOBODY)
        if foreign and time.monotonic() - self._seen_since < EXPIRY_SECS:
            return False
        return await self._change(owner=self._owner)

    async def _look(self) -> bool:
        """Reads it; False if there is none. One that cannot be read is somebody's, until it expires."""
        seen = self._seen
        reply = await self._store.get(self.key, if_none_match=None if seen is None else seen[1])
        if reply.status is Status.NOT_MODIFIED:
            return True
        if not reply.ok or reply.etag is None:
            self._seen = None
            return False
        try:
            held = decode_lease(reply.body, shard=self._shard, name=self.key)
        except CorruptionError:
            held = Held(UUID(int=1), 0, 0) if seen is None else replace(seen[0], owner=UUID(int=1))
        self._seen, self._seen_since = (held, reply.etag), time.monotonic()
        return True

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEW_SECS)
            with contextlib.suppress(AkiDBError):
                if not await self._change(owner=self._owner):
                    return  # taken over

    async def _change(self, *, owner: UUID) -> bool:
        """One swap, unless another node changed it since it was seen."""
        if self._seen is None:
            return False
        held, etag = self._seen
        epoch = held.epoch + (owner not in (held.owner, NOBODY))
        return await self._put(Held(owner, epoch, held.counter + 1), etag)

    async def _put(self, held: Held, etag: str | None) -> bool:
        body = encode_lease(held, shard=self._shard)
        if etag is None:
            reply = await self._store.put_if_absent(self.key, body)
        else:
            reply = await self._store.put_if_match(self.key, body, etag)
        if not reply.ok or reply.etag is None:
            return False
        self._seen, self._seen_since = (held, reply.etag), time.monotonic()
        return True
