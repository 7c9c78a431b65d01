"""A store that fails on purpose, over a MemoryStore."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable

from akidb.errors import UnavailableError
from akidb.storage.memory import MemoryStore
from akidb.storage.object_store import Body, ObjectInfo, Reply
from akidb.storage.wrapper import StoreWrapper


class FaultyStore(StoreWrapper):
    """Fails the next `failures` calls, and those for which `fails()`, before they do anything; counts all by name."""

    def __init__(self, failures: int = 0, *, retryable: bool = True) -> None:
        super().__init__(MemoryStore())
        self.failures = failures
        self.retryable = retryable
        self.fails: Callable[[], bool] = lambda: False
        self.calls: list[str] = []

    def _attempt(self, name: str) -> None:
        self.calls.append(name)
        if self.failures > 0 or self.fails():
            self.failures = max(0, self.failures - 1)
            error = UnavailableError(f"{name} fails on purpose")
            error.retryable = self.retryable
            raise error

    async def get(
        self, key: str, *, byte_range: tuple[int, int] | None = None, if_none_match: str | None = None
    ) -> Reply:
        self._attempt("get")
        return await super().get(key, byte_range=byte_range, if_none_match=if_none_match)

    async def head(self, key: str) -> Reply:
        self._attempt("head")
        return await super().head(key)

    async def put(self, key: str, body: Body) -> Reply:
        self._attempt("put")
        return await super().put(key, body)

    async def put_if_absent(self, key: str, body: Body) -> Reply:
        self._attempt("put_if_absent")
        return await super().put_if_absent(key, body)

    async def put_if_match(self, key: str, body: Body, etag: str) -> Reply:
        self._attempt("put_if_match")
        return await super().put_if_match(key, body, etag)

    async def list_from(self, prefix: str, start_after: str | None = None) -> AsyncIterator[ObjectInfo]:
        self._attempt("list")
        given = 0
        async for info in super().list_from(prefix, start_after):
            if given == 2:  # a page later
                self._attempt("list")
            yield info
            given += 1

    async def delete_many(self, keys: Iterable[str]) -> None:
        self._attempt("delete")
        await super().delete_many(keys)
