"""Requests that may be sent again: which of them the log holds, in the tail and, once folded, in objects beside it.

A caller names a request by a key of its choice. The key makes the uuid of the batch, so the log shows that the request
was done and where. A fold takes the slots out of the log and writes the requests they told of to an object that HEAD
names; it merges the objects of no more requests than it has itself, so there are few, and forgets those that are older
than RETENTION_SECS by the store's own clock.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID, uuid4

import msgspec
import numpy as np
import numpy.typing as npt
from xxhash import xxh3_128

from akidb.codec import decode, encode
from akidb.codec.frame import KIND_REQUESTS, Buffer
from akidb.collection.points import refuse
from akidb.errors import AkiDBError, CorruptionError, InvalidInputError
from akidb.manifest import HeadStore, RequestsRef
from akidb.storage.object_store import ObjectStore
from akidb.types import Lsn
from akidb.wal import Batch, Once

RETENTION_SECS = 25 * 3600
"""A day, and an hour for what the clocks of a store's servers may differ by."""

_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_ROW = np.dtype([("high", "<u8"), ("low", "<u8"), ("fingerprint", "V16"), ("lsn", "<u8"), ("points", "<u8")])
_SECTION = "requests"


@dataclass(frozen=True, slots=True)
class Request:
    """A request that is to be done once. `key` is the caller's name for it; the same key is the same `uuid`."""

    key: str
    uuid: UUID
    once: Once

    @classmethod
    def of(cls, key: str | None, *content: object) -> Request | None:
        """The request under `key`, told from others under it by its content; None without a key.

        Args:
            content: bytes, arrays and what msgspec can encode.

        Raises:
            InvalidInputError: `invalid_idempotency_key`.
        """
        if key is None:
            return None
        if not isinstance(key, str) or _KEY.fullmatch(key) is None:
            msg = f"is {key!r:.60}, expected 1 to 255 printable ASCII characters without spaces"
            raise refuse("invalid_idempotency_key", ("idempotency_key",), msg)
        digest = xxh3_128()
        for part in content:
            data = part if isinstance(part, bytes | np.ndarray) else msgspec.json.encode(part)
            digest.update(len(data).to_bytes(8, "little"))
            digest.update(data)  # type: ignore[arg-type]
        uuid = UUID(bytes=hashlib.blake2b(key.encode(), digest_size=16).digest())
        return cls(key, uuid, Once(digest.digest()))

    def refuse_another(self, done: Written) -> None:
        """Raises InvalidInputError `idempotency_key_reused` if it was another request that was done under the key."""
        if done.fingerprint != self.once.fingerprint:
            raise InvalidInputError(
                f"the idempotency key {self.key!r} was used for another request, at log position {done.lsn}; "
                "nothing was written",
                code="idempotency_key_reused",
            )


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a request: the slot that holds it, and how many points it named."""

    lsn: Lsn
    points: int
    fingerprint: bytes = b""

    @classmethod
    def by(cls, batch: Batch, lsn: Lsn) -> Written:
        points = sum(len(getattr(operation, "ids", ())) for operation in batch.operations)
        return cls(lsn, points, batch.once.fingerprint if batch.once else b"")


class DoneError(AkiDBError):
    """The state holds the request already."""

    def __init__(self, done: Written) -> None:
        super().__init__(f"written at {done.lsn}")
        self.done = done


class RequestsObject:
    """The requests of one object, in memory: 48 bytes each, sorted by uuid."""

    def __init__(self, rows: npt.NDArray[np.void]) -> None:
        self.rows = rows
        self._high = np.ascontiguousarray(rows["high"])

    @classmethod
    def of(cls, requests: Mapping[UUID, Written]) -> RequestsObject:
        rows = [
            (uuid.int >> 64, uuid.int & (1 << 64) - 1, done.fingerprint, done.lsn, done.points)
            for uuid, done in requests.items()
        ]
        return cls(np.sort(np.array(rows, _ROW), order=("high", "low")))

    def find(self, uuid: UUID) -> Written | None:
        high, low = uuid.int >> 64, uuid.int & (1 << 64) - 1
        at = int(np.searchsorted(self._high, np.uint64(high)))
        while at < len(self.rows) and int(self._high[at]) == high:
            row = self.rows[at]
            if int(row["low"]) == low:
                return Written(int(row["lsn"]), int(row["points"]), bytes(row["fingerprint"]))
            at += 1
        return None


def encode_requests(requests: RequestsObject, *, uuid: UUID) -> bytes:
    """The object's bytes (docs/formats/requests.md)."""
    return encode(KIND_REQUESTS, uuid, {_SECTION: requests.rows.astype(_ROW, copy=False).tobytes()})


def decode_requests(body: Buffer, ref: RequestsRef, *, name: str) -> RequestsObject:
    """The inverse. Raises CorruptionError naming the object."""
    frame = decode(body, kind=KIND_REQUESTS, name=name)
    section = frame.sections.get(_SECTION, memoryview(b""))
    if frame.uuid != ref.uuid or len(section) != ref.count * _ROW.itemsize:
        raise CorruptionError(
            f"it is {frame.uuid} with {len(section)} bytes of requests, HEAD says {ref.uuid} with "
            f"{ref.count} requests of {_ROW.itemsize} bytes",
            key=name,
        )
    return RequestsObject(np.frombuffer(section, _ROW))


class Requests:
    """Which requests a state holds: of the tail's slots, and of the folded ones by the objects that HEAD names."""

    def __init__(self, folded: Mapping[RequestsRef, RequestsObject] | None = None) -> None:
        self.folded = dict(folded or {})
        self.tail: dict[UUID, Written] = {}

    def find(self, uuid: UUID) -> Written | None:
        found = self.tail.get(uuid)
        objects = iter(self.folded.values())
        while found is None and (requests := next(objects, None)) is not None:
            found = requests.find(uuid)
        return found

    def note(self, batch: Batch, lsn: Lsn) -> None:
        if batch.once is not None:
            self.tail[batch.uuid] = Written.by(batch, lsn)

    def install(self, folded: Mapping[RequestsRef, RequestsObject], below: Lsn) -> None:
        """Takes what a fold of the slots below `below` wrote."""
        self.folded = dict(folded)
        self.tail = {uuid: done for uuid, done in self.tail.items() if done.lsn >= below}


async def open_requests(
    store: ObjectStore, prefix: str, refs: Sequence[RequestsRef], present: Mapping[RequestsRef, RequestsObject]
) -> dict[RequestsRef, RequestsObject]:
    """The objects of `refs`; those in `present` are not read again. Raises CorruptionError naming what is damaged."""
    opened = {}
    for ref in refs:
        if ref in present:
            opened[ref] = present[ref]
            continue
        key = ref.key(prefix)
        reply = await store.get(key)
        if not reply.ok:
            raise CorruptionError("HEAD names these requests, the store does not have them", key=key)
        opened[ref] = decode_requests(reply.body, ref, name=key)
    return opened


async def put_requests(
    store: ObjectStore, prefix: str, heads: HeadStore, tail: Mapping[UUID, Written], folded: Requests, epoch: int
) -> dict[RequestsRef, RequestsObject]:
    """What a fold's HEAD is to name: the young objects of `folded`, and one of `tail` with the smaller ones merged."""
    kept = await _young(heads, folded.folded)
    if not tail:
        return kept
    merged = [RequestsObject.of(tail)]
    count = len(tail)
    for ref in sorted(kept, key=lambda ref: ref.count):
        if ref.count <= count:
            merged.append(kept.pop(ref))
            count += ref.count
    rows = np.concatenate([part.rows for part in merged])
    requests = RequestsObject(np.sort(rows, order=("high", "low")))
    fresh = RequestsRef(uuid4(), count, 0, epoch)
    key = fresh.key(prefix)
    await store.put(key, encode_requests(requests, uuid=fresh.uuid))
    written = (await store.head(key)).last_modified
    return {**kept, replace(fresh, written=int(written or 0)): requests}


async def _young(heads: HeadStore, folded: Mapping[RequestsRef, RequestsObject]) -> dict[RequestsRef, RequestsObject]:
    """Those that may not be forgotten yet, or of which the store's clock does not tell."""
    if not folded:
        return {}
    await heads.read()
    now = heads.date
    return {
        ref: requests
        for ref, requests in folded.items()
        if now is None or not ref.written or now - ref.written < RETENTION_SECS
    }
