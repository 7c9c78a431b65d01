"""Snapshots that are made at regular times, so that there is something to read as of a time; old ones are dropped.

Any node that has the collection open makes them. Which there are, and how old by the store's clock, is in HEAD: nodes
that look at once make no more than one each where one was due, and no clock of theirs is asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Sequence
from contextvars import Context

from akidb.collection.maintenance import as_error, report
from akidb.collection.snapshots import Snapshots
from akidb.errors import AkiDBError, ConflictError, NotFoundError
from akidb.manifest import REGULAR, regular
from akidb.types import STRONG, SnapshotInfo

LOOK_SECS_MAX = 60.0
"""How long one look, with what it makes and drops, may take."""


class History:
    """Background work of the collection `name`."""

    def __init__(self, name: str, snapshots: Snapshots, interval_secs: float, keep_secs: float) -> None:
        self.last_error: AkiDBError | None = None
        self._name = name
        self._snapshots = snapshots
        self._interval_secs, self._keep_secs = interval_secs, keep_secs
        self._task = asyncio.create_task(self._run(), context=Context())  # not that of who opened the collection

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(random.uniform(0.25, 0.5) * self._interval_secs)  # noqa: S311 - jitter
            try:
                await self.look()
                self.last_error = None
            except Exception as failed:  # whatever it was: nobody else would go on
                if isinstance(failed, AkiDBError) and failed.code in ("closing", "collection_not_found"):
                    return
                self.last_error = as_error(failed)
                report(f"making a regular snapshot of collection {self._name}", failed)

    async def look(self) -> None:
        """Makes one if it is due and something was written since the last, and drops the old ones.

        Raises:
            AkiDBError: as of Snapshots; the next look goes on.
        """
        deadline = time.monotonic() + LOOK_SECS_MAX
        listed = await self._snapshots.list(STRONG, deadline)
        made = [info for info in listed if REGULAR.fullmatch(info.name) and info.created is not None]
        now = self._snapshots.store_time
        if now is None:
            return
        for name in self._too_old(made, now):
            with contextlib.suppress(NotFoundError):  # another node dropped it
                await self._snapshots.drop(name, deadline)
        if await self._is_due([info for info in made if info.complete], now, deadline):
            try:
                await self._snapshots.create(regular(now), deadline)
            except ConflictError as refused:
                if refused.code != "snapshot_exists":  # another node's, of the same second
                    raise

    def _too_old(self, made: Sequence[SnapshotInfo], now: float) -> list[str]:
        """All that are too old but the newest whole one of them: it is what there is of the time until the next."""
        old = [info for info in made if _age_of(info, now) > self._keep_secs]
        newest = min((info for info in old if info.complete), key=lambda info: _age_of(info, now), default=None)
        return [info.name for info in old if info is not newest]

    async def _is_due(self, made: Sequence[SnapshotInfo], now: float, deadline: float) -> bool:
        if not made:
            return True
        newest = min(made, key=lambda info: _age_of(info, now))
        if _age_of(newest, now) < self._interval_secs:
            return False
        return not await self._snapshots.is_present(newest.name, deadline)

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


def _age_of(info: SnapshotInfo, now: float) -> float:
    assert info.created is not None, "only those of a known time are looked at"
    return now - info.created.timestamp()
