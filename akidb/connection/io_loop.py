"""The event loop behind calls without `await`: one thread of a process, in which all its connections do their I/O."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from akidb.connection.asynchronous import AsyncConnection
from akidb.connection.embedded import EmbeddedDatabase
from akidb.errors import UnavailableError

T = TypeVar("T")

END_SECS = 2.0
"""Longest time that each step of the end of a process may take for connections left open."""


class IoLoop:
    """The background thread's event loop, shared by all connections of the process and started at first use.

    A forked child has no such thread: it starts its own, and what was opened before the fork stays the parent's.
    """

    _lock = threading.Lock()
    _current: IoLoop | None = None

    def __init__(self) -> None:
        self._process = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="akidb-io", daemon=True)
        self._thread.start()
        self.open: set[AsyncConnection] = set()
        """Connections that were not closed."""
        atexit.register(self._end)

    @classmethod
    def current(cls) -> IoLoop:
        with cls._lock:
            if cls._current is None:
                cls._current = cls()
            return cls._current

    def _end(self) -> None:
        """At the interpreter's exit: whoever left a connection open is not told so by tracebacks of its parts."""
        if self._process != os.getpid():
            return
        with contextlib.suppress(Exception):
            asyncio.run_coroutine_threadsafe(self._wind_up(), self._loop).result(2 * END_SECS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(END_SECS)
        if not self._thread.is_alive():
            self._loop.close()

    async def _wind_up(self) -> None:
        for connection in self.open:
            if not isinstance(connection, EmbeddedDatabase):  # closing that takes threads, and none can be started now
                with contextlib.suppress(Exception):
                    await asyncio.wait_for(connection.close(), END_SECS)
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=END_SECS)

    @classmethod
    def _forked(cls) -> None:
        cls._lock, cls._current = threading.Lock(), None

    def check_process(self) -> None:
        """Raises UnavailableError in a child of the process that opened the connection."""
        if self._process != os.getpid():
            raise UnavailableError("this connection was opened before the process forked; connect again", code="forked")

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Raises UnavailableError in a child of the process that opened the connection."""
        try:
            self.check_process()
        except UnavailableError:
            coroutine.close()
            raise
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # Ctrl-C in the caller's thread stops the work, not only the waiting
            raise


os.register_at_fork(after_in_child=IoLoop._forked)
