"""The writes of a collection: checked once, then each shard's part to its shard."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from akidb.collection.change import Change
from akidb.collection.conditions import Conditions, conditions
from akidb.collection.forwarding import Forwarded, Peers
from akidb.collection.outcome import together, write_all
from akidb.collection.points import check_ids, check_vectors, encode_patch, encode_payloads, refuse
from akidb.collection.requests import Request, Written
from akidb.collection.routing import route
from akidb.collection.shard import Shard
from akidb.collection.writer import Writer
from akidb.errors import NotFoundError, ReadOnlyError, UnavailableError
from akidb.filter import Filter, PayloadSchema, is_unconditional
from akidb.types import CollectionSpec, IfVersion, Lsn
from akidb.wal import Delete, Patch, Upsert

INLINE_IDS_MAX, INLINE_BYTES_MAX = 256, 128 << 10
"""Batches with more than this are checked in a thread: it takes longer than the event loop may stand still."""


class Writes:
    """What changes the points of a collection. All methods are safe to call concurrently from one event loop.

    A write to one shard is done as a whole or not at all. Where a batch has points of several, each shard does its part
    so, and PartialWriteError names the shards that did not.
    """

    def __init__(self, shards: Sequence[Shard], *, read_only: bool, peers: Peers | None = None) -> None:
        self.shards = tuple(shards)
        self.writers = tuple(Writer(shard, read_only=read_only, peers=peers) for shard in shards)
        self._read_only = read_only
        self._settings = shards[0].settings
        self._schema = PayloadSchema.parse(shards[0].spec.payload_schema)
        self._closed = False

    @property
    def spec(self) -> CollectionSpec:
        return self.shards[0].spec

    @property
    def lsn(self) -> Lsn:
        """The log position up to which this node has applied writes, of several shards the largest."""
        return max(shard.applied for shard in self.shards)

    @property
    def sealed(self) -> bool:
        """Whether the collection was dropped, as far as this node knows: in one shard is enough, the rest follows."""
        return any(shard.known.sealed for shard in self.shards)

    async def upsert(
        self,
        ids: Sequence[str | int],
        vectors: npt.ArrayLike,
        payloads: Sequence[Mapping[str, Any] | bytes | None] | None = None,
        *,
        if_absent: bool = False,
        if_version: IfVersion = None,
        idempotency_key: str | None = None,
        timeout_ms: int | None = None,
    ) -> Lsn:
        """Stores n points, in each shard all or nothing; returns their LSN, of several shards the largest, when they
        are durable. A point's version is the LSN in its shard.

        Args:
            ids: n texts or integers, each once.
            vectors: (n, dim).
            payloads: n objects, or their JSON text as bytes, or None.
            if_absent: only if none of them is there.
            if_version: only if each has this version, or its own of n; 0 is not there, None is any.
            idempotency_key: the caller's name for the request: sent again under it within a day, to any node, it is not
                done again, and answered as before. Each shard knows for itself what it did under it.

        Raises:
            ConflictError: `point_exists`, `version_mismatch`; nothing changed.
            InvalidInputError, NotFoundError (dropped), ReadOnlyError, StorageFullError, UnavailableError: nothing
                changed.
            DeadlineExceededError: code `outcome_unknown`: it may have happened.
            PartialWriteError: one of these, in some of several shards.
        """

        def check() -> dict[int, Change]:
            points = self._checked_points(ids, vectors, payloads)
            wanted = conditions(points.ids, if_absent=if_absent, if_version=if_version)
            texts = b"\0".join(text or b"" for text in points.payloads)
            versions = None if wanted is None else wanted.expected.tolist()
            request = Request.of(idempotency_key, "upsert", points.ids, points.vectors, texts, versions)
            return {
                number: Change([_part(points, chosen)], _asked(wanted, chosen), request)
                for number, chosen in route(points.ids, len(self.shards))
            }

        changes = check() if self._is_small(ids, payloads) else await asyncio.to_thread(check)
        return await self._write(changes, timeout_ms)

    def _is_small(self, ids: Sequence[Any], payloads: Sequence[Any] | None) -> bool:
        size = len(ids) * self.spec.dim * 4 + sum(len(text) for text in payloads or () if isinstance(text, bytes))
        return len(ids) <= INLINE_IDS_MAX and size <= INLINE_BYTES_MAX

    async def _checked_ids(self, ids: Sequence[str | int]) -> list[str]:
        return check_ids(ids) if len(ids) <= INLINE_IDS_MAX else await asyncio.to_thread(check_ids, ids)

    def _checked_points(
        self, ids: Sequence[str | int], vectors: npt.ArrayLike, payloads: Sequence[Any] | None
    ) -> Upsert:
        names = check_ids(ids, unique=True)
        array = check_vectors(vectors, self.spec, count=len(names))
        if array is vectors or array.base is not None:
            array = array.copy()  # the caller may go on writing to it while the group waits for its slot
        return Upsert(names, array, encode_payloads(payloads, len(names), self._schema))

    async def delete(
        self,
        ids: Sequence[str | int],
        *,
        if_version: IfVersion = None,
        idempotency_key: str | None = None,
        timeout_ms: int | None = None,
    ) -> Lsn:
        """Deletes by id, in each shard all or none; ids that are not there are no error.

        Raises:
            ConflictError: `version_mismatch`: one has another version than `if_version` says (one for all, or one each,
                None for any); nothing changed.
        """
        names = await self._checked_ids(ids)
        wanted = conditions(names, if_version=if_version)
        versions = None if wanted is None else wanted.expected.tolist()
        request = Request.of(idempotency_key, "delete", names, versions)
        changes = {
            number: Change(
                [Delete(list(dict.fromkeys(names[i] for i in chosen.tolist())))], _asked(wanted, chosen), request
            )
            for number, chosen in route(names, len(self.shards))
        }
        return await self._write(changes, timeout_ms)

    async def delete_where(
        self, filter: Filter, *, idempotency_key: str | None = None, timeout_ms: int | None = None
    ) -> tuple[int, Lsn]:
        """Deletes what matches at the moment of the write, which each shard has its own of; returns how many points
        that were, and the LSN.

        Raises:
            InvalidInputError: `invalid_filter`: it has no condition, so that every point matches.
        """
        if is_unconditional(filter):
            msg = "has no condition and would delete every point; delete the collection if that is meant"
            raise refuse("invalid_filter", ("filter",), msg)
        request = Request.of(idempotency_key, "delete_where", repr(filter))
        self._refuse_write(request)
        deadline = self._write_deadline(timeout_ms)
        done = await write_all(
            {number: writer.delete_where(filter, request, deadline) for number, writer in enumerate(self.writers)}
        )
        return done.points, done.lsn

    async def patch(
        self,
        id: str | int,
        payload: Mapping[str, Any] | bytes,
        *,
        if_version: int | None = None,
        idempotency_key: str | None = None,
        timeout_ms: int | None = None,
    ) -> Lsn:
        """Merges `payload` into a point's (RFC 7396: null removes a field).

        Raises:
            NotFoundError: `point_not_found`.
            ConflictError: `version_mismatch`: it has another version than `if_version`; nothing changed.
        """
        names = check_ids([id])
        patch = encode_patch(payload, self._schema)
        wanted = conditions(names, if_version=if_version, present=True)
        request = Request.of(idempotency_key, "patch", names[0], patch, if_version)
        ((number, _),) = route(names, len(self.shards))
        return await self._write({number: Change([Patch(names, [patch])], wanted, request)}, timeout_ms)

    async def receive(self, message: Forwarded, wanted: Callable[[], bool]) -> Written:
        """Puts a batch that another node sent here, which waits as long as `wanted`. Raises as Writer.receive."""
        self._refuse_write(None)
        for writer in self.writers:
            if writer.shard.uuid == message.shard:
                return await writer.receive(message, wanted)
        told = f"collection {self.spec.name!r} has no shard {message.shard}: it was made anew"
        raise NotFoundError(told, code="collection_not_found")

    async def seal(self, *, timeout_ms: int | None = None) -> None:
        """Ends the logs: the first half of a drop. Every node that reads a seal refuses further use.

        The first shard's seal decides who drops the collection; who finds any seal puts those that are missing.

        Raises:
            NotFoundError: `collection_not_found`: another node dropped it first.
        """
        self._refuse_write(None)
        deadline = self._write_deadline(timeout_ms)
        if not self.sealed:
            await self.writers[0].seal(deadline)
        await together([writer.seal_too(deadline) for writer in self.writers])

    async def clear(self) -> None:
        """Gives back the room of a sealed collection, on stores where that is safe."""
        await together([writer.clear() for writer in self.writers])

    async def _write(self, changes: Mapping[int, Change], timeout_ms: int | None) -> Lsn:
        if not changes:
            return self.lsn
        self._refuse_write(next(iter(changes.values())).request)
        deadline = self._write_deadline(timeout_ms)
        parts = {number: self.writers[number].write(change, deadline) for number, change in changes.items()}
        return (await write_all(parts)).lsn

    def _refuse_write(self, request: Request | None) -> None:
        """Raises what refuses a write before any shard is asked, a key that is known of another request included."""
        if self._read_only:
            raise ReadOnlyError(f"collection {self.spec.name!r} is open read-only")
        self._refuse_closed()
        if request is not None:
            for shard in self.shards:
                done = shard.known.requests.find(request.uuid)
                if done is not None:
                    request.refuse_another(done)

    def _write_deadline(self, timeout_ms: int | None) -> float:
        return time.monotonic() + (self._settings.api.write_timeout_ms if timeout_ms is None else timeout_ms) / 1000

    def _refuse_closed(self) -> None:
        if self._closed and not self.sealed:  # of a dropped one the shards say so
            raise UnavailableError("the connection is closed", code="closing")


def _part(points: Upsert, chosen: npt.NDArray[np.int64]) -> Upsert:
    """The points at these places."""
    if len(chosen) == len(points.ids):
        return points
    places = chosen.tolist()
    return Upsert([points.ids[i] for i in places], points.vectors[chosen], [points.payloads[i] for i in places])


def _asked(wanted: Conditions | None, chosen: npt.NDArray[np.int64]) -> Conditions | None:
    return None if wanted is None else wanted.part(chosen)
