"""A store far away, that counts what is read of it and, if asked, answers in rounds."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from akidb.storage.memory import MemoryStore
from akidb.storage.object_store import Reply
from akidb.storage.wrapper import StoreWrapper

STILL_SECS = 0.3


class Bucket(StoreWrapper):
    """A store far away: what is fetched from it is counted, in whole objects, ranges and dependent rounds."""

    can_delete = False

    def __init__(self, inner: MemoryStore) -> None:
        super().__init__(inner)
        self.ranges: list[tuple[str, int]] = []
        self.fetched: set[str] = set()
        self.open = asyncio.Event()
        self.open.set()
        self.damaged = 0
        self.spoils = range(0)
        """Places in objects: what is read from them is damaged, however often."""
        self.rounds = 0
        self._waiting: list[asyncio.Event] = []

    async def has_local(self, key: str) -> bool:
        return key in self.fetched

    async def local_path(self, key: str) -> Path | None:
        await self.open.wait()
        path = await super().local_path(key)
        self.fetched.add(key)
        return path

    async def get(
        self, key: str, *, byte_range: tuple[int, int] | None = None, if_none_match: str | None = None
    ) -> Reply:
        reply = await super().get(key, byte_range=byte_range, if_none_match=if_none_match)
        if byte_range is not None:
            self.ranges.append((key, len(reply.body)))
            if self.damaged or byte_range[0] in self.spoils:
                self.damaged -= bool(self.damaged)
                return replace(reply, body=reply.body[:-1] + bytes([reply.body[-1] ^ 1]))
        return reply

    @property
    def range_bytes(self) -> int:
        return sum(size for _, size in self.ranges)


class SlowBucket(Bucket):
    """Answers nothing until all requests that can be made without an answer are made: a dependent round."""

    slow = False

    async def _turn(self) -> None:
        if self.slow:
            answer = asyncio.Event()
            self._waiting.append(answer)
            await answer.wait()

    async def get(
        self, key: str, *, byte_range: tuple[int, int] | None = None, if_none_match: str | None = None
    ) -> Reply:
        await self._turn()
        return await super().get(key, byte_range=byte_range, if_none_match=if_none_match)

    async def list_from(self, prefix: str, start_after: str | None = None):  # type: ignore[no-untyped-def, override]
        await self._turn()
        async for info in super().list_from(prefix, start_after):
            yield info

    async def answer_in_rounds(self) -> None:
        while True:
            waiting = 0
            while len(self._waiting) != waiting or not waiting:
                waiting = len(self._waiting)
                await asyncio.sleep(STILL_SECS)
            answered, self._waiting = self._waiting, []
            self.rounds += 1
            for answer in answered:
                answer.set()
