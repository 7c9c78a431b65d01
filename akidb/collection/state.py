"""What one node knows of a shard: open segments, the log's tail in memtables, and which rows of each are still true.

Nothing here does I/O. One change at a time (shard.py sees to that), on the event loop or, where it takes long, in a
thread; readers use immutable snapshots and never wait for a change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from uuid import UUID

import numpy as np
import numpy.typing as npt

from akidb.collection.requests import Requests, RequestsObject, Written
from akidb.errors import CorruptionError
from akidb.manifest import Head, Pin, RequestsRef, SegmentRef
from akidb.query import Part, Snapshot
from akidb.segment import MemTable, MemView, Segment, merge_patch
from akidb.types import CollectionSpec, IndexParams, IndexState, Lsn
from akidb.wal import Delete, Patch, Seal, Slot, Unpin, Upsert


class LiveSegment:
    """An open segment and the rows of it that no later operation replaced or deleted."""

    def __init__(self, ref: SegmentRef, reader: Segment, live: npt.NDArray[np.bool_] | None = None) -> None:
        self.ref = ref
        self.reader = reader
        self._live = np.ones(reader.rows, np.bool_) if live is None else live
        self.live_rows = int(np.count_nonzero(self._live))
        self._shared = False

    @property
    def live(self) -> npt.NDArray[np.bool_]:
        """The mask as it is now; the array is never changed after it was handed out."""
        self._shared = True
        return self._live

    def built_with(self, index: IndexParams) -> bool:
        """Whether its graph is one that these parameters ask for, but for its codes."""
        return self._graph_params[:2] == (index.m, index.ef_construction)

    def serves(self, index: IndexParams) -> bool:
        """Whether its graph is as these parameters ask for."""
        return self.built_with(index) and index.code_bits in ("auto", self._graph_params[2])

    @cached_property
    def _graph_params(self) -> tuple[int, int, int]:
        """m, ef_construction and code bits of the graph, zeros without one; raises CorruptionError."""
        graph = self.reader.graph if self.ref.has_graph else None
        return (0, 0, 0) if graph is None else (graph.m, graph.ef_construction, graph.code_bits)

    def kill(self, ids: Sequence[str]) -> None:
        """Marks the rows of these ids dead. Of a segment whose ids are damaged nobody reads rows; what is dead of it is
        told anew with the state that is made once it is whole."""
        if self.reader.lost_ids:
            return
        try:
            rows = self.reader.find(ids)
        except CorruptionError as damage:  # the slot is in the log, and is true whatever happened to this file
            self.reader.quarantine(damage)
            return
        rows = rows[rows >= 0]
        rows = rows[self._live[rows]] if len(rows) else rows
        if not len(rows):
            return
        if self._shared:  # a snapshot holds the array: copy on write
            self._live, self._shared = self._live.copy(), False
        self._live[rows] = False
        self.live_rows -= len(np.unique(rows))

    def replaced_by(self, ref: SegmentRef, reader: Segment) -> LiveSegment:
        """The same rows in another object (a graph was added): the mask goes on."""
        return LiveSegment(ref, reader, self._live.copy())  # snapshots hold this one's array

    def part(self) -> Part:
        live = None if self.live_rows == self.reader.rows else self.live
        return Part(self.reader, live)


@dataclass(frozen=True, slots=True, eq=False)
class Copied:
    """A row of a segment whose vector the patch in slot `lsn` took over."""

    lsn: Lsn
    reader: Segment
    row: int


@dataclass(frozen=True, slots=True)
class Frozen:
    """What a fold works on: the state after every operation with LSN < `folded`, and the HEAD it replaces."""

    head: Head
    folded: Lsn
    chain: bytes
    sealed: bool
    views: tuple[MemView, ...]
    segments: tuple[tuple[LiveSegment, npt.NDArray[np.bool_], int], ...]
    requests: Mapping[UUID, Written]
    reverted_at: Lsn
    reverted_by: UUID
    unpinned: frozenset[UUID]
    copied: tuple[Copied, ...] = ()

    @property
    def live_rows(self) -> int:
        """Points that there are, and that a fold must leave."""
        return sum(view.live_rows for view in self.views) + sum(live_rows for _, _, live_rows in self.segments)


class ShardState:
    """Applies slots in order. `applied` is the last one's LSN, `chain` the hash that the next one must name.
    `lazy_fields` is the memtable's."""

    def __init__(
        self,
        spec: CollectionSpec,
        head: Head,
        segments: Sequence[LiveSegment],
        requests: Mapping[RequestsRef, RequestsObject],
        *,
        lazy_fields: bool = False,
    ) -> None:
        self.spec = spec
        self.head = head
        self.segments = list(segments)
        self.applied: Lsn = head.folded - 1
        self.chain = head.chain
        self.sealed = head.sealed
        self.frozen: list[MemTable] = []
        self.active = MemTable(spec, lazy_fields=lazy_fields)
        self.slots_in_tail = 0
        self.requests = Requests(requests)
        self.before: ShardState | None = None
        """What the revert in slot `reverted_at` found, as long as slots of it are not folded: those come first."""
        self.reverted_at: Lsn = 0
        """The slot whose revert made this state, while it is not folded: HEAD names other segments than these."""
        self.reverted_by = UUID(int=0)
        """The batch that it was."""
        self.unpinned: set[UUID] = set()
        """Snapshots that HEAD names and that slots of the tail dropped."""
        self._batches: dict[UUID, Lsn] = {}
        self._copied: list[Copied] = []
        self._touched: set[str] | None = None
        self._snapshot: Snapshot | None = None

    def apply(self, slot: Slot) -> None:
        for batch in slot.batches:
            if batch.uuid in self._batches:
                continue
            for operation in batch.operations:
                if self.sealed:
                    break
                self._apply(operation, slot.lsn)
            if batch.revert is not None and not self.sealed:  # the state was made for it: see `reverted`
                self.reverted_at, self.reverted_by = slot.lsn, batch.uuid
            # Not before: a failed apply is repeated, and repeating changes nothing.
            self._batches[batch.uuid] = slot.lsn
            self.requests.note(batch, slot.lsn)
        self.applied = slot.lsn
        self.chain = slot.digest
        self.slots_in_tail += 1
        self._snapshot = None  # last: until here readers get the state before

    def _apply(self, operation: object, lsn: Lsn) -> None:
        match operation:
            case Upsert(ids, vectors, payloads):
                self._replace_elsewhere(ids)
                self.active.apply_upsert(ids, vectors, payloads, lsn)
            case Delete(ids):
                self._replace_elsewhere(ids)
                self.active.apply_delete(ids, lsn)
            case Patch(ids, patches):
                for id_, patch in zip(ids, patches, strict=True):
                    self._patch(id_, patch, lsn)
            case Unpin(uuid):
                self.unpinned.add(uuid)
            case Seal():
                self.sealed = True

    def has_applied(self, batch: UUID) -> bool:
        """Whether the tail holds the batch."""
        return batch in self._batches

    def find_batch(self, batch: UUID) -> Lsn | None:
        """The slot of the tail that holds the batch."""
        return self._batches.get(batch)

    def tells_since(self, lsn: Lsn) -> bool:
        """Whether `find_batch` knows of all slots after `lsn`: none of them is folded."""
        return self.head.folded <= lsn + 1

    def reverted(self, segments: Sequence[LiveSegment]) -> ShardState:
        """A state at the same slot with the points of a snapshot, to which the slot that reverts is applied next.

        Which requests were made and which batches are in the log stays as it is: those are not points.
        """
        state = ShardState(self.spec, self.head, segments, self.requests.folded)
        state.requests.tail = dict(self.requests.tail)
        state.before = self if self.applied >= self.head.folded else None
        state.applied, state.chain, state.sealed = self.applied, self.chain, self.sealed
        state.slots_in_tail, state.unpinned, state._batches = (
            self.slots_in_tail,
            set(self.unpinned),
            dict(self._batches),
        )
        return state

    def comes_to(self, head: Head, ours: Head | None) -> bool:
        """Whether the change that made `ours` of this state's HEAD makes it a state of `head`.

        Never after a revert that is not folded: the segments are the snapshot's, of which rows may live that are dead
        in HEAD's.
        """
        same = ours is not None and (ours.folded, ours.segments) == (head.folded, head.segments)
        return same and {segment.ref for segment in self.segments} == set(self.head.segments)

    @property
    def oldest(self) -> ShardState:
        """The state that is to be folded next: no fold goes beyond a revert, so that HEAD tells once what it found."""
        return self if self.before is None else self.before.oldest

    def pin(self, name: str) -> Pin | None:
        """The user's snapshot of that name."""
        return next((pin for pin in self.pins if pin.name == name), None)

    @property
    def pins(self) -> list[Pin]:
        """The users' snapshots."""
        return [pin for pin in self.head.pins if pin.uuid not in self.unpinned and not pin.clone]

    def take_head(self, head: Head) -> None:
        """Goes on with a HEAD that names the same segments."""
        self.head = head
        if self.before is not None:
            self.before.take_head(head)

    def _replace_elsewhere(self, ids: Sequence[str]) -> None:
        for memtable in self.frozen:
            memtable.apply_delete(ids, 0)
        for segment in self.segments:
            segment.kill(ids)
        if self._touched is not None:
            self._touched.update(ids)

    def _patch(self, id_: str, patch: bytes, lsn: Lsn) -> None:
        """Payload merge (RFC 7396); a point that went away before the patch came to its turn stays away."""
        old = self._lookup(id_, lsn)
        if old is None:
            return
        vector, payload = old
        self._apply(Upsert([id_], vector[None, :], [merge_patch(payload, patch)]), lsn)

    def _lookup(self, id_: str, lsn: Lsn) -> tuple[npt.NDArray[np.float32], bytes | None] | None:
        """Vector and payload of a live point, newest first, for slot `lsn` to go on with. Raises CorruptionError."""
        for memtable in (self.active, *reversed(self.frozen)):
            found = memtable.lookup(id_)
            if found is not None:
                return found
        for segment in self.segments:
            reader = segment.reader
            row = int(reader.find([id_])[0])
            if row >= 0 and segment._live[row]:
                reader.check()
                self._copied.append(Copied(lsn, reader, row))
                return np.array(reader.vectors[row]), reader.payloads([row])[0]
        return None

    def snapshot(self) -> Snapshot:
        """The state as it is now, immutable, for searches in other threads; cached until something is applied."""
        if self._snapshot is None:
            parts = [segment.part() for segment in self.segments if segment.live_rows]
            parts += [Part(memtable.snapshot()) for memtable in (*self.frozen, self.active) if memtable.rows]
            self._snapshot = Snapshot(tuple(parts), (self.applied,), self.spec)
        return self._snapshot

    @property
    def latest(self) -> Snapshot | None:
        """The snapshot that somebody made of the present state, if anybody did. Any thread may look."""
        return self._snapshot

    @property
    def touched(self) -> int:
        """Ids written or deleted since `freeze`."""
        return len(self._touched or ())

    @property
    def tail_rows(self) -> int:
        """Live points that are in no segment yet."""
        return sum(table.live_rows for table in (*self.frozen, self.active))

    @property
    def tail_bytes(self) -> int:
        return sum(table.bytes for table in (*self.frozen, self.active))

    @property
    def tail_wants_graph(self) -> bool:
        return self.spec.index.wants_graph(self.tail_rows)

    def wants_graph(self, segment: LiveSegment) -> bool:
        if not self.spec.index.wants_graph(segment.live_rows) or segment.reader.damage is not None:
            return False
        try:
            return not segment.serves(self.spec.index)
        except CorruptionError:  # searches tell of it; what is damaged is not rewritten
            return False

    def index_state(self, built: int = 0) -> IndexState:
        """Points in graphs (or for good without one), and points that will get one, less `built` of one under way."""
        pending = sum(segment.live_rows for segment in self.segments if self.wants_graph(segment))
        pending += self.tail_rows if self.tail_wants_graph else 0
        total = sum(segment.live_rows for segment in self.segments) + self.tail_rows
        remaining = max(0, pending - built) if pending else 0
        return IndexState("building" if pending else "ready", total - remaining, remaining)

    def take_spec(self, spec: CollectionSpec) -> None:
        """Goes on with other index parameters; a snapshot taken before is searched with those of before."""
        self.spec = spec
        self._snapshot = None

    def add(self, segment: LiveSegment) -> None:
        """Takes one of HEAD's segments that was not open before; its rows that the tail replaced are dead already."""
        self.segments.append(segment)
        self._snapshot = None

    def freeze(self) -> Frozen:
        """Closes the active memtable and says what a fold up to `applied` is to write."""
        if self.active.rows:
            self.frozen.append(self.active)
            self.active = MemTable(self.spec)
        self._touched = set()
        self._snapshot = None
        views = tuple(memtable.snapshot() for memtable in self.frozen)
        segments = tuple((segment, segment.live, segment.live_rows) for segment in self.segments)
        return Frozen(
            self.head, self.applied + 1, self.chain, self.sealed, views, segments, dict(self.requests.tail),
            self.reverted_at, self.reverted_by, frozenset(self.unpinned), tuple(self._copied),
        )  # fmt: skip

    def install_fold(
        self,
        head: Head,
        refs: Mapping[UUID, SegmentRef],
        frozen: Frozen,
        new: LiveSegment | None,
        requests: Mapping[RequestsRef, RequestsObject],
    ) -> None:
        """Takes the folded state. Rows of the new segment that were replaced or deleted since `frozen` die at once."""
        self.segments = [segment for segment in self.segments if segment.ref.uuid in refs]
        for segment in self.segments:
            segment.ref = refs[segment.ref.uuid]
        if new is not None:
            new.kill(list(self._touched or ()))
            self.segments.append(new)
        self.frozen, self._touched = [], None
        self._batches = {uuid: lsn for uuid, lsn in self._batches.items() if lsn >= head.folded}
        self.requests.install(requests, head.folded)
        self._copied = [copied for copied in self._copied if copied.lsn >= head.folded]
        self.unpinned -= frozen.unpinned
        self.reverted_at = 0
        self.head = head
        self.slots_in_tail = self.applied + 1 - head.folded
        self._snapshot = None

    def install_graph(self, head: Head, old: UUID, ref: SegmentRef, reader: Segment) -> None:
        """Takes the same rows with a graph."""
        for i, segment in enumerate(self.segments):
            if segment.ref.uuid == old:
                self.segments[i] = segment.replaced_by(ref, reader)
        self.head = head
        self._snapshot = None

    def install_compaction(
        self, head: Head, inputs: Sequence[tuple[UUID, npt.NDArray[np.int64]]], new: LiveSegment | None
    ) -> None:
        """Takes segments that were merged into `new`, which has the given rows of each, one after another."""
        by_uuid = {segment.ref.uuid: segment for segment in self.segments}
        self.segments = [segment for segment in self.segments if segment.ref.uuid not in dict(inputs)]
        if new is not None:
            live = np.concatenate([by_uuid[uuid]._live[rows] for uuid, rows in inputs])
            self.segments.append(LiveSegment(new.ref, new.reader, live))
        self.head = head
        self._snapshot = None
