"""Ranged gets of objects that are read piece by piece, with as little work for each as can be.

A search of segments in the bucket reads a hundred ranges of a few objects. For each the library would resolve the
endpoint, sign, and parse thirty headers, which takes longer than a store nearby. SigV4 need not cover Range (it must
cover Host and what begins with x-amz-), so what the library signed for one range of an object is good for all of them.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from akidb.storage.object_store import Reply
from akidb.storage.s3_errors import reply_of

SIGNED_SECS = 60.0
"""How long a signature is used. Stores take one for 15 minutes; credentials are renewed 10 minutes before their end."""

_SIGNED_MAX = 1024
_BUSY = 429


@dataclass(frozen=True, slots=True)
class _Signed:
    """A request without its Range; `at` is time.monotonic()."""

    at: float
    url: str
    headers: Mapping[str, str]


class RangedGets:
    """Remembers what the library signs and sends it again. Belongs to one event loop."""

    def __init__(self) -> None:
        self._client: Any = None
        self._signed: OrderedDict[str, _Signed] = OrderedDict()
        self._asked: ContextVar[tuple[str, str] | None] = ContextVar("asked", default=None)

    def watch(self, client: Any) -> None:
        """Listens to what this client sends."""
        self._client = client
        client.meta.events.register("before-send.s3.GetObject", self._note)

    @contextmanager
    def asking(self, key: str, byte_range: str) -> Iterator[None]:
        """Within, the library's get_object of `key` asks for this range, and its signature is remembered."""
        asked = self._asked.set((key, byte_range))
        try:
            yield
        finally:
            self._asked.reset(asked)

    def _note(self, request: Any, **_: object) -> None:
        """Called between signing and sending."""
        asked = self._asked.get()
        if asked is None:
            return
        key, byte_range = asked
        self._signed[key] = _Signed(time.monotonic(), request.url, dict(request.headers.items()))
        self._signed.move_to_end(key)
        if len(self._signed) > _SIGNED_MAX:
            self._signed.popitem(last=False)
        request.headers["Range"] = byte_range

    async def send(self, key: str, byte_range: str, limit: AbstractAsyncContextManager[object]) -> Reply | None:
        """The bytes, where the store has them and a signature for the key is young enough. None: ask the library, which
        signs anew, follows redirections and knows what else a store may say.

        Args:
            limit: holds until the answer begins. How long its pieces may take is the library's: a limit on the whole
                would end what goes over a slow line, and each repetition of it.

        Raises what the library raises for a store that is away, busy or failing.
        """
        signed = self._signed.get(key)
        if signed is None or time.monotonic() - signed.at > SIGNED_SECS:
            return None
        from botocore.awsrequest import AWSPreparedRequest

        headers = {**signed.headers, "Range": byte_range}
        request = AWSPreparedRequest("GET", signed.url, headers, None, stream_output=True)
        async with limit:
            response = await self._client._endpoint.http_session.send(request)
        body = await response.content
        if response.status_code in (200, 206):
            return reply_of(response.headers, body)
        if response.status_code == _BUSY or response.status_code >= 500:
            raise _failure(response, body)
        self._signed.pop(key, None)
        return None


def _failure(response: Any, body: bytes) -> Exception:
    """The library's error for an answer: asking again by the library would be a second request to a busy store."""
    from botocore.exceptions import ClientError
    from botocore.parsers import create_parser

    told = {"status_code": response.status_code, "headers": response.headers, "body": body}
    return ClientError(create_parser("rest-xml").parse(told, None), "GetObject")  # type: ignore[no-any-return]
