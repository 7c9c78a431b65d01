"""Request bodies: read within the limit, decoded off the event loop when large, refused with the place of the mistake.

msgspec holds the GIL while it decodes, at some 220 MiB/s for lists of floats, so a large body of points is decoded in
two steps: the list into undecoded points, then slices of them, between which the event loop gets its turn.
"""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec
from aiohttp import web

from akidb.api.errors import refuse
from akidb.errors import InvalidInputError

T = TypeVar("T")

INLINE_BYTES_MAX = 64 * 1024
"""Larger bodies are decoded in a thread: this much takes about 0.3 ms."""

_JSON_TYPES = re.compile(r"application/(?:[\w.+-]+\+)?json")
_AT = re.compile(r" - at `(?:key in )?`?\$(?P<path>[^`]*)`+$")
_STEP = re.compile(r"\.(?P<key>[^.\[\]]+)|\[(?P<index>\d+)\]|\[\.\.\.\]")
_CODES = (
    ("Object contains unknown field", "unknown_field"),
    ("Object missing required field", "missing_field"),
    ("Number out of range", "number_out_of_range"),
    ("Integer out of range", "number_out_of_range"),
)


async def read(request: web.Request) -> bytes:
    """The body. Raises InvalidInputError: `body_too_large`, `unsupported_media_type`."""
    if request.content_type != "application/octet-stream" and not _JSON_TYPES.fullmatch(request.content_type):
        # aiohttp says octet-stream where the client says nothing, which is taken for JSON. A form's types are refused
        # so that no web page can post to a server on the reader's own machine without asking it first.
        raise refuse("unsupported_media_type", (), f"Content-Type is {request.content_type}, expected application/json")
    limit = request.client_max_size
    try:
        if request.content_length is not None and request.content_length > limit:
            raise web.HTTPRequestEntityTooLarge(limit, request.content_length)
        return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise refuse("body_too_large", (), f"the body is larger than api.body_limit_bytes, {limit} bytes") from None


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
    code = next((code for start, code in _CODES if message.startswith(start)), "invalid_body")
    return refuse(code, tuple(loc), message[0].lower() + message[1:])
