"""What a lease says, in bytes: who has it, and a count of changes by which others see that its owner lives."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from uuid import UUID

from akidb.codec import decode, encode
from akidb.codec.frame import KIND_LEASE, Buffer
from akidb.errors import CorruptionError

NOBODY = UUID(int=0)

EXPIRY_SECS = 60.0
"""How long others see a lease unchanged, by their own clock, before they take it."""

RENEW_SECS = 15.0
"""Three renewals may be lost before that."""

RELEASE_SECS = 2.0
"""How long letting go may hold up its owner."""
_LEASE = struct.Struct("<16sQQ")


@dataclass(frozen=True, slots=True)
class Held:
    """What a lease says. `epoch` counts owners, `counter` changes, so that it never says the same twice."""

    owner: UUID
    epoch: int
    counter: int


def encode_lease(held: Held, *, shard: UUID) -> bytes:
    """The object's bytes (docs/formats/lease.md)."""
    return encode(KIND_LEASE, shard, {"lease": _LEASE.pack(held.owner.bytes, held.epoch, held.counter)})


def decode_lease(body: Buffer, *, shard: UUID, name: str) -> Held:
    """The inverse. Raises CorruptionError naming the object."""
    frame = decode(body, kind=KIND_LEASE, name=name)
    section = frame.sections.get("lease", memoryview(b""))
    if frame.uuid != shard or len(section) != _LEASE.size:
        raise CorruptionError(f"it is of {frame.uuid} with {len(section)} bytes, expected {shard}", key=name)
    owner, epoch, counter = _LEASE.unpack(section)
    return Held(UUID(bytes=owner), epoch, counter)
