"""A search whose queries were checked and whose time runs: what is left needs a snapshot and a thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from akidb import query
from akidb.errors import CorruptionError
from akidb.query import SearchQuery, Snapshot
from akidb.types import ScoredPoint


@dataclass(frozen=True)
class PreparedSearch:
    """Checked queries: `run` does no I/O, so any thread may do it."""

    queries: Sequence[SearchQuery]
    deadline: float
    max_parallel: int
    on_damage: Callable[[CorruptionError], None]

    def run(self, snapshot: Snapshot) -> list[list[ScoredPoint]]:
        """Raises DeadlineExceededError past the deadline; CorruptionError where a segment is damaged."""
        try:
            return query.execute(snapshot, self.queries, deadline=self.deadline, max_parallel=self.max_parallel)
        except CorruptionError as damage:
            self.on_damage(damage)
            raise
