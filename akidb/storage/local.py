"""Objects as files below one folder, for one machine: any number of processes, one kernel, a local file system.

What must wait for the disk runs in a few threads. What the kernel answers from memory runs on the event loop itself:
looking up a name and reading a small cached file take 2 to 5 microseconds, the way through a thread and back 50 to
100, and a strong read costs one such look-up. RWF_NOWAIT makes the kernel refuse instead of wait when the bytes are
not in memory; then a thread reads them. Where it does not exist (macOS), threads read and only the look-up stays on
the loop.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import ParamSpec, TypeVar

from xxhash import xxh3_128_hexdigest

from akidb.errors import UnavailableError
from akidb.storage.durable_folder import DurableFolder, translated
from akidb.storage.files import etag_of_file, read_file
from akidb.storage.keys import LOCK_NAME, check_key, check_prefix
from akidb.storage.object_store import Body, ObjectInfo, Reply, Status

P = ParamSpec("P")
T = TypeVar("T")

_THREADS = 8  # all they do is wait for the disk
_INLINE_BYTES = 64 << 10  # reading and hashing this much takes under 20 microseconds
_PAGE = 1000
_LOCK_RETRY_SECS = (0.0005, 0.01)


class LocalStore:
    """An ObjectStore over a folder, which is made at the first write; reading never writes, so a read-only mount
    serves.

    ETags are the XXH3-128 of the bytes. Dates are this machine's clock; nothing relies on them here.
    """

    def __init__(self, root: Path | str) -> None:
        self._root = Path(root).absolute()
        self._folder = DurableFolder(self._root)
        self._threads = ThreadPoolExecutor(_THREADS, "akidb-local-store")

    @property
    def location(self) -> str:
        return str(self._root)

    @property
    def can_delete(self) -> bool:
        return True

    async def get(
        self, key: str, *, byte_range: tuple[int, int] | None = None, if_none_match: str | None = None
    ) -> Reply:
        at_once = self.get_now(key, byte_range=byte_range, if_none_match=if_none_match)
        if at_once is not None:
            return at_once
        path = self._path(key)
        try:
            info, body, etag = await self._in_thread(_read, path, byte_range)
        except FileNotFoundError:
            return Reply(Status.NOT_FOUND, date=time.time())
        except OSError as failed:
            raise translated(failed, self._root) from failed
        if etag is not None and etag == if_none_match:
            return _reply(Status.NOT_MODIFIED, info, etag=etag)
        if not self._folder.is_durable(path, info.st_ctime_ns):
            await self._run(self._folder.make_durable, path.parent)
        return _reply(Status.OK, info, body, etag)

    def get_now(
        self, key: str, *, byte_range: tuple[int, int] | None = None, if_none_match: str | None = None
    ) -> Reply | None:
        path = f"{self._root}/{self._key(key)}"  # a Path costs more than the look
        try:
            info, body, etag = _read(path, byte_range, inline_bytes=_INLINE_BYTES)
        except FileNotFoundError:
            return Reply(Status.NOT_FOUND, date=time.time())
        except OSError:  # would wait; or a file system without the flag; or an error that the thread will meet too
            return None
        if etag is not None and etag == if_none_match:  # who knows the ETag has read or written it: it is durable
            return _reply(Status.NOT_MODIFIED, info, etag=etag)
        durable = self._folder.is_durable(Path(path), info.st_ctime_ns)
        return _reply(Status.OK, info, body, etag) if durable else None

    async def head(self, key: str) -> Reply:
        path = self._path(key)
        info = self._stat(path)
        if info is None:
            return Reply(Status.NOT_FOUND, date=time.time())
        return _reply(Status.OK, info, etag=await self._run(etag_of_file, path))

    async def put(self, key: str, body: Body) -> Reply:
        return _written(Status.OK, await self._run(self._folder.put, self._key(key), body))

    async def put_if_absent(self, key: str, body: Body) -> Reply:
        if self._stat(self._path(key)) is not None:  # spares the two fsyncs; link(2) decides all the same
            return _written(Status.CONDITION_FAILED, None)
        etag = await self._run(self._folder.put_if_absent, key, body)
        return _written(Status.CONDITION_FAILED if etag is None else Status.OK, etag)

    async def put_if_match(self, key: str, body: Body, etag: str) -> Reply:
        return _written(*await self._run(self._folder.put_if_match, self._key(key), body, etag))

    async def list_from(self, prefix: str, start_after: str | None = None) -> AsyncIterator[ObjectInfo]:
        self._folder.check_usable()
        walk = self._folder.walk(check_prefix(prefix), start_after or "")
        while page := await self._run(lambda: list(islice(walk, _PAGE))):
            for info in page:
                yield info

    async def delete_many(self, keys: Iterable[str]) -> None:
        await self._run(self._folder.delete, [self._key(key) for key in keys])

    async def local_path(self, key: str) -> Path | None:
        path = self._path(key)
        return None if self._stat(path) is None else path

    async def has_local(self, key: str) -> bool:
        return True

    async def forget_local(self, key: str) -> None:
        """Nothing: what `local_path` gives is no copy of something farther away."""

    def lock(self, prefix: str, *, exclusive: bool) -> AbstractAsyncContextManager[None]:
        return self._hold(check_prefix(prefix), fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)

    @asynccontextmanager
    async def _hold(self, prefix: str, operation: int) -> AsyncIterator[None]:
        """Asks without waiting, again and again: a thread that waits in flock cannot be cancelled, and enough of them
        would leave none for the holder's own put. Who holds it holds it until what was put has a name, or for one round
        of deletes."""
        path = self._root / prefix / LOCK_NAME
        if self._stat(path) is None:
            await self._run(self._folder.make_lock, path)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as failed:  # such as in a folder that is mounted read-only by now
            raise translated(failed, self._root) from failed
        try:
            while True:
                try:
                    fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    await asyncio.sleep(random.uniform(*_LOCK_RETRY_SECS))  # noqa: S311 (no secret)
            yield
        finally:
            os.close(descriptor)

    async def close(self) -> None:
        await asyncio.to_thread(self._threads.shutdown)
        self._folder.close()

    def _key(self, key: str) -> str:
        self._folder.check_usable()
        return check_key(key)

    def _path(self, key: str) -> Path:
        return self._root / self._key(key)

    def _stat(self, path: Path) -> os.stat_result | None:
        try:
            return os.stat(path)
        except FileNotFoundError:
            return None
        except OSError as failed:
            raise translated(failed, self._root) from failed

    async def _in_thread(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            future = self._threads.submit(partial(call, *args, **kwargs))
        except RuntimeError as shut:
            raise UnavailableError(f"{self.location} was closed meanwhile", code="closing") from shut
        return await asyncio.wrap_future(future)

    async def _run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await self._in_thread(call, *args, **kwargs)
        except OSError as failed:
            raise translated(failed, self._root) from failed


def _read(
    path: Path | str, byte_range: tuple[int, int] | None, *, inline_bytes: int | None = None
) -> tuple[os.stat_result, bytes, str | None]:
    """As read_file, and the ETag, which a range has none of."""
    info, body = read_file(path, byte_range, inline_bytes=inline_bytes)
    return info, body, xxh3_128_hexdigest(body) if byte_range is None else None


def _written(status: Status, etag: str | None) -> Reply:
    return Reply(status, etag=etag, date=time.time())


def _reply(status: Status, info: os.stat_result, body: bytes = b"", etag: str | None = None) -> Reply:
    return Reply(status, body, etag, info.st_size, time.time(), info.st_mtime)
