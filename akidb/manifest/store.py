"""Reading and changing HEAD. Lost answers are resolved by the commit id that each change carries."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable
from dataclasses import replace
from uuid import UUID, uuid4

from akidb.codec.frame import KIND_HEAD
from akidb.config.settings import ManifestRetry
from akidb.errors import CorruptionError, UnavailableError
from akidb.manifest.codec import decode_head, encode_head
from akidb.manifest.invariants import broken
from akidb.manifest.model import RECENT_MAX, Head
from akidb.manifest.pins import Manifests
from akidb.storage.object_store import ObjectStore, Status
from akidb.types import Lsn

FRESH_SECS = 60.0
"""How long HEAD, once read, tells which slots were never deleted."""

SETTLED_SECS = 3600.0
"""How long HEAD says that slots may be gone before the first of them is deleted, where no lock keeps nodes from using
them meanwhile. What it is more than FRESH_SECS the clocks of the store's servers may differ by."""


class HeadStore:
    """HEAD of the shard under `prefix`. Safe to share among the tasks of one event loop."""

    def __init__(
        self, store: ObjectStore, prefix: str, shard: UUID, *, kind: int = KIND_HEAD, retry: ManifestRetry | None = None
    ) -> None:
        self.key = f"{prefix}/head"
        self.manifests = Manifests(store, prefix, shard)
        self._store = store
        self._shard = shard
        self._kind = kind
        self._retry = retry or ManifestRetry()
        self._seen: tuple[Head, str] | None = None
        self.date: float | None = None
        """The store's clock in seconds when HEAD was last read, None if the store did not tell."""
        self._read_at = -math.inf
        self._since: float | None = None  # HEAD said what `_seen` says at this time of the store's clock, or later

    async def create(self, head: Head | None = None) -> Head:
        """Puts version 0 before anything names the shard: that of an empty one, or `head`. Where there is a HEAD
        already, that is returned.

        Raises:
            UnavailableError: it may or may not be there; calling again decides.
        """
        if head is None:
            first = uuid4()
            head = Head(version=0, commit_id=first, recent=(first,))
        await self._store.put_if_absent(self.key, self._encode(head))
        return (await self.read())[0]

    async def read(self) -> tuple[Head, str]:
        """HEAD as the store has it now, and its ETag. One request, without a body when nothing changed.

        Raises:
            CorruptionError: there is none (it is put before anything names the shard), or it can't be read.
            UnavailableError: the store is away.
        """
        seen, began = self._seen, time.monotonic()
        reply = await self._store.get(self.key, if_none_match=None if seen is None else seen[1])
        self.date, self._read_at = reply.date, began
        since = None if reply.date is None else reply.date - (time.monotonic() - began)
        if reply.status is Status.NOT_MODIFIED and seen is not None:
            if self._seen is seen:
                self._since = since
            return seen
        if not reply.ok or reply.etag is None:
            raise CorruptionError("the store does not have it, though the shard exists", key=self.key)
        read = decode_head(reply.body, shard=self._shard, name=self.key, kind=self._kind), reply.etag
        if self._seen is None or self._seen[0].version < read[0].version:
            self._seen, self._since = read, since  # two reads may end in the wrong order
        return read

    @property
    def is_stale(self) -> bool:
        """Whether HEAD was read so long ago, by this machine's clock, that it will hardly vouch for an answer."""
        return time.monotonic() - self._read_at > FRESH_SECS / 2

    def vouches(self, lsn: Lsn, date: float | None) -> bool:
        """Whether slot `lsn` was never deleted before the store gave an answer of this Date, so that the answer is of
        the slot as it was first. False is no proof of the contrary.

        HEAD was read a moment before and said that the slot is not among those that may be gone, and the first of these
        goes SETTLED_SECS after HEAD says so. Both times are the store's own; an answer without a date, or with one that
        goes backward, proves nothing.
        """
        if self._seen is None or self._since is None or date is None:
            return False
        return self._seen[0].garbage <= lsn and 0 <= date - self._since <= FRESH_SECS

    def unchanged(self) -> Head | None:
        """HEAD as last read, if the store says at once that it is still that. Changes nothing: any thread may ask."""
        seen = self._seen
        if seen is None:
            return None
        reply = self._store.get_now(self.key, if_none_match=seen[1])
        return seen[0] if reply is not None and reply.status is Status.NOT_MODIFIED else None

    async def swap(self, change: Callable[[Head], Head | None]) -> Head | None:
        """Replaces HEAD by `change(HEAD)`; None if `change` returned None, for a HEAD it is not meant for.

        `change` is called again with the newer HEAD when another writer came first; it must have no effects, and leaves
        version, commit_id and recent alone. None of the objects it names may be deleted when this fails: a late swap
        may still land.

        Raises:
            UnavailableError: not decided within storage.manifest_retry.max_attempts.
            AssertionError: the new HEAD breaks an invariant; nothing was sent.
        """
        head, etag = await self.read()
        new = self._successor(head, change)
        for attempt in range(self._retry.max_attempts):
            if new is None:
                return None
            try:
                reply = await self._store.put_if_match(self.key, self._encode(new), etag)
                if reply.ok:
                    self._seen = None if reply.etag is None else (new, reply.etag)  # `_since` stays: garbage only rises
                    return new
                if reply.status is Status.NOT_FOUND:
                    raise CorruptionError("the store does not have it any more", key=self.key)
                # Refused by a request that repeated one whose answer was lost, it may be our own: the commit id
                # decides.
                now, now_etag = await self.read()
            except UnavailableError:
                await self._pause(attempt)
                try:
                    now, now_etag = await self.read()
                except UnavailableError:
                    continue
            if new.commit_id in now.recent:
                return new
            if now_etag != etag:
                head, etag = now, now_etag
                new = self._successor(head, change)
            await self._pause(attempt)
        raise UnavailableError(
            f"object {self.key} could not be changed in {self._retry.max_attempts} attempts", code="head_contended"
        )

    def _successor(self, head: Head, change: Callable[[Head], Head | None]) -> Head | None:
        changed = change(head)
        if changed is None:
            return None
        commit = uuid4()
        new = replace(changed, version=head.version + 1, commit_id=commit, recent=(*head.recent, commit)[-RECENT_MAX:])
        faults = broken(head, new)
        if faults:  # not an assert statement: python -O must not switch it off
            raise AssertionError(f"HEAD {self.key} would break {', '.join(faults)}: {head} -> {new}")
        return new

    def _encode(self, head: Head) -> bytes:
        return encode_head(head, shard=self._shard, kind=self._kind)

    async def _pause(self, attempt: int) -> None:
        longest = min(self._retry.max_backoff_ms, self._retry.initial_backoff_ms * 2**attempt) / 1000
        await asyncio.sleep(random.uniform(0, longest))  # noqa: S311 - jitter
