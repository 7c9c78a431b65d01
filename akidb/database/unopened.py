"""Collections that can't be opened, since an object that this needs is damaged, and when to try again."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from akidb.errors import CorruptionError

log = logging.getLogger(__name__)

RETRY_SECS_MIN, RETRY_SECS_MAX = 1.0, 60.0
"""Between tries, from the second on: what was damaged on its way alone is whole at the next. Each may fetch a whole
segment, and whoever polls would have it fetched at every look."""


@dataclass(frozen=True, slots=True)
class _Met:
    damage: CorruptionError
    pause: float
    again: float  # time.monotonic()


class Unopened:
    def __init__(self) -> None:
        self._met: dict[UUID, _Met] = {}

    def refuse(self, collection: UUID) -> None:
        """Raises the damage that was met last, while it is too early to look again."""
        met = self._met.get(collection)
        if met is not None and time.monotonic() < met.again:
            raise met.damage.with_traceback(None)

    def note(self, collection: UUID, name: str, damage: CorruptionError) -> None:
        met = self._met.get(collection)
        pause = 0.0 if met is None else min(max(RETRY_SECS_MIN, 2 * met.pause), RETRY_SECS_MAX)
        self._met[collection] = _Met(damage, pause, time.monotonic() + pause)
        log.error("collection %s can't be opened, will look again in %.0f s: %s", name, pause, damage)

    def forget(self, collection: UUID) -> None:
        self._met.pop(collection, None)

    def found(self) -> Mapping[UUID, CorruptionError]:
        return {collection: met.damage for collection, met in self._met.items()}
