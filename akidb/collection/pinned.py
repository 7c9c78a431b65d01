"""A snapshot with its segments open: for reads as of it, and for the state that a revert to it makes."""

from __future__ import annotations

from dataclasses import dataclass

from akidb.collection.state import LiveSegment
from akidb.manifest import Head
from akidb.query import Snapshot
from akidb.types import CollectionSpec


@dataclass(frozen=True, slots=True, eq=False)
class Pinned:
    """What a manifest says. Its segments are never changed; a state takes its own."""

    manifest: Head
    _segments: tuple[LiveSegment, ...]

    def segments(self) -> list[LiveSegment]:
        """For a state to go on from."""
        return [segment.replaced_by(segment.ref, segment.reader) for segment in self._segments]

    def snapshot(self, spec: CollectionSpec) -> Snapshot:
        """The points as they were."""
        parts = tuple(segment.part() for segment in self._segments if segment.live_rows)
        return Snapshot(parts, (self.manifest.folded - 1,), spec)
