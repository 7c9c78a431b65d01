"""What must hold of a history, judged by the logs that the bucket held.

The slots are the truth: each was first created at one moment, what is created again after its deletion does not count,
and their order is the order of all writes of a shard. So a history is right if every answer fits the state after some
slot that existed at the right time.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from uuid import UUID

import msgspec
import numpy as np

from akidb.codec.frame import KIND_CATALOGUE_SLOT, KIND_MANIFEST, KIND_SLOT
from akidb.collection import shard_uuid
from akidb.collection.routing import route
from akidb.manifest import Head, decode_head
from akidb.segment import merge_patch
from akidb.types import Lsn, Point
from akidb.wal import Delete, Entry, Once, Patch, Revert, Seal, Slot, Upsert, decode_slot
from tests.simulation.bucket import Bucket
from tests.simulation.client import NAME
from tests.simulation.history import Cloned, History, Missing, Part, Read, Snapped, Write, marks
from tests.simulation.loop import EPOCH

State = dict[str, Point]


@dataclass
class Log:
    """One log as the bucket has it: `times[k]` is when slot k + 1 came to be, `states[k]` the points after slot k."""

    times: list[float] = field(default_factory=list)
    states: list[State] = field(default_factory=lambda: [{}])
    at: dict[str, list[Lsn]] = field(default_factory=dict)
    deleted: dict[str, int] = field(default_factory=dict)
    reverts: dict[Lsn, Lsn] = field(default_factory=dict)
    reverted: dict[UUID, Lsn] = field(default_factory=dict)
    origin: tuple[UUID, Lsn] | None = None
    sealed: float = float("inf")

    def length_at(self, time: float) -> Lsn:
        return bisect_right(self.times, time)


def _slots(bucket: Bucket, prefix: str, shard: UUID, kind: int, first: Head) -> Iterator[tuple[Slot, float]]:
    """The slots of a log whose HEAD began as `first`."""
    keys = sorted(key for key in bucket.created if key.startswith(f"{prefix}/wal/"))
    chain = first.chain
    for lsn, key in enumerate(keys, first.folded):
        stored = bucket.created[key]
        slot = decode_slot(stored.body, lsn=lsn, shard=shard, name=key, kind=kind)
        assert slot.prev_hash == chain, f"slot {key} does not continue the one before"
        chain = slot.digest
        yield slot, stored.at - EPOCH


def read_log(bucket: Bucket, prefix: str, shard: UUID, origin: Log | None = None) -> Log:
    """Replays a collection's log, one dictionary after the other. A clone's goes on from what its origin's told."""
    key = f"{prefix}/head"
    first = decode_head(bucket.heads[key][0], shard=shard, name=key)
    log, seen = Log(), set()
    assert origin is not None or first.folded == 1, f"{key} begins with slot {first.folded}, and is no clone's"
    if origin is not None:
        log.times, log.states = [0.0] * (first.folded - 1), origin.states[: first.folded]
    snapshots = _manifests(bucket, prefix, shard)
    for slot, time in _slots(bucket, prefix, shard, KIND_SLOT, first):
        state, written = dict(log.states[-1]), set[str]()
        for batch in slot.batches:
            assert batch.uuid not in seen, f"batch {batch.uuid} is in the log twice, again in slot {slot.lsn}"
            seen.add(batch.uuid)
            found = marks(batch)
            for mark in found:
                log.at.setdefault(mark, []).append(slot.lsn)
                log.deleted[mark] = sum(len(named.ids) for named in batch.operations if isinstance(named, Delete))
            for operation in batch.operations:
                ids = set(getattr(operation, "ids", ()))
                assert not ids & written, f"slot {slot.lsn} writes {ids & written} twice: its version has two contents"
                written |= ids
                if isinstance(operation, Revert):
                    log.reverts[slot.lsn] = snapshots[operation.uuid]
                    log.reverted[batch.uuid] = slot.lsn
                    state = dict(log.states[snapshots[operation.uuid]])
                if log.sealed == float("inf"):
                    _apply(operation, state, slot.lsn, log, time)
        log.times.append(time)
        log.states.append(state)
    return log


def _lent(bucket: Bucket) -> dict[tuple[UUID, int], tuple[UUID, Lsn]]:
    """By clone and shard: the collection that it was made from, and the slot."""
    found = {}
    for key, bodies in bucket.heads.items():
        if "/cat/" in key:
            continue
        collection, _, number = key.removesuffix("/head").rpartition("/c/")[2].partition("/")
        for body in bodies:
            head = decode_head(body, shard=shard_uuid(UUID(collection), int(number, 16)), name=key)
            for pin in head.lent:
                found[pin.borrower, int(number, 16)] = (UUID(collection), pin.lsn)
    return found


def _manifests(bucket: Bucket, prefix: str, shard: UUID) -> dict[UUID, Lsn]:
    """Of which slot each snapshot is that was ever made."""
    found = {}
    for key, stored in bucket.created.items():
        if key.startswith(f"{prefix}/man/"):
            manifest = decode_head(stored.body, shard=shard, name=key, kind=KIND_MANIFEST)
            found[UUID(key.rpartition("-")[2])] = manifest.folded - 1
    return found


def _apply(operation: object, state: State, lsn: Lsn, log: Log, time: float) -> None:
    match operation:
        case Upsert(ids, vectors, payloads):
            for id_, vector, payload in zip(ids, vectors, payloads, strict=True):
                state[id_] = Point(id_, vector, payload, lsn)
        case Delete(ids):
            for id_ in ids:
                state.pop(id_, None)
        case Patch(ids, patches):
            for id_, patch in zip(ids, patches, strict=True):
                if id_ in state:
                    old = state[id_]
                    state[id_] = Point(id_, old.vector, merge_patch(old.payload_json, patch), lsn)
        case Seal():
            log.sealed = time


class Oracle:
    """Judges a history by the logs of the bucket. Raises AssertionError with what was wrong."""

    def __init__(self, bucket: Bucket, catalogue: str, tenant: UUID) -> None:
        self.logs: dict[UUID, list[Log]] = {}
        self.alive: list[tuple[float, float]] = []
        lent = _lent(bucket)
        for slot, time in _slots(bucket, catalogue, tenant, KIND_CATALOGUE_SLOT, Head(0, tenant)):
            for batch in slot.batches:
                for operation in batch.operations:
                    if isinstance(operation, Once):
                        continue
                    assert isinstance(operation, Entry)
                    change = msgspec.json.decode(operation.json)
                    uuid = UUID(change["uuid"])
                    if change["op"] == "create":
                        self.logs[uuid] = logs = []
                        for number in range(change["shard_count"]):
                            origin = lent.get((uuid, number))
                            before = None if origin is None else self.logs[origin[0]][number]
                            prefix = f"t/{tenant}/c/{uuid}/{number:04x}"
                            logs.append(read_log(bucket, prefix, shard_uuid(uuid, number), before))
                            logs[-1].origin = origin
                        if change["name"] == NAME:
                            self.alive.append((time, min(log.sealed for log in logs)))

    def judge(self, history: History) -> None:
        for write in history.writes:
            if write.collection in self.logs:
                self._write(write, self.logs[write.collection])
        self._order(history.writes)
        for read in history.reads:
            self._read(read, self.logs[read.collection], history)
        for snapped in history.snapped:
            self._snapped(snapped, self.logs[snapped.collection], history)
        for missing in history.missing:
            self._missing(missing)
        for cloned in history.cloned:
            self._cloned(cloned, history)
        assert not history.failures, history.failures

    def _write(self, write: Write, logs: list[Log]) -> None:
        told = f"write {write.mark} ({write.began:.3f} to {write.ended:.3f}), told {write.outcome} {write.lsn}"
        found = [lsn for number in write.parts for lsn in logs[number].at.get(write.mark, [])]
        if write.outcome == "done" and write.lsn:  # 0: each part was told by an answer about another's failure
            assert max(found, default=0) == write.lsn, f"{told}, is in the logs {found}"
            deleted = sum(logs[number].deleted.get(write.mark, 0) for number in write.parts)
            assert write.deleted in (None, deleted), f"{told}: {write.deleted} deleted"
        for number, part in write.parts.items():
            expected = {id_: seen for id_, seen in write.expected.items() if _shard(id_, len(logs)) == number}
            self._part(write, part, expected, logs[number], f"{told}, in shard {number} {part.outcome}")
        for number in set(range(len(logs))) - set(write.parts):
            assert write.mark not in logs[number].at, f"{told}, is in shard {number}"

    def _part(self, write: Write, part: Part, expected: dict[str, int], log: Log, told: str) -> None:
        where = log.at.get(write.mark, [])
        assert len(where) <= 1, f"{told}, is in the log {where}"
        if part.outcome == "done":
            assert len(where) == 1, f"{told}, is in the log {where}"
            for id_, version in expected.items():
                point = log.states[where[0] - 1].get(id_)
                is_now = 0 if point is None else point.version
                assert is_now == version, f"{told}: {id_} had version {is_now}, the write expected {version}"
        if part.outcome == "refused":
            assert where == [], f"{told}, is in the log {where}"
        if part.refusal == "condition":
            self._refusal(write, expected, log, told)
        for lsn in where:
            assert log.times[lsn - 1] >= write.began, f"{told}: it is in the log before it was asked for"
            assert part.outcome != "done" or log.times[lsn - 1] <= write.ended, f"{told}: acknowledged before it was"

    def _refusal(self, write: Write, expected: dict[str, int], log: Log, told: str) -> None:
        """Some state that there was during the call must have refused it, after all acknowledged before the call."""
        states = log.states[log.length_at(write.began) : log.length_at(write.ended) + 1]

        def refuses(state: State) -> bool:
            return any((state[id_].version if id_ in state else 0) != seen for id_, seen in expected.items())

        assert any(map(refuses, states)), f"{told}: its condition {expected} held all the time"

    def _order(self, writes: list[Write]) -> None:
        """Of two acknowledged writes of which one ended before the other began, it comes first in every shard."""
        known = sorted((write for write in writes if write.collection in self.logs), key=lambda write: write.began)
        for i, later in enumerate(known):
            for earlier in known[:i]:
                if earlier.collection == later.collection and earlier.ended < later.began:
                    for number in set(self._places(earlier)) & set(self._places(later)):
                        first, second = self._places(earlier)[number], self._places(later)[number]
                        assert first < second, f"{later.mark} at {second} is before {earlier.mark}"

    def _places(self, write: Write) -> dict[int, Lsn]:
        """By the number of the shard: where the acknowledged parts of a write are."""
        logs = self.logs[write.collection]
        return {
            number: logs[number].at[write.mark][0] for number, part in write.parts.items() if part.outcome == "done"
        }

    def _read(self, read: Read, logs: list[Log], history: History) -> None:
        told = f"{read.consistency} read ({read.began:.3f} to {read.ended:.3f}) of slots {read.lsns}"
        known = [0] * len(logs)
        if read.consistency == "strong":
            for write in history.writes:
                if write.collection == read.collection and write.ended < read.began:
                    for number, lsn in self._places(write).items():
                        known[number] = max(known[number], lsn)
            for other in history.reads:
                if other.collection == read.collection and other.ended < read.began:
                    known = list(map(max, known, other.lsns))
        state: State = {}
        for log, lsn, least, before in zip(logs, read.lsns, read.least, known, strict=True):
            assert lsn <= log.length_at(read.ended), f"{told}: there was no slot {lsn} yet"
            assert lsn >= least, f"{told}: it asked for slot {least}"
            assert lsn >= before, f"{told}: slot {before} was known to somebody before"
            state.update(log.states[lsn])
        expected = [state[id_] for id_ in sorted(state)]
        assert read.count == len(state), f"{told}: counted {read.count} points, there are {len(state)}"
        assert list(map(_told, read.points)) == list(map(_told, expected)), f"{told}: other points than the log"
        matching = sum(1 for point in expected if (point.payload or {}).get("odd") is True)
        assert read.matching == matching, f"{told}: {read.matching} points match, of the log {matching}"
        distances = sorted((float(np.linalg.norm(point.vector - read.query)), point.id) for point in expected)
        assert [id_ for id_, _ in read.nearest] == [id_ for _, id_ in distances[: len(read.nearest)]], told
        assert len(read.nearest) == min(5, len(state)), told

    def _snapped(self, snapped: Snapped, logs: list[Log], history: History) -> None:
        if len(logs) > 1:
            self._snapped_in_shards(snapped, logs, history)
            return
        (log,) = logs
        told = f"snapshot of slot {snapped.lsn} ({snapped.began:.3f} to {snapped.ended:.3f})"
        assert snapped.lsn <= log.length_at(snapped.ended), f"{told}: there was no such slot yet"
        if snapped.at:
            assert log.reverts.get(snapped.at) == snapped.lsn, f"{told}: slot {snapped.at} does not revert to it"
            assert snapped.began <= log.times[snapped.at - 1] <= snapped.ended, f"{told}: reverted at another time"
        elif snapped.points is not None:
            state = log.states[snapped.lsn]
            assert list(map(_told, snapped.points)) == [_told(state[id_]) for id_ in sorted(state)], told
        else:
            done = [write for write in history.writes if write.outcome == "done" and _before(write, snapped)]
            assert snapped.lsn >= max((write.lsn for write in done), default=0), f"{told}: it lacks acknowledged writes"

    def _snapped_in_shards(self, snapped: Snapped, logs: list[Log], history: History) -> None:
        told = f"snapshot of slots {list(snapped.lsns)} ({snapped.began:.3f} to {snapped.ended:.3f})"
        if snapped.batch is not None:
            for log in logs:
                at = log.reverted.get(snapped.batch, 0)
                assert at, f"{told}: a shard does not revert to it, though slot {snapped.at} was told"
                assert snapped.began <= log.times[at - 1] <= snapped.ended, f"{told}: reverted at another time"
            assert snapped.at == max(log.reverted[snapped.batch] for log in logs), told
        if snapped.points is None:
            assert snapped.lsn <= max(log.length_at(snapped.ended) for log in logs), f"{told}: there was no such slot"
            return
        known = [0] * len(logs)
        for write in history.writes if snapped.made else ():
            if _before(write, snapped):
                for number, lsn in self._places(write).items():
                    known[number] = max(known[number], lsn)
        state: State = {}
        for log, lsn, before in zip(logs, snapped.lsns, known, strict=True):
            assert before <= lsn <= log.length_at(snapped.ended), (
                f"{told}: there was no slot {lsn}, or it lacks {before}"
            )
            state.update(log.states[lsn])
        assert list(map(_told, snapped.points)) == [_told(state[id_]) for id_ in sorted(state)], told

    def _cloned(self, cloned: Cloned, history: History) -> None:
        """A clone has all that its origin acknowledged before, and nothing that came after."""
        for number, log in enumerate(self.logs[cloned.collection]):
            assert log.origin is not None, f"collection {cloned.collection} was told to be a clone"
            collection, lsn = log.origin
            told = f"clone {cloned.collection} of slot {lsn} of {collection}"
            assert lsn <= self.logs[collection][number].length_at(cloned.ended), f"{told}: there was no such slot"
            for write in history.writes if cloned.latest else ():
                if write.collection == collection and write.ended < cloned.began:
                    assert self._places(write).get(number, 0) <= lsn, f"{told}: it lacks {write.mark}"

    def _missing(self, missing: Missing) -> None:
        """There must have been a moment without a collection."""
        at = missing.began
        for born, gone in sorted(self.alive):
            if born <= at < gone:
                at = gone
        assert at <= missing.ended, f"a collection was there from {missing.began:.3f} to {missing.ended:.3f}"


def _before(earlier: Write | Read, read: Snapped) -> bool:
    return earlier.collection == read.collection and earlier.ended < read.began


def _shard(id_: str, shards: int) -> int:
    return route([id_], shards)[0][0]


def _told(point: Point) -> tuple[str, bytes, bytes | None, int]:
    assert point.vector is not None
    return point.id, point.vector.tobytes(), point.payload_json, point.version
