"""Request bodies: read within the limit, decoded off the event loop when large, refused with the place of the mistake.

msgspec holds the GIL while it decodes (lists of floats at some 220 MiB/s), and also while it only skips. So a large
body of points is cut into points by codec.find_objects, which lets go of the GIL, and they are decoded one by one.
"""

from __future__ import annotations

import asyncio
import re
from typing import TypeVar

import msgspec
from aiohttp import web

from akidb.api.errors import refuse
from akidb.errors import InvalidInputError

T = TypeVar("T")

INLINE_BYTES_MAX = 64 * 1024
"""Larger bodies are decoded in a thread: this much takes about 0.3 ms."""

READ_SECS = 30.0
READ_BYTES_PER_SEC = 64 * 1024
"""A body may take so many seconds, and one more for each so many bytes: a slow line may send much, but no one may hold
a connection and its buffer for ever with a byte now and then."""

_BODY = web.RequestKey("akidb_body", bytes)
_JSON_TYPES = re.compile(r"application/(?:[\w.+-]+\+)?json")
_AT = re.compile(r" - at `(?:key in )?`?\$(?P<path>[^`]*)`+$")
_STEP = re.compile(r"\.(?P<key>[^.\[\]]+)|\[(?P<index>\d+)\]|\[\.\.\.\]")
_FIELD = re.compile(r"Object (?:contains unknown|missing required) field `(?P<name>[^`]*)`")
_CODES = (
    ("Object contains unknown field", "unknown_field"),
    ("Object missing required field", "missing_field"),
    ("Number out of range", "number_out_of_range"),
    ("Integer value out of range", "number_out_of_range"),
)


async def read(request: web.Request) -> bytes:
    """The body, empty if there is none; a request that is handled again finds it here.

    Raises:
        InvalidInputError: `body_too_large`, `unsupported_media_type`, `request_timeout`.
        ConnectionError: the client went away.
    """
    if _BODY in request:
        return request[_BODY]
    if not request.body_exists:
        return b""
    # The types that a web page may send without asking the server first are refused, and so is none at all, which it
    # may send as well: no page can write to a server on the reader's own machine.
    if "Content-Type" not in request.headers:
        raise refuse("unsupported_media_type", (), "there is no Content-Type, expected application/json")
    if not _JSON_TYPES.fullmatch(request.content_type):
        raise refuse("unsupported_media_type", (), f"Content-Type is {request.content_type}, expected application/json")
    # Decompressing would spend a second of the event loop on a body of 300 kB, to find that it is too large.
    coding = request.headers.get("Content-Encoding", "identity")
    if coding.lower() != "identity":
        raise refuse("unsupported_media_type", (), f"Content-Encoding is {coding}, expected a body as it is")
    received = request[_BODY] = await receive(request)
    return received


async def receive(request: web.Request) -> bytes:
    """What the client sends, whatever it is, within the limits of size and time. web.Request.read() knows no time.

    Raises:
        InvalidInputError: `body_too_large`, `request_timeout`.
        ConnectionError: the client went away.
    """
    if (request.content_length or 0) > request.client_max_size:
        raise _too_large(request.client_max_size)
    chunks: list[bytes] = []
    size = 0
    began = asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout(READ_SECS) as patience:
            async for chunk in request.content.iter_any():
                chunks.append(chunk)
                size += len(chunk)
                if size > request.client_max_size:
                    raise _too_large(request.client_max_size)
                patience.reschedule(began + READ_SECS + size / READ_BYTES_PER_SEC)
    except TimeoutError:
        msg = f"the body came too slowly: {size} bytes in {READ_SECS + size / READ_BYTES_PER_SEC:.0f} s"
        raise refuse("request_timeout", (), msg) from None
    return b"".join(chunks)


def _too_large(limit: int) -> InvalidInputError:
    msg = f"the body is larger than api.body_limit_bytes, {limit} bytes"
    return InvalidInputError(msg, code="body_too_large", limit_bytes=limit)


def decode(decoder: msgspec.json.Decoder[T], body: bytes | msgspec.Raw, *, at: tuple[str | int, ...] = ()) -> T:
    """The value of a JSON text that stands at `at` in the request.

    Raises:
        InvalidInputError: `malformed_json` with the position; `unknown_field`, `missing_field`, `number_out_of_range`,
            `json_too_deep` or `invalid_body` with the path.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _refused(str(error), at) from None
    except msgspec.DecodeError as error:
        raise _malformed(str(error), body, at) from None
    except UnicodeDecodeError as error:
        raise refuse("malformed_json", at, f"the text is not UTF-8 (byte {error.start} of a string)") from None
    except RecursionError:
        raise refuse("json_too_deep", at, "the JSON is nested too deeply") from None


def _malformed(message: str, body: bytes | msgspec.Raw, at: tuple[str | int, ...]) -> InvalidInputError:
    text = bytes(body)
    found = re.search(r"\(byte (\d+)\)", message)
    if found is None:
        return refuse("malformed_json", at, f"the JSON ends too early, at byte {len(text)}, or holds a lone surrogate")
    # What comes after the value is reported one byte late.
    position = int(found[1]) - ("trailing characters" in message)
    line = text.count(b"\n", 0, position) + 1
    column = position - (text.rfind(b"\n", 0, position) + 1) + 1
    reason = message[: found.start()].removeprefix("JSON is malformed: ").strip()
    return refuse(
        "malformed_json", at, f"the JSON is malformed at byte {position} (line {line}, column {column}): {reason}"
    )


def _refused(message: str, at: tuple[str | int, ...]) -> InvalidInputError:
    loc = list(at)
    found = _AT.search(message)
    if found is not None:
        message = message[: found.start()]
        for step in _STEP.finditer(found["path"]):
            if step["key"] is not None:
                loc.append(step["key"])
            elif step["index"] is not None:
                loc.append(int(step["index"]))
    field = _FIELD.match(message)
    if field is not None:
        loc.append(field["name"])
    code = next((code for start, code in _CODES if message.startswith(start)), "invalid_body")
    return refuse(code, tuple(loc), message[0].lower() + message[1:])
