"""A store that fails, loses answers or stands still at a chosen call, and a collection on it with an oracle."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from akidb.collection import Collection
from akidb.config.settings import ManifestRetry, Retry, Settings, Storage
from akidb.database import Database
from akidb.errors import UnavailableError
from akidb.query import SearchQuery
from akidb.storage.object_store import Body, ObjectInfo, ObjectStore, Reply
from akidb.storage.wrapper import StoreWrapper
from akidb.types import EVENTUAL

DIM = 4
SETTINGS = Settings(
    storage=Storage(
        retry=Retry(initial_backoff_ms=1, max_backoff_ms=1),
        manifest_retry=ManifestRetry(max_attempts=2, initial_backoff_ms=1, max_backoff_ms=1),
    )
)

Fault: TypeAlias = Literal["before", "after"]
"""A call that fails without having done anything, or that is done and whose answer is lost."""


class FaultyStore(StoreWrapper):
    """Numbers the calls from 1 on, `calls` says what they were; `fault(number, call, key)` says how one fails.

    The first call whose name and key begin with `pause_at` stands still until `go`; `paused` tells that it does.
    """

    def __init__(self, inner: ObjectStore) -> None:
        super().__init__(inner)
        self.calls: list[str] = []
        self.fault: Callable[[int, str, str], Fault | None] = lambda number, call, key: None
        self.pause_at: tuple[str, str] | None = None
        self.paused, self.go = asyncio.Event(), asyncio.Event()

    def heal(self) -> None:
        self.calls.clear()
        self.fault = lambda number, call, key: None

    async def _call(self, name: str, key: str, *args: Any, **kwargs: Any) -> Any:
        self.calls.append(name)
        fault = self.fault(len(self.calls), name, key)
        if self.pause_at is not None and name == self.pause_at[0] and self.pause_at[1] in key:
            self.pause_at = None
            self.paused.set()
            await self.go.wait()
        await asyncio.sleep(0)
        if fault == "before":
            raise UnavailableError(f"{name} {key} fails on purpose")
        reply = await getattr(self.inner, name)(*args, **kwargs)
        await asyncio.sleep(0)
        if fault == "after":
            raise UnavailableError(f"the answer of {name} {key} is lost on purpose")
        return reply

    async def get(
        self, key: str, *, byte_range: tuple[int, int] | None = None, if_none_match: str | None = None
    ) -> Reply:
        return await self._call("get", key, key, byte_range=byte_range, if_none_match=if_none_match)

    async def put(self, key: str, body: Body) -> Reply:
        return await self._call("put", key, key, body)

    async def put_if_absent(self, key: str, body: Body) -> Reply:
        return await self._call("put_if_absent", key, key, body)

    async def put_if_match(self, key: str, body: Body, etag: str) -> Reply:
        return await self._call("put_if_match", key, key, body, etag)

    async def delete_many(self, keys: Iterable[str]) -> None:
        await self._call("delete_many", "", list(keys))

    async def local_path(self, key: str) -> Path | None:
        return await self._call("local_path", key, key)

    async def list_from(self, prefix: str, start_after: str | None = None) -> AsyncIterator[ObjectInfo]:
        self.calls.append("list_from")
        if self.fault(len(self.calls), "list_from", prefix) is not None:
            raise UnavailableError(f"list {prefix} fails on purpose")
        async for info in self.inner.list_from(prefix, start_after):
            yield info


class Oracle:
    """What was acknowledged, in a dictionary."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.points: dict[str, np.ndarray] = {}

    async def upsert(self, collection: Collection, ids: Iterable[object]) -> None:
        names = [str(id_) for id_ in ids]
        data = self.rng.standard_normal((len(names), DIM)).astype(np.float32)
        await collection.upsert(names, data, [{"x": float(row[0])} for row in data])
        self.points.update(zip(names, data, strict=True))

    async def delete(self, collection: Collection, ids: Iterable[object]) -> None:
        names = [str(id_) for id_ in ids]
        await collection.delete(names)
        for name in names:
            self.points.pop(name, None)

    async def check_eventual(self, collection: Collection) -> None:
        """What this node has is all there, whatever the store does."""
        assert await collection.count(consistency=EVENTUAL) == len(self.points)
        found = await collection.get(sorted(self.points), consistency=EVENTUAL)
        assert all(point is not None and np.array_equal(point.vector, self.points[point.id]) for point in found)

    async def check(self, collection: Collection) -> None:
        """Every way to ask gives the dictionary's answer."""
        assert await collection.count() == len(self.points)
        found = await collection.get(sorted(self.points))
        assert [point.id for point in found if point is not None] == sorted(self.points)
        assert all(np.array_equal(point.vector, self.points[point.id]) for point in found if point is not None)
        page = await collection.scroll(limit=len(self.points) + 1)
        assert [point.id for point in page] == sorted(self.points)
        query = self.rng.standard_normal(DIM).astype(np.float32)
        (hits,) = await collection.search([SearchQuery(query, top_k=5, exact=True)], timeout_ms=60_000)
        nearest = sorted(self.points, key=lambda id_: float(np.linalg.norm(self.points[id_] - query)))[:5]
        assert [hit.id for hit in hits] == nearest


async def check_here_and_anew(oracle: Oracle, collection: Collection, store: FaultyStore) -> None:
    """On the node that saw the fault, and on one that knows only what is in the store."""
    await oracle.check(collection)
    other = await Database.open(store.inner, SETTINGS)
    await oracle.check(await other.collection("points"))
    for opened in other.at_hand:
        await opened.close()
