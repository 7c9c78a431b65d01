"""Objects in a dictionary: nothing is durable; for `:memory:` and for tests.

Safe among the tasks of one event loop because nothing awaits between looking and changing; not among threads or loops,
except for `get_now`, which is one look at the dictionary.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
import weakref
from bisect import bisect_right
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from xxhash import xxh3_128_hexdigest

from akidb.storage.keys import check_key, check_prefix, check_range
from akidb.storage.object_store import Body, ObjectInfo, Reply, Status


@dataclass(frozen=True, slots=True)
class _Object:
    body: bytes
    etag: str
    last_modified: float

    def reply(self, status: Status, body: bytes = b"") -> Reply:
        return Reply(status, body, self.etag, len(self.body), time.time(), self.last_modified)


class MemoryStore:
    """An ObjectStore that is gone when the process ends."""

    def __init__(self) -> None:
        self._objects: dict[str, _Object] = {}
        self._locks: dict[str, _SharedLock] = {}
        self._folder: Path | None = None  # for local_path: made when first asked for

    @property
    def location(self) -> str:
        return ":memory:"

    @property
    def can_delete(self) -> bool:
        return True

    async def get(
        self, key: str, *, byte_range: tuple[int, int] | None = None, if_none_match: str | None = None
    ) -> Reply:
        return self.get_now(key, byte_range=byte_range, if_none_match=if_none_match)

    def get_now(
        self, key: str, *, byte_range: tuple[int, int] | None = None, if_none_match: str | None = None
    ) -> Reply:
        found = self._objects.get(check_key(key))
        if found is None:
            return Reply(Status.NOT_FOUND, date=time.time())
        if found.etag == if_none_match:
            return found.reply(Status.NOT_MODIFIED)
        if byte_range is None:
            return found.reply(Status.OK, found.body)
        start, end = check_range(byte_range, len(found.body))
        return found.reply(Status.OK, found.body[start:end])

    async def head(self, key: str) -> Reply:
        found = self._objects.get(check_key(key))
        return Reply(Status.NOT_FOUND, date=time.time()) if found is None else found.reply(Status.OK)

    async def put(self, key: str, body: Body) -> Reply:
        return self._set(check_key(key), await _bytes_of(body))

    async def put_if_absent(self, key: str, body: Body) -> Reply:
        data = await _bytes_of(body)
        if check_key(key) in self._objects:
            return Reply(Status.CONDITION_FAILED, date=time.time())
        return self._set(key, data)

    async def put_if_match(self, key: str, body: Body, etag: str) -> Reply:
        data = await _bytes_of(body)
        found = self._objects.get(check_key(key))
        if found is None:
            return Reply(Status.NOT_FOUND, date=time.time())
        if found.etag != etag:
            return Reply(Status.CONDITION_FAILED, date=time.time())
        return self._set(key, data)

    def _set(self, key: str, data: bytes) -> Reply:
        stored = self._objects[key] = _Object(data, xxh3_128_hexdigest(data), time.time())
        return stored.reply(Status.OK)

    async def list_from(self, prefix: str, start_after: str | None = None) -> AsyncIterator[ObjectInfo]:
        check_prefix(prefix)
        keys = sorted(key for key in self._objects if key.startswith(prefix))
        for key in keys[bisect_right(keys, start_after or "") :]:
            found = self._objects.get(key)
            if found is not None:
                yield ObjectInfo(key, len(found.body), found.etag, found.last_modified)

    async def delete_many(self, keys: Iterable[str]) -> None:
        for key in [check_key(key) for key in keys]:
            gone = self._objects.pop(key, None)
            if gone is not None and self._folder is not None:
                (self._folder / _file_name(key, gone)).unlink(missing_ok=True)

    async def local_path(self, key: str) -> Path | None:
        found = self._objects.get(check_key(key))
        if found is None:
            return None
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="akidb-memory-"))
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        path = self._folder / _file_name(key, found)
        if not path.exists():
            await asyncio.to_thread(_write_whole, path, found.body)
        return path

    async def has_local(self, key: str) -> bool:
        return True

    async def forget_local(self, key: str) -> None:
        """Nothing: what `local_path` gives is no copy of something farther away."""

    @asynccontextmanager
    async def _hold(self, prefix: str, exclusive: bool) -> AsyncIterator[None]:
        lock = self._locks.setdefault(check_prefix(prefix), _SharedLock())
        async with lock.exclusive() if exclusive else lock.shared():
            yield

    def lock(self, prefix: str, *, exclusive: bool) -> AbstractAsyncContextManager[None]:
        return self._hold(prefix, exclusive)

    async def close(self) -> None:
        if self._folder is not None:
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)
            self._folder = None


class _SharedLock:
    """Many share or one excludes. Who comes to share does not wait for one who waits to exclude, as with the local
    folder's flock: what another sharer does may end only after it.
    """

    def __init__(self) -> None:
        self._excluders = asyncio.Lock()
        self._unshared, self._unexcluded = asyncio.Event(), asyncio.Event()
        self._unshared.set()
        self._unexcluded.set()
        self._sharing = 0

    @asynccontextmanager
    async def shared(self) -> AsyncIterator[None]:
        while not self._unexcluded.is_set():
            await self._unexcluded.wait()
        self._sharing += 1
        self._unshared.clear()
        try:
            yield
        finally:
            self._sharing -= 1
            if self._sharing == 0:
                self._unshared.set()

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[None]:
        async with self._excluders:
            while self._sharing:
                await self._unshared.wait()
            self._unexcluded.clear()
            try:
                yield
            finally:
                self._unexcluded.set()


def _file_name(key: str, stored: _Object) -> str:
    return f"{xxh3_128_hexdigest(key.encode())}-{stored.etag}"


def _write_whole(path: Path, data: bytes) -> None:
    """Appears under its name only when complete, so concurrent callers of local_path may race."""
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as part:
        part.write(data)
    Path(part.name).replace(path)


async def _bytes_of(body: Body) -> bytes:
    return await asyncio.to_thread(body.read_bytes) if isinstance(body, Path) else bytes(body)
