"""Compares the segments that a collection has open with their checksums, in the background; mends or quarantines them.

Opening checks what a wrong bit in would lose points, and what came over a network whole. What goes wrong afterwards, on
a disk or in a cache, would be answered from. A segment that fails is not read any more: who needs it is refused. Then a
copy is fetched again, and an object that is damaged itself is looked at again until somebody has put it back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Sequence
from contextvars import Context
from functools import partial

from akidb.collection.maintenance import report
from akidb.collection.shard import Shard
from akidb.errors import AkiDBError, CorruptionError, UnavailableError
from akidb.segment import Segment, reread
from akidb.telemetry.metrics import METRICS

log = logging.getLogger(__name__)

RATE_BYTES = 32 << 20
"""Bytes per second that are compared, over all collections of the process."""

RETRY_SECS_MIN, RETRY_SECS_MAX = 5.0, 300.0
"""Pauses between looks whether a quarantined object is whole again."""

DOUBT_SECS = 60.0
"""What was compared so lately is not compared again because a search complains."""

_SLEEP_SECS_MAX = 60.0
"""After this it looks for itself whether anything was quarantined by somebody else."""


class Scrubbing:
    """Background work of a collection; `interval_secs` lies between two comparisons of a segment, 0: only of one that
    is in doubt."""

    def __init__(self, shards: Sequence[Shard], interval_secs: float) -> None:
        self._shards = shards
        self._interval_secs = interval_secs
        self._doubted: set[str] = set()
        self._retries: dict[str, tuple[float, float]] = {}
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        for shard in shards:
            shard.opener.on_opened, shard.on_damage = self._wake.set, self.doubt
        self._task = asyncio.create_task(self._run(), context=Context())  # not that of who opened the collection

    @property
    def last_error(self) -> AkiDBError | None:
        """What is damaged, if anything is known to be."""
        return next((shard.damage for shard in self._shards if shard.damage is not None), None)

    @property
    def damaged(self) -> tuple[str, ...]:
        """Keys of the objects that are quarantined."""
        opened = (segment for shard in self._shards for segment in shard.opener.opened)
        return tuple(sorted({segment.name for segment in opened if segment.damage is not None}))

    def doubt(self, error: CorruptionError) -> None:
        """Has the segment that an error is about compared now. Any thread may tell."""
        with contextlib.suppress(RuntimeError):  # the loop ended
            self._loop.call_soon_threadsafe(self._doubt, error.key)

    def _doubt(self, key: str | None) -> None:
        for shard in self._shards:
            for segment in shard.opener.opened:
                lately = time.monotonic() - segment.verified_at < DOUBT_SECS
                if segment.name == key and segment.damage is None and not lately:
                    self._doubted.add(segment.name)
                    self._wake.set()

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            try:
                if not await self._step():
                    await self._sleep()
            except Exception as failed:  # whatever it was: nobody else would go on
                if isinstance(failed, UnavailableError) and failed.code == "closing":
                    return
                report(f"comparing collection {self._shards[0].spec.name} with its checksums", failed)
                await asyncio.sleep(RETRY_SECS_MIN)

    async def _step(self) -> bool:
        """Compares or mends the segment whose turn it is; False if none's is."""
        opened = [(shard, segment) for shard in self._shards for segment in shard.opener.opened]
        shard, segment = min(opened, key=lambda each: self._due(each[1]), default=(None, None))
        if shard is None or segment is None or self._due(segment) > time.monotonic():
            return False
        if segment.damage is None:
            damage = await self._compare(shard, segment)
            self._doubted.discard(segment.name)
            if damage is None:
                segment.verified_at = time.monotonic()
                return True
            await shard.workers.run(shard.workers.verify, partial(segment.quarantine, damage))
            METRICS.checksum_failures.labels("store" if shard.store.can_delete else "cache").inc()
            log.error("%s; it is not read any more", damage)
        await self._mend(shard, segment)
        return True

    def _due(self, segment: Segment) -> float:
        """When it is to be looked at, in time.monotonic() seconds."""
        if segment.damage is not None:
            return self._retries.get(segment.name, (-math.inf, 0.0))[0]
        if segment.name in self._doubted:
            return -math.inf
        return segment.verified_at + self._interval_secs if self._interval_secs else math.inf

    async def _sleep(self) -> None:
        """Until a segment's time has come, or another one is opened or doubted."""
        due = min((self._due(each) for shard in self._shards for each in shard.opener.opened), default=math.inf)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(max(0.0, due - time.monotonic()), _SLEEP_SECS_MAX)):
                await self._wake.wait()

    async def _compare(self, shard: Shard, segment: Segment) -> CorruptionError | None:
        """What is wrong with it; slowly, by a thread that gives way."""
        steps, workers = reread(segment), shard.workers
        async with workers.verifying:
            try:
                while (size := await workers.run(workers.verify, partial(next, steps, 0))) > 0:
                    METRICS.verified_bytes.inc(size)
                    await asyncio.sleep(size / RATE_BYTES)
            except CorruptionError as damage:
                return damage
        return None

    async def _mend(self, shard: Shard, segment: Segment) -> None:
        """Puts a sound file in the place of a damaged one, if there is one to be had, and the state made with it."""
        name, (_, pause) = segment.name, self._retries.get(segment.name, (0.0, RETRY_SECS_MIN))
        try:
            await shard.store.forget_local(name)
            fresh = await shard.opener.reader(name, verify=True)
            await shard.renew()
            if any(part.reader is segment for part in shard.known.segments):
                raise AkiDBError(f"HEAD changed while {fresh.name} was opened anew")
        except AkiDBError as failed:
            self._retries[name] = time.monotonic() + pause, min(2 * pause, RETRY_SECS_MAX)
            log.info("object %s stays quarantined for %.0f s: %s", name, pause, failed)
            return
        self._retries.pop(name, None)
        shard.opener.forget(segment)
        log.warning("object %s is whole again", name)

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
