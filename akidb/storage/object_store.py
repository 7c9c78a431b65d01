"""The one protocol through which everything durable passes.

Answers of the store (found, not there, not changed, condition failed) are values; exceptions are for failures. Keys are
relative to the store's root, made of `[a-z0-9/._-]` only (akidb.storage.keys), and never contain anything a user
typed; no key is a folder of another.

A store belongs to the event loop that first used it. A deadline is the caller's `asyncio.timeout`: a cancelled call
returns at once wherever it waits, between retries too, and a put that was cancelled may or may not have landed.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

Body: TypeAlias = bytes | bytearray | memoryview | Path
"""What a put takes: bytes, a buffer, or the path of a finished file, which must not change any more: the local store
makes it the object without copying where it can."""


class Status(enum.Enum):
    OK = "ok"
    NOT_FOUND = "not_found"  # 404
    NOT_MODIFIED = "not_modified"  # 304: the ETag given is still the object's
    CONDITION_FAILED = "condition_failed"  # 412: nothing was written by this request
    CONFLICT = "conflict"  # 409: the store could not decide; nothing is known to be written: read, try again


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer of the store. `date` and `last_modified` are the store's own clock in seconds, None where it told
    none."""

    status: Status
    body: bytes = b""
    etag: str | None = None
    size: int = 0
    date: float | None = None
    last_modified: float | None = None

    @property
    def ok(self) -> bool:
        return self.status is Status.OK


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    key: str
    size: int
    etag: str | None = None
    last_modified: float | None = None


class ObjectStore(Protocol):
    """Object storage with conditional puts.

    Raises:
        UnavailableError: the store did not answer, or answered 5xx; a put may or may not have landed (code
            `storage_unavailable`; attribute of the message only). A read of the key decides.
        StorageFullError: no room; nothing was written.
        ConfigurationError: credentials refused, bucket missing, or the store refuses what AkiDB needs.
    """

    @property
    def location(self) -> str:
        """Where this is, for start-up lines and errors; never holds a secret."""
        ...

    async def get(
        self, key: str, *, byte_range: tuple[int, int] | None = None, if_none_match: str | None = None
    ) -> Reply:
        """The whole object, or the bytes [start, end) of it. OK, NOT_FOUND or NOT_MODIFIED.

        `size` is the object's, also where a range was asked for; a range may reach past the end. The local store
        tells no ETag for a range.
        """
        ...

    def get_now(
        self, key: str, *, byte_range: tuple[int, int] | None = None, if_none_match: str | None = None
    ) -> Reply | None:
        """What `get` would answer, if that takes no waiting; else None, and never anything from a network. Unlike all
        else here any thread may call it."""
        ...

    async def head(self, key: str) -> Reply:
        """OK (size, etag, no body) or NOT_FOUND."""
        ...

    async def put(self, key: str, body: Body) -> Reply:
        """Writes without condition: OK. For objects whose key holds a fresh uuid."""
        ...

    async def put_if_absent(self, key: str, body: Body) -> Reply:
        """OK if this call created the object, else CONDITION_FAILED or CONFLICT."""
        ...

    async def put_if_match(self, key: str, body: Body, etag: str) -> Reply:
        """OK if the object's ETag was `etag`, else CONDITION_FAILED, CONFLICT or NOT_FOUND."""
        ...

    def list_from(self, prefix: str, start_after: str | None = None) -> AsyncIterator[ObjectInfo]:
        """Objects whose key begins with `prefix`, in key order, after `start_after` (a whole key, exclusive).

        What others put there is listed as well, also under keys that no other call takes (keys.is_key)."""
        ...

    async def delete_many(self, keys: Iterable[str]) -> None:
        """Deletes; a key that is not there is no error."""
        ...

    async def local_path(self, key: str) -> Path | None:
        """A file that holds the object's bytes, for mmap; None if there is no such object. Only for objects never
        overwritten.

        The local store answers with its own file, S3 with one in its file cache (fetched now if need be). An open
        mapping stays valid when the file is evicted; a caller that finds the file gone before it could open it asks
        again.
        """
        ...

    async def has_local(self, key: str) -> bool:
        """Whether `local_path` would answer without fetching anything."""
        ...

    async def forget_local(self, key: str) -> None:
        """Drops the copy behind `local_path`, which was found to be damaged; the next call fetches the object again.
        A file that is the object itself stays."""
        ...

    def lock(self, prefix: str, *, exclusive: bool) -> AbstractAsyncContextManager[None]:
        """A lock among all who use this store on this machine, for deletes: shared by those who check and then put,
        exclusive to those who delete. Who waits to have it exclusively keeps nobody from sharing it. The local folder
        uses flock on one file, memory a lock; on S3 it does nothing, see `can_delete`.
        """
        ...

    @property
    def can_delete(self) -> bool:
        """Whether `lock` is real, so that objects may be deleted while others work. False on S3, where what
        is deleted is proved to be unused in other ways (akidb.wal.epochs)."""
        ...

    async def close(self) -> None: ...
