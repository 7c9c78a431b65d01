"""Stores that misbehave on command, over a real one: for tests of what must survive it."""

from __future__ import annotations

import asyncio
import errno
import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from akidb.errors import AkiDBError, UnavailableError
from akidb.storage.memory import MemoryStore
from akidb.storage.object_store import Body, ObjectInfo, ObjectStore, Reply


class FaultyStore:
    """Passes everything to `inner`, but first asks `faults`, then waits in `gate` where a test closed it.

    A fault is a list of steps for the next puts (`put_if_absent`, `put_if_match`) or gets whose key contains a word:
    "lost" loses the request, "late" does it and loses the answer, an exception is raised instead, a Reply is answered.
    """

    def __init__(self, inner: ObjectStore | None = None, *, can_delete: bool | None = None) -> None:
        self.inner: ObjectStore = inner or MemoryStore()
        self.faults: dict[str, list[str | AkiDBError | Reply | None]] = {
            "put_if_absent": [],
            "put_if_match": [],
            "get": [],
        }
        self.counts: Counter[str] = Counter()
        self.gates: dict[str, asyncio.Event] = {}
        self.before: Callable[[str, str], Awaitable[None]] | None = None
        self._can_delete = can_delete

    async def _do(self, name: str, key: str, call: Callable[[], Awaitable[Reply]]) -> Reply:
        self.counts[name] += 1
        if self.before is not None:
            await self.before(name, key)
        if name in self.gates:
            await self.gates[name].wait()
        steps = self.faults.get(name)
        step = steps.pop(0) if steps else None
        if isinstance(step, AkiDBError):
            raise step
        if isinstance(step, Reply):
            return step
        if step == "lost":
            raise UnavailableError("the request was lost")
        reply = await call()
        if step == "late":
            raise UnavailableError("the answer was lost")
        return reply

    @property
    def location(self) -> str:
        return self.inner.location

    @property
    def can_delete(self) -> bool:
        return self.inner.can_delete if self._can_delete is None else self._can_delete

    async def get(
        self, key: str, *, byte_range: tuple[int, int] | None = None, if_none_match: str | None = None
    ) -> Reply:
        name = "get_head" if key.endswith("/head") else "get"
        return await self._do(
            name, key, lambda: self.inner.get(key, byte_range=byte_range, if_none_match=if_none_match)
        )

    def get_now(
        self, key: str, *, byte_range: tuple[int, int] | None = None, if_none_match: str | None = None
    ) -> Reply | None:
        return None  # so that everything comes by where the faults are

    async def head(self, key: str) -> Reply:
        return await self.inner.head(key)

    async def put(self, key: str, body: Body) -> Reply:
        return await self.inner.put(key, body)

    async def put_if_absent(self, key: str, body: Body) -> Reply:
        return await self._do("put_if_absent", key, lambda: self.inner.put_if_absent(key, body))

    async def put_if_match(self, key: str, body: Body, etag: str) -> Reply:
        return await self._do("put_if_match", key, lambda: self.inner.put_if_match(key, body, etag))

    def list_from(self, prefix: str, start_after: str | None = None) -> AsyncIterator[ObjectInfo]:
        self.counts["list"] += 1
        return self.inner.list_from(prefix, start_after)

    async def delete_many(self, keys: Iterable[str]) -> None:
        await self.inner.delete_many(keys)

    async def local_path(self, key: str) -> Path | None:
        return await self.inner.local_path(key)

    async def has_local(self, key: str) -> bool:
        return await self.inner.has_local(key)

    async def forget_local(self, key: str) -> None:
        await self.inner.forget_local(key)

    def lock(self, prefix: str, *, exclusive: bool) -> AbstractAsyncContextManager[None]:
        return self.inner.lock(prefix, exclusive=exclusive)

    async def close(self) -> None:
        await self.inner.close()


def refuse_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What opens a file to write to it fails, as in a folder that is mounted read-only."""
    opened = os.open

    def refuse(path: str | Path, flags: int, *rest: Any, **more: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return opened(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", refuse)
