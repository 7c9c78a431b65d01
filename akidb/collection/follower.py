"""What a read-only handle does in the background: follow the folds of those who write."""

from __future__ import annotations

import asyncio
from contextvars import Context

from akidb.collection.maintenance import REFRESH_SECS, as_error, report
from akidb.collection.shard import Shard
from akidb.errors import AkiDBError
from akidb.wal import Slot


class Follower:
    """Looks at HEAD a while after slots were applied, so that what others folded leaves this process's memory."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard
        self._news = asyncio.Event()
        self.last_error: AkiDBError | None = None
        shard.on_applied = self._applied
        self._task = asyncio.create_task(self._run(), context=Context())  # not that of who opened the shard

    def _applied(self, slot: Slot) -> None:
        self._news.set()

    async def _run(self) -> None:
        while True:
            await self._news.wait()
            await asyncio.sleep(REFRESH_SECS)
            self._news.clear()
            await self.look()

    async def look(self) -> None:
        """One look, which is repeated later if it fails."""
        try:
            await self._shard.refresh()
            self.last_error = None
        except Exception as failed:  # whatever it was: nobody else would look again
            if self.last_error is None:
                report(f"following HEAD of collection {self._shard.spec.name}", failed)
            self.last_error = as_error(failed)
            self._news.set()

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
