"""Writes that go to the node that owns their shard, and those that come from others.

Nodes that put slots of one log at once take them from each other: each loses puts and begins again. So those that know
each other agree on one that puts for all. Nothing depends on it: whoever has a batch may put it, and does.

A batch whose answer from there was lost is put here, while the other node may be at it still. It is in the log once all
the same. Its uuid was made when slot `since` was there, so no slot up to that holds it; and a node puts it only on a
state that tells of each slot after `since` whether it does. Nothing comes between that state and the put. A state that
can't tell, because such slots are folded, puts nothing. Requests under a key are judged by that, as ever.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol
from uuid import UUID

import msgspec
import numpy as np

from akidb.collection.change import Change
from akidb.collection.conditions import Conditions
from akidb.collection.points import refuse
from akidb.collection.requests import DoneError, Request, Written
from akidb.collection.shard import Shard
from akidb.collection.state import ShardState
from akidb.errors import AkiDBError, InvalidInputError, UnavailableError
from akidb.telemetry.metrics import METRICS
from akidb.types import Lsn
from akidb.wal import CHAIN_START, Batch, Delete, Patch, Slot, Upsert, decode_slot, encode_slot
from akidb.wal.queue import outcome_unknown

FORWARD_SECS = 3.0
"""How long the owner may take before a write is put here."""

JUDGED = frozenset({"point_exists", "version_mismatch", "point_not_found", "idempotency_key_reused"})
"""Refusals that are of the batch, on whatever node; all others are of the node that tells them."""


class Peers(Protocol):
    """The nodes that put slots for one another, as far as this one knows them."""

    def owner(self, shard: UUID) -> str | None:
        """The other node that is to put the shard's slots; None if that is this one."""
        ...

    async def send(self, node: str, body: bytes, timeout_secs: float) -> bytes:
        """What `node` answers to a Forwarded that it has done.

        Raises:
            AkiDBError: it did nothing, nor will, and why; with the code `outcome_unknown` it may have, or will.
        """
        ...


@dataclass(frozen=True, slots=True)
class Origin:
    """Of a batch that two nodes may put. `since` is a slot that the log had when the batch got its uuid; `wanted` is of
    one that another node sent, and whether that still waits for it."""

    since: Lsn
    wanted: Callable[[], bool] | None = None

    def judge(self, batch: Batch, state: ShardState) -> None:
        """Raises DoneError if the log holds the batch, and what keeps it from being put on this state."""
        if batch.once is None:
            lsn = state.find_batch(batch.uuid)
            if lsn is not None:
                raise DoneError(Written.by(batch, lsn))
        # Of a request HEAD knows that too, but for a day only: one that is sent again later is not taken.
        if (batch.once is None or self.wanted is not None) and not state.tells_since(self.since):
            told = f"slots after {self.since} are folded, so whether the batch was written can't be told"
            raise outcome_unknown() if self.wanted is None else UnavailableError(told, code="not_taken")
        if self.wanted is not None and not self.wanted():
            raise UnavailableError("the node that sent the batch does not wait for it any more", code="not_taken")


class _Asked(msgspec.Struct, forbid_unknown_fields=True):
    """Conditions: `expected` and `positions` are int64, little-endian."""

    ids: list[str]
    expected: bytes
    word: Literal["if_absent", "if_version"]
    positions: bytes | None
    present: bool

    @classmethod
    def of(cls, wanted: Conditions) -> _Asked:
        positions = None if wanted.positions is None else wanted.positions.astype("<i8").tobytes()
        return cls(list(wanted.ids), wanted.expected.astype("<i8").tobytes(), wanted.word, positions, wanted.present)

    def conditions(self) -> Conditions:
        try:
            expected = np.frombuffer(self.expected, "<i8")
            positions = None if self.positions is None else np.frombuffer(self.positions, "<i8")
        except ValueError:
            raise refuse("invalid_batch", ("asked",), "has versions or positions that are not int64") from None
        if len(expected) != len(self.ids) or (positions is not None and len(positions) != len(self.ids)):
            raise refuse("invalid_batch", ("asked",), f"has {len(expected)} versions for {len(self.ids)} ids")
        return Conditions(self.ids, expected, self.word, positions, self.present)


class Forwarded(msgspec.Struct, forbid_unknown_fields=True):
    """A batch on its way to another node. `slot` holds it in the bytes of a slot whose LSN is `since`: it has no place
    of its own yet."""

    collection: str
    shard: UUID
    since: Lsn
    timeout_ms: int
    slot: bytes
    key: str | None = None
    asked: _Asked | None = None

    def change(self, shard: Shard) -> tuple[Batch, Change]:
        """The batch, and what is asked of it.

        Raises:
            CorruptionError, InvalidInputError: `invalid_batch`: it is none for this shard.
        """
        slot = decode_slot(self.slot, lsn=self.since, shard=shard.uuid, name="of a forwarded batch")
        (batch,) = slot.batches if len(slot.batches) == 1 else (Batch(shard.uuid, []),)
        operations = batch.operations if batch.once is None else batch.operations[1:]
        dims = {operation.vectors.shape[1] for operation in operations if isinstance(operation, Upsert)}
        if not operations or dims - {shard.spec.dim} or (batch.once is None) != (self.key is None):
            raise refuse("invalid_batch", ("slot",), f"holds no batch of points of {shard.spec.dim} dimensions")
        if not all(isinstance(operation, Upsert | Delete | Patch) for operation in operations):
            raise refuse("invalid_batch", ("slot",), "holds other operations than upserts, deletes and patches")
        request = None if batch.once is None or self.key is None else Request(self.key, batch.uuid, batch.once)
        return batch, Change(operations, None if self.asked is None else self.asked.conditions(), request)


class _Done(msgspec.Struct):
    lsn: Lsn
    points: int


_DECODER, _DONE = msgspec.msgpack.Decoder(Forwarded), msgspec.msgpack.Decoder(_Done)


def decode_forwarded(body: bytes) -> Forwarded:
    """Raises InvalidInputError `invalid_batch`."""
    try:
        return _DECODER.decode(body)
    except msgspec.DecodeError as error:
        raise InvalidInputError(f"this is no forwarded batch: {error}", code="invalid_batch") from None


def encode_done(done: Written) -> bytes:
    """What the receiver answers."""
    return msgspec.msgpack.encode(_Done(done.lsn, done.points))


class Forwarding:
    """Sends the batches of one shard to its owner. `acknowledged` is the last slot that another node told of."""

    def __init__(self, peers: Peers, shard: Shard) -> None:
        self.acknowledged: Lsn = 0
        self._peers = peers
        self._shard = shard

    async def send(self, batch: Batch, change: Change, deadline: float) -> Written | Origin | None:
        """Has the owner put the batch.

        Returns:
            What became of it. None: it is to be put here. Origin: that as well, but the owner may put it, too.

        Raises:
            AkiDBError: one of JUDGED: nothing was written, wherever it is put.
        """
        owner = self._peers.owner(self._shard.uuid)
        patience = min(FORWARD_SECS, (deadline - time.monotonic()) / 2)
        if owner is None or patience <= 0:
            return None
        since = max(self._shard.applied, self.acknowledged)
        body = await self._encoded(batch, change, since, patience)
        if len(body) > self._shard.settings.api.body_limit_bytes:  # it would be refused after a long way
            return None
        try:
            done = _DONE.decode(await self._peers.send(owner, body, patience))
        except AkiDBError as failed:
            if failed.code == "outcome_unknown":
                return self._unknown(since)
            METRICS.cluster_batches.labels("forwarded" if failed.code in JUDGED else "direct").inc()
            if failed.code in JUDGED:
                raise
            return None
        except msgspec.DecodeError:  # what answers there is no node of ours
            return self._unknown(since)
        METRICS.cluster_batches.labels("forwarded").inc()
        self.acknowledged = max(self.acknowledged, done.lsn)
        return Written(done.lsn, done.points)

    def _unknown(self, since: Lsn) -> Origin | None:
        METRICS.cluster_batches.labels("unknown").inc()
        return Origin(since)

    async def _encoded(self, batch: Batch, change: Change, since: Lsn, patience: float) -> bytes:
        def encode() -> bytes:
            shard = self._shard
            slot, _ = encode_slot(Slot(since, shard.uuid, shard.appender.writer, CHAIN_START, [batch]))
            key = None if change.request is None else change.request.key
            asked = None if change.conditions is None else _Asked.of(change.conditions)
            message = Forwarded(shard.spec.name, shard.uuid, since, int(patience * 1000), slot, key, asked)
            return msgspec.msgpack.encode(message)

        return await asyncio.to_thread(encode)  # a few points may have payloads of 64 MiB
