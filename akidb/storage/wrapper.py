"""What wrappers stand on: every call goes to the store below; a wrapper overrides those it is about."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from akidb.storage.object_store import Body, ObjectInfo, ObjectStore, Reply


class StoreWrapper:
    """An ObjectStore that is the `inner` one."""

    def __init__(self, inner: ObjectStore) -> None:
        self.inner = inner

    @property
    def location(self) -> str:
        return self.inner.location

    @property
    def can_delete(self) -> bool:
        return self.inner.can_delete

    async def get(
        self, key: str, *, byte_range: tuple[int, int] | None = None, if_none_match: str | None = None
    ) -> Reply:
        return await self.inner.get(key, byte_range=byte_range, if_none_match=if_none_match)

    def get_now(
        self, key: str, *, byte_range: tuple[int, int] | None = None, if_none_match: str | None = None
    ) -> Reply | None:
        return self.inner.get_now(key, byte_range=byte_range, if_none_match=if_none_match)

    async def head(self, key: str) -> Reply:
        return await self.inner.head(key)

    async def put(self, key: str, body: Body) -> Reply:
        return await self.inner.put(key, body)

    async def put_if_absent(self, key: str, body: Body) -> Reply:
        return await self.inner.put_if_absent(key, body)

    async def put_if_match(self, key: str, body: Body, etag: str) -> Reply:
        return await self.inner.put_if_match(key, body, etag)

    def list_from(self, prefix: str, start_after: str | None = None) -> AsyncIterator[ObjectInfo]:
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
