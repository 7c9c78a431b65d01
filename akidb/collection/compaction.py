"""Compaction: several segments become one, graphs and all, and rows that are dead for good go.

It is physical only: whatever HEAD and the log tell is told by the new HEAD too, so no answer changes, and a node that
dies anywhere in between leaves objects that no HEAD names.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeAlias
from uuid import uuid4

import numpy as np

from akidb.collection.fold import Written, too_old, write
from akidb.collection.shard import Shard
from akidb.collection.state import LiveSegment
from akidb.index import GraphPart
from akidb.manifest import DELETES, Head, SegmentRef, object_key
from akidb.segment import Mask, Rows, Segment, Source, encode_deletes
from akidb.storage.scratch import scratch
from akidb.types import VectorArray

FAN_IN = 4
"""Segments of about one size that are merged together, so a point is rewritten once for each fourfold growth."""

DEAD_SHARE_MAX = 0.25
"""A segment with more dead rows than this is rewritten without them, whatever its size."""

REBASES_MAX = 5
"""How often a merge is fitted to folds that came before its commit."""

BuildGraph: TypeAlias = Callable[[VectorArray, Sequence[GraphPart]], Awaitable[memoryview]]


def choose(refs: Sequence[SegmentRef], target_bytes: int) -> list[SegmentRef]:
    """The segments to be merged next, [] if none are.

    Those below half the target stand in tiers, each with sizes up to four times those of the next. A tier with four
    segments, or two if they make half the target, is merged together with everything smaller, as far as the target
    allows. Where no tier is full, the segment with the largest share of dead rows is rewritten alone once that share is
    above DEAD_SHARE_MAX.
    """
    small = sorted((ref for ref in refs if _size(ref) < target_bytes / 2), key=_size)
    tiers: dict[int, list[SegmentRef]] = {}
    for ref in small:
        tiers.setdefault(math.ceil(math.log(max(_size(ref), 1.0) * 2 / target_bytes, FAN_IN)), []).append(ref)
    for tier in sorted(tiers):
        fits = _as_fit([ref for ref in small if _size(ref) <= _size(tiers[tier][-1])], target_bytes)
        makes_half = sum(map(_size, fits)) >= target_bytes / 2
        if (len(fits) >= FAN_IN and len(tiers[tier]) >= FAN_IN) or (len(fits) >= 2 and makes_half):
            return fits
    dead = max(refs, key=_dead_share, default=None)
    return [dead] if dead is not None and _dead_share(dead) > DEAD_SHARE_MAX else []


def _size(ref: SegmentRef) -> float:
    """Bytes of the live rows."""
    return ref.bytes * ref.live / max(ref.rows, 1)


def _dead_share(ref: SegmentRef) -> float:
    return 1 - ref.live / max(ref.rows, 1)


def _as_fit(ascending: Sequence[SegmentRef], target_bytes: int) -> list[SegmentRef]:
    """The largest ones that make no more than the target together."""
    chosen: list[SegmentRef] = []
    total = 0.0
    for ref in reversed(ascending):
        if total + _size(ref) <= target_bytes:
            chosen.append(ref)
            total += _size(ref)
    return chosen[::-1]


@dataclass(frozen=True, slots=True, eq=False)
class _Input:
    """A segment and the rows of it that HEAD counts as live: what a later slot killed is still true for HEAD.

    `graph` is None where it was built with other parameters than the merged one.
    """

    ref: SegmentRef
    reader: Segment
    rows: Rows
    graph: memoryview | None

    def mask(self) -> Mask:
        mask = np.zeros(self.reader.rows, np.bool_)
        mask[self.rows] = True
        return mask


async def compact(shard: Shard, chosen: Sequence[LiveSegment], build: BuildGraph, committing: asyncio.Lock) -> bool:
    """Merges the chosen segments; False if one of them was folded or merged away meanwhile, and nothing has changed.

    `build` makes the graph over all rows from those of the parts. `committing` is held while HEAD is changed, not while
    the merged segment is written and sent, which writers would wait for.

    Raises:
        UnavailableError, StorageFullError: the store; nothing has changed.
        CorruptionError: a segment fails its checksums.
    """
    epoch = shard.state.head.gc_epoch
    inputs = [await _input(shard, segment) for segment in chosen]
    with scratch("merge") as folder:
        written = await _write(shard, inputs, build, folder, epoch)
        return await _commit(shard, inputs, written, epoch, committing)


async def _input(shard: Shard, segment: LiveSegment) -> _Input:
    ref, reader = segment.ref, segment.reader
    graph = reader.regions["graph"] if segment.built_with(shard.spec.index) else None
    return _Input(ref, reader, np.flatnonzero(await _live(shard, ref, reader)), graph)


async def _live(shard: Shard, ref: SegmentRef, reader: Segment) -> Mask:
    live = await shard.opener.deletes(ref, reader)
    return np.ones(reader.rows, np.bool_) if live is None else live


async def _write(shard: Shard, inputs: Sequence[_Input], build: BuildGraph, folder: Path, epoch: int) -> Written | None:
    """The merged segment's file, None where no row is left."""
    rows = sum(len(each.rows) for each in inputs)
    if not rows:
        return None
    lsn_max = max(each.ref.lsn_max for each in inputs)
    plain = await write(shard, [Source(each.reader, each.mask()) for each in inputs], lsn_max, folder, epoch)
    if not shard.spec.index.wants_graph(rows):
        return plain
    merged = await shard.workers.run(
        shard.workers.background, lambda: Segment.open(plain.path, name=plain.ref.key, verify=False)
    )
    graph = await build(merged.vectors, [GraphPart(each.graph, each.mask()) for each in inputs])
    written = await write(shard, [Source(merged, None)], lsn_max, folder, epoch, graph)
    await asyncio.to_thread(plain.path.unlink)
    return written


@dataclass(frozen=True, slots=True)
class _Named:
    """A HEAD that names `new` in place of `inputs`."""

    head: Head
    inputs: Sequence[SegmentRef]
    new: SegmentRef | None


async def _commit(
    shard: Shard, inputs: Sequence[_Input], written: Written | None, epoch: int, committing: asyncio.Lock
) -> bool:
    async with shard.store.lock(shard.prefix, exclusive=False):
        new = None
        if written is not None:
            await shard.store.put(written.ref.key, written.path)
            new = await shard.opener.segment(written.ref)
        async with committing:
            return await _put_in_place(shard, inputs, new, epoch)


async def _put_in_place(shard: Shard, inputs: Sequence[_Input], new: LiveSegment | None, epoch: int) -> bool:
    state = shard.state
    named = await _name(shard, inputs, None if new is None else new.ref, epoch)
    if named is None:
        await shard.refresh()
        return False
    merged = None if named.new is None else await shard.opener.segment(named.new)
    async with shard.changing:
        ours, head = _compacted(state.head, named.inputs, named.new), named.head
        if shard.state is state and state.comes_to(head, ours):
            state.install_compaction(head, [(each.ref.uuid, each.rows) for each in inputs], merged)
            return True
    await shard.refresh()
    return True


async def _name(shard: Shard, inputs: Sequence[_Input], written: SegmentRef | None, epoch: int) -> _Named | None:
    """Swaps HEAD, again where folds of other nodes came first; None if an input is gone, or `epoch` too old."""

    def change(head: Head, inputs: Sequence[SegmentRef], new: SegmentRef | None) -> Head | None:
        return None if too_old(head, epoch) else _compacted(head, inputs, new)

    for _ in range(REBASES_MAX):
        present = await _present(shard, inputs)
        if present is None:
            return None
        new = None if written is None else await _with_deletes(shard, inputs, present, written, epoch)
        head = await shard.heads.swap(partial(change, inputs=present, new=new))
        if head is not None:
            return _Named(head, present, new)
    return None


async def _present(shard: Shard, inputs: Sequence[_Input]) -> list[SegmentRef] | None:
    """The inputs as HEAD has them now; None if it has not all of them."""
    head, _ = await shard.heads.read()
    refs = {ref.uuid: ref for ref in head.segments}
    found = [refs.get(each.ref.uuid) for each in inputs]
    return None if None in found else [ref for ref in found if ref is not None]


async def _with_deletes(
    shard: Shard, inputs: Sequence[_Input], present: Sequence[SegmentRef], new: SegmentRef, epoch: int
) -> SegmentRef:
    """The merged segment's reference, with what folds found dead in the inputs since they were read."""
    if [each.ref for each in inputs] == list(present):
        return new
    masks = [(await _live(shard, ref, each.reader))[each.rows] for each, ref in zip(inputs, present, strict=True)]
    live = np.concatenate(masks)
    count = int(np.count_nonzero(live))
    if count == new.rows:
        return new
    key = object_key(shard.prefix, DELETES, epoch, uuid4())
    await shard.store.put(key, await asyncio.to_thread(encode_deletes, new.uuid, live))
    return replace(new, live=count, deletes_key=key)


def _compacted(head: Head, inputs: Sequence[SegmentRef], new: SegmentRef | None) -> Head | None:
    """HEAD with the inputs replaced; None if it does not name them just so, or a revert that was folded meanwhile
    brought rows of them back.

    That no row is lost or doubled is an invariant of HEAD: its count of live rows may not change.
    """
    if any(ref not in head.segments for ref in inputs):
        return None
    if sum(ref.live for ref in inputs) != (0 if new is None else new.live):
        return None
    segments = tuple(ref for ref in head.segments if ref not in inputs)
    return replace(head, segments=segments if new is None else (*segments, new))
