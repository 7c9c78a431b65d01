"""Between a client and a server, a TCP proxy that fails on command."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit


class FaultProxy:
    """Passes everything on until told otherwise. Belongs to the event loop that serves it."""

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        assert parts.hostname is not None
        self._upstream = parts.hostname, parts.port
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._refusing = False
        self._answer_bytes_left: int | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self.endpoint = ""

    def refuse(self) -> None:
        """The server is gone: connections end, new ones are reset."""
        self._refusing = True
        self._reset_all()

    def hang(self) -> None:
        """Connections stay and are accepted; nothing passes any more, either way."""
        self._flowing.clear()

    def cut_answers_after(self, count: int) -> None:
        """Requests arrive; the next answers are cut off once `count` bytes of them passed."""
        self._answer_bytes_left = count

    def heal(self) -> None:
        self._refusing, self._answer_bytes_left = False, None
        self._reset_all()  # what hung stays lost, as in a network
        self._flowing.set()

    def _reset_all(self) -> None:
        for writer in self._open:
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            writer.transport.abort()
            return
        upstream_reader, upstream = await asyncio.open_connection(*self._upstream)
        ends = {writer, upstream}
        self._open |= ends
        try:
            await asyncio.gather(self._pass(reader, upstream, answers=False), self._pass(upstream_reader, writer))
        finally:
            self._open -= ends
            for end in ends:
                end.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool = True) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                await self._flowing.wait()
                if answers and self._answer_bytes_left is not None:
                    data, self._answer_bytes_left = data[: self._answer_bytes_left], 0
                    writer.write(data)
                    break
                writer.write(data)
                await writer.drain()
        writer.transport.abort() if answers else writer.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            await self._accept(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            self._serving.discard(task)

    async def close(self) -> None:
        for task in list(self._serving):
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)


@asynccontextmanager
async def faulty(upstream: str) -> AsyncIterator[FaultProxy]:
    """A proxy on a free loopback port in front of the server at the URL `upstream`."""
    proxy = FaultProxy(upstream)
    async with await asyncio.start_server(proxy.serve, "127.0.0.1", 0) as server:
        proxy.endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield proxy
        await proxy.close()
