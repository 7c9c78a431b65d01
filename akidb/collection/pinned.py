"""A snapshot with its segments open: for reads as of it, and for the state that a revert to it makes."""

from __future__ import annotations

from dataclasses import dataclass

from akidb.collection.state import LiveSegment, ShardState
from akidb.manifest import Head
from akidb.query import Snapshot
from akidb.types import CollectionSpec
from akidb.wal import Slot


@dataclass(frozen=True, slots=True, eq=False)
class Pinned:
    """What a manifest says. Its segments are never changed; a state takes its own."""

    manifest: Head
    _segments: tuple[LiveSegment, ...]

    def after(self, state: ShardState, slot: Slot) -> ShardState:
        """The state after a slot that reverts to this; `state` itself where the batch was applied before."""
        if slot.revert is None or not state.has_applied(slot.revert[0]):
            own = [segment.replaced_by(segment.ref, segment.reader) for segment in self._segments]
            state = state.reverted(own)
        state.apply(slot)
        return state

    def snapshot(self, spec: CollectionSpec) -> Snapshot:
        """The points as they were."""
        parts = tuple(segment.part() for segment in self._segments if segment.live_rows)
        return Snapshot(parts, (self.manifest.folded - 1,), spec)
