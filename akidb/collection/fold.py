"""Fold: the log's tail becomes a segment, and HEAD says so by one compare-and-swap.

Nothing a reader sees changes by it. A node that dies anywhere in between leaves objects that no HEAD names.
"""

from __future__ import annotations

import asyncio
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol
from uuid import UUID, uuid4

import numpy as np

from akidb.collection.requests import put_requests
from akidb.collection.shard import Shard
from akidb.collection.state import Frozen, LiveSegment
from akidb.manifest import (
    DELETES,
    EPOCHS_OPEN,
    SEGMENTS,
    Head,
    Pin,
    RequestsRef,
    SegmentRef,
    before_revert,
    object_key,
    part_of,
)
from akidb.segment import ID_REGIONS, Mask, Segment, Source, encode_deletes, verify_vectors, write_segment
from akidb.storage.scratch import scratch
from akidb.types import CollectionSpec, Lsn
from akidb.wal import collect


@dataclass(frozen=True)
class Written:
    """A segment's file, and how HEAD will name it."""

    ref: SegmentRef
    path: Path


async def fold(shard: Shard, spared: Container[UUID] = ()) -> bool:
    """Folds all that is applied, or all before the first revert in it. False if there was nothing to fold, or another
    node's fold came first.

    The fold that begins with a revert keeps what HEAD named until then as a snapshot, so that a revert can be reverted.
    `spared` are segments that are left as they are.

    Raises:
        UnavailableError, StorageFullError: the store; the tail stays in memory and in the log, the next fold takes it.
        CorruptionError: a segment that the tail's meaning depends on is damaged.
    """
    async with shard.changing:
        state = shard.state.oldest
        if state.applied < state.head.folded:
            return False
        frozen = state.freeze()
    epoch = frozen.head.gc_epoch
    absorbed = choose_absorbed(frozen, shard.spec, shard.settings.compaction.target_bytes, spared)
    kept = [entry for entry in frozen.segments if entry not in absorbed]
    sources = [Source(view, view.live) for view in frozen.views]
    sources += [Source(segment.reader, live) for segment, live, _ in absorbed]
    rows = sum(view.live_rows for view in frozen.views) + sum(live_rows for _, _, live_rows in absorbed)
    await shard.workers.run(shard.workers.background, partial(_verify, frozen, kept))
    with scratch("fold") as folder:
        written = await write(shard, sources, frozen.folded - 1, folder, epoch) if rows else None
        async with shard.store.lock(shard.prefix, exclusive=False):
            refs = await _put_deletes(shard, kept, epoch)
            requests = await put_requests(
                shard.store, shard.prefix, shard.heads, frozen.requests, state.requests, epoch
            )
            before = await _put_before(shard, frozen)
            if written is not None:
                await shard.store.put(written.ref.key, written.path)
            head = await shard.heads.swap(lambda head: _folded(head, frozen, refs, written, tuple(requests), before))
    if head is None:
        await shard.refresh()
        return False
    new = None if written is None else await shard.opener.segment(written.ref)
    async with shard.changing:
        if shard.state is state:
            await shard.change(partial(state.install_fold, head, refs, frozen, new, requests), rows=state.touched)
            return True
    await shard.refresh()
    return True


def choose_absorbed(
    frozen: Frozen, spec: CollectionSpec, target_bytes: int, spared: Container[UUID] = ()
) -> list[tuple[LiveSegment, Mask, int]]:
    """Small segments that the fold rewrites: smallest first, as long as each is no larger than all before it together.

    So sizes double, and single upserts do not make thousands of segments. Those with a graph are left to compaction,
    which reuses it, unless no row of them lives; so are those in `spared`, which it is at work on, and damaged ones.
    """
    total = sum(view.live_rows for view in frozen.views)
    rows_max = target_bytes // (4 * spec.dim)
    chosen = []
    for entry in sorted(frozen.segments, key=lambda entry: entry[2]):
        segment, _, live_rows = entry
        if segment.ref.uuid in spared or (segment.ref.has_graph and live_rows) or segment.reader.damage is not None:
            continue
        if total + live_rows <= rows_max and live_rows <= total:
            chosen.append(entry)
            total += live_rows
    return chosen


def _verify(frozen: Frozen, kept: Sequence[tuple[LiveSegment, Mask, int]]) -> None:
    """What is put below fresh checksums without being written from the segments themselves: which rows of them died was
    told by their ids, and patches took vectors over. Raises CorruptionError."""
    for segment, _, _ in kept:
        segment.reader.verify(ID_REGIONS)
    rows: dict[Segment, list[int]] = {}
    for copied in frozen.copied:
        rows.setdefault(copied.reader, []).append(copied.row)
    for reader, some in rows.items():
        verify_vectors(reader, np.array(some, np.int64))


def _folded(
    head: Head,
    frozen: Frozen,
    refs: dict[UUID, SegmentRef],
    written: Written | None,
    requests: tuple[RequestsRef, ...],
    before: Sequence[Pin],
) -> Head | None:
    """HEAD after the fold, or None if it does not hold what the fold began from (a graph may have been added since).

    It names what the fold began from and did not absorb: HEAD's segments or, after a revert, the snapshot's.

    Raises:
        AssertionError: rows would be lost or doubled, which would be a bug of ours; nothing was sent.
    """
    if (head.folded, head.segments) != (frozen.head.folded, frozen.head.segments):
        return None
    if too_old(head, frozen.head.gc_epoch):
        return None
    segments = tuple(refs.values())
    if written is not None:
        segments += (written.ref,)
    if sum(ref.live for ref in segments) != frozen.live_rows:  # not an assert: python -O must not switch it off
        raise AssertionError(f"a fold of {frozen.live_rows} live rows would leave {segments}")
    return replace(
        head,
        segments=segments,
        folded=frozen.folded,
        chain=frozen.chain,
        live_count=sum(ref.live for ref in segments),
        sealed=frozen.sealed,
        requests=requests,
        pins=(*(pin for pin in head.pins if pin.uuid not in frozen.unpinned), *before),
    )


def too_old(head: Head, epoch: int) -> bool:
    """Whether objects made in `epoch` may not be named any more: a collector may have seen them without a name."""
    return head.gc_epoch - epoch > EPOCHS_OPEN


async def _put_before(shard: Shard, frozen: Frozen) -> list[Pin]:
    """The snapshot of what a revert found, where the fold begins with one."""
    if not frozen.reverted_at:
        return []
    name = before_revert(frozen.reverted_at, frozen.reverted_by, shard.spec.shard_count)
    if any(pin.name == name for pin in frozen.head.pins):  # a key that was used again after it was forgotten
        name = f"{name}-{frozen.reverted_at}"
    return [await shard.heads.manifests.put(frozen.head, name, part_of(frozen.reverted_by))]


async def write(
    shard: Shard, sources: Sequence[Source], lsn_max: int, folder: Path, epoch: int, graph: memoryview | None = None
) -> Written:
    """Writes one segment file of the live rows of `sources`, in the background threads; `epoch` is HEAD's gc_epoch
    when the work began."""
    uuid = uuid4()
    path = folder / str(uuid)
    stats = await shard.workers.run(
        shard.workers.background,
        lambda: write_segment(path, uuid=uuid, spec=shard.spec, sources=sources, graph=graph),
    )
    key = object_key(shard.prefix, SEGMENTS, epoch, uuid)
    ref = SegmentRef(
        uuid=uuid,
        key=key,
        rows=stats.rows,
        live=stats.rows,
        bytes=stats.bytes,
        lsn_max=lsn_max,
        has_graph=graph is not None,
        coarse_bytes=stats.coarse_bytes,
    )
    return Written(ref, path)


async def _put_deletes(
    shard: Shard, kept: Sequence[tuple[LiveSegment, Mask, int]], epoch: int
) -> dict[UUID, SegmentRef]:
    """The kept segments' references; rows that died since the last fold go into a new deletes object each."""
    refs = {}
    for segment, live, live_rows in kept:
        ref = segment.ref
        if live_rows != ref.live:
            key = object_key(shard.prefix, DELETES, epoch, uuid4())
            await shard.store.put(key, await asyncio.to_thread(encode_deletes, ref.uuid, live))
            ref = replace(ref, live=live_rows, deletes_key=key)
        refs[ref.uuid] = ref
    return refs


async def add_graph(shard: Shard, segment: LiveSegment, graph: memoryview, committing: asyncio.Lock) -> bool:
    """Puts a copy of the segment with its graph and names it in HEAD. False if it was folded away meanwhile.

    `committing` is held while HEAD is changed, not while the copy is written and sent, which writers would wait for.
    """
    epoch = shard.state.head.gc_epoch
    with scratch("graph") as folder:
        written = await write(shard, [Source(segment.reader, None)], segment.ref.lsn_max, folder, epoch, graph)
        async with shard.store.lock(shard.prefix, exclusive=False):
            await shard.store.put(written.ref.key, written.path)
            copy = await shard.opener.segment(written.ref)
            async with committing:
                return await _name_copy(shard, segment.ref.uuid, copy, epoch)


async def _name_copy(shard: Shard, old: UUID, copy: LiveSegment, epoch: int) -> bool:
    state, ref = shard.state, copy.ref
    head = await shard.heads.swap(lambda head: None if too_old(head, epoch) else _with_graph(head, old, ref))
    if head is None:
        await shard.refresh()
        return False
    async with shard.changing:
        ours = _with_graph(state.head, old, ref)
        if shard.state is state and state.comes_to(head, ours):
            state.install_graph(head, old, next(each for each in head.segments if each.uuid == ref.uuid), copy.reader)
            return True
    await shard.refresh()
    return True


def _with_graph(head: Head, old: UUID, new: SegmentRef) -> Head | None:
    """HEAD with the segment replaced by its copy with a graph; None if it does not name it."""
    if all(ref.uuid != old for ref in head.segments):
        return None
    segments = tuple(
        replace(new, live=ref.live, lsn_max=ref.lsn_max, deletes_key=ref.deletes_key) if ref.uuid == old else ref
        for ref in head.segments
    )
    return replace(head, segments=segments)


class Ended(Protocol):
    """The state of a log that a seal ends."""

    applied: Lsn
    chain: bytes
    sealed: bool


async def clear(shard: Shard, state: Ended) -> None:
    """Empties a sealed shard where objects may be deleted: HEAD stays, to tell late readers of the seal, and what
    clones need."""
    assert state.sealed, "only what was dropped may be emptied"

    def emptied(head: Head) -> Head | None:
        if head.sealed:
            return None
        return replace(head.of_dropped(), folded=state.applied + 1, chain=state.chain, live_count=0, sealed=True)

    if shard.store.can_delete:
        await shard.heads.swap(emptied)
        await collect(shard.log, shard.heads, dropped=True)


async def collect_garbage(shard: Shard) -> None:
    """On a store where that is safe, removes folded slots and objects that HEAD does not name."""
    if shard.store.can_delete:
        await collect(shard.log, shard.heads)
        await shard.refresh()  # collecting raised HEAD's `garbage`
