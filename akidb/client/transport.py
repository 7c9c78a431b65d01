"""One HTTP connection pool: requests with deadlines, bounded retries, and errors as AkiDB's own."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping
from typing import Any, NamedTuple
from uuid import uuid4

import aiohttp
import msgspec
import numpy as np
from yarl import URL

from akidb.client.problems import RETRY_AFTER_SECS_DEFAULT, error_of
from akidb.errors import (
    AkiDBError,
    ConfigurationError,
    DeadlineExceededError,
    InvalidInputError,
    PartialWriteError,
    UnavailableError,
)
from akidb.surface import refuse

TIMEOUT_SECS = 60.0
"""Longest time of a call that names no other, retries included: twice the server's own limit for a write."""

ATTEMPTS_MAX = 4
KEY_HEADER = "Idempotency-Key"


class Answer(NamedTuple):
    """`token` is of the place in the collection's log that it tells of, "" where it is about none. `staleness_ms` is
    how old what was read may be, None where it says nothing of that."""

    body: bytes
    token: str
    staleness_ms: int | None = None


class Transport:
    """Talks to one server. Belongs to the event loop it is first used on."""

    def __init__(self, base: str, *, api_key: str | None = None, timeout_secs: float = TIMEOUT_SECS) -> None:
        url = URL(base)
        if url.scheme not in ("http", "https") or not url.host or url.query_string or url.fragment:
            raise ConfigurationError(
                f"{base!r} is no address of a server, expected http://host:port or https://host:port"
            )
        if url.user or url.password:
            raise ConfigurationError("the address carries a user or password, expected the key in api_key")
        self.base = str(url).rstrip("/")
        self._headers = {"Content-Type": "application/json"} | ({"X-API-Key": api_key} if api_key else {})
        self._timeout_secs = timeout_secs
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def send(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        repeatable: bool,
        timeout_secs: float | None = None,
    ) -> bytes:
        """The body of a 2xx answer; arguments and errors as of `exchange`."""
        return (await self.exchange(method, path, body, repeatable=repeatable, timeout_secs=timeout_secs)).body

    async def exchange(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        repeatable: bool,
        key: str | None = None,
        timeout_secs: float | None = None,
    ) -> Answer:
        """A 2xx answer.

        Args:
            path: percent-encoded, beginning with a slash.
            body: sent as JSON.
            repeatable: whether the call may be sent again when its answer was lost; reads and searches are. What the
                server refused with 503 or 429 had no effect, so that is tried again for every call.
            key: the Idempotency-Key of a write, under which the server does it once: it is sent again as well.

        Raises:
            UnavailableError: nothing answers at the address, or the server said so to the last.
            DeadlineExceededError: time ran out, or (code `outcome_unknown`) the answer to a write was lost.
            PartialWriteError: some shards did not write their part of a batch, to the last.
            AkiDBError: whatever kind the server's refusal stands for.
        """
        if self._closed:
            raise UnavailableError("the connection is closed", code="closing")
        content = None if body is None else _json(body)
        deadline = time.monotonic() + (timeout_secs or self._timeout_secs)
        attempt = 1
        headers = {} if key is None else {KEY_HEADER: _checked(key)}
        earlier: AkiDBError | None = None  # what an attempt ended with that did something, or may have
        while True:
            try:
                return await self._once(method, path, content, deadline, repeatable, headers)
            except (DeadlineExceededError, PartialWriteError) as error:
                pause = RETRY_AFTER_SECS_DEFAULT / ATTEMPTS_MAX
                partial = isinstance(error, PartialWriteError)
                earlier = error if partial or error.code == "outcome_unknown" else earlier
                if partial and not error.retryable:
                    raise
                if key is None or earlier is None or attempt == ATTEMPTS_MAX or time.monotonic() + pause >= deadline:
                    raise earlier or error from error.__cause__
            except UnavailableError as error:
                pause = error.retry_after_secs
                if attempt == ATTEMPTS_MAX or time.monotonic() + pause >= deadline:
                    if earlier is not None:  # this attempt did nothing
                        raise earlier from error
                    raise
            attempt += 1
            await asyncio.sleep(pause)

    async def _once(
        self,
        method: str,
        path: str,
        content: bytes | None,
        deadline: float,
        repeatable: bool,
        headers: Mapping[str, str],
    ) -> Answer:
        call = f"{method} {self.base}{path}"
        timeout = aiohttp.ClientTimeout(total=max(deadline - time.monotonic(), 0.001))
        try:
            async with self._opened().request(
                method,
                URL(self.base + path, encoded=True),
                data=content,
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
            ) as answer:
                received = await answer.read()
        except aiohttp.ClientConnectorError as error:  # not connected, so nothing was sent
            raise UnavailableError(f"{self.base} does not answer: {error}", code="server_unavailable") from error
        except (aiohttp.ClientError, OSError) as error:
            # asyncio's TimeoutError is an OSError: both ends of a lost answer come by here.
            raise _lost(call, error, repeatable) from error
        if 200 <= answer.status < 300:
            staleness = answer.headers.get("X-AkiDB-Staleness-Ms", "")
            staleness_ms = int(staleness) if staleness.isascii() and staleness.isdigit() else None
            return Answer(received, answer.headers.get("X-AkiDB-Token", ""), staleness_ms)
        raise error_of(answer.status, received, call=call, retry_after=answer.headers.get("Retry-After"))

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(headers=self._headers)
        return self._session

    async def close(self) -> None:
        """What comes later gets UnavailableError."""
        self._closed = True
        if self._session is not None:
            await self._session.close()
            self._session = None


def key_or_new(key: str | None) -> str:
    """The caller's name for a write, or one of our own: under a key a write may be sent until its answer comes."""
    return uuid4().hex if key is None else key


def _checked(key: str) -> str:
    """What a header can carry; the rest of what a key may be the server judges."""
    if not isinstance(key, str) or not key.isascii() or not key.isprintable() or not key:
        msg = f"is {key!r:.60}, expected 1 to 255 printable ASCII characters without spaces"
        raise refuse("idempotency_key", msg, "invalid_idempotency_key")
    return key


def _json(body: Mapping[str, Any]) -> bytes:
    try:
        text = msgspec.json.encode(body, enc_hook=plain)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidInputError(f"the request can't be written as JSON: {error}", code="invalid_json") from error
    if b"null" in text and _not_finite(body):  # msgspec writes NaN and infinities as null
        raise InvalidInputError(
            "the request holds a float that is not finite, which JSON can't say", code="invalid_json"
        )
    return text


def _not_finite(value: Any) -> bool:
    """Whether a NaN or an infinity lies anywhere in it."""
    if isinstance(value, float | np.floating):
        return not math.isfinite(value)
    if isinstance(value, Mapping):
        return any(map(_not_finite, value.values()))
    return isinstance(value, list | tuple) and any(map(_not_finite, value))


def plain(value: Any) -> Any:
    """NumPy's scalars as Python's, so that ids and limits may come out of an array."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _lost(call: str, error: Exception, repeatable: bool) -> AkiDBError:
    """The request may have arrived. A read may be sent again; of a write nobody knows until it is read."""
    cause = "its time is over" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
    if not repeatable:
        return DeadlineExceededError(f"{call}: no answer ({cause}); it may have happened", code="outcome_unknown")
    if isinstance(error, TimeoutError):
        return DeadlineExceededError(f"{call}: no answer in time")
    return UnavailableError(
        f"{call}: {cause}", code="server_unavailable", retry_after_secs=RETRY_AFTER_SECS_DEFAULT / ATTEMPTS_MAX
    )
