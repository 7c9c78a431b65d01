"""A route declared once: the application, the OpenAPI document and the documentation page all read it."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from aiohttp import web

KEY_HEADER = "Idempotency-Key"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query parameter."""

    name: str
    schema: dict[str, Any]
    help: str


@dataclass(frozen=True, slots=True)
class Route:
    """One operation.

    Args:
        path: the template, with {name}, {id} and {snapshot}; also the `endpoint` of metrics.
        body: the type of the request's JSON, None without a body.
        answer: the type of the answer's JSON; a text names another media type; None is no body.
        problems: statuses it may answer besides those of every route.
        public: answered without an API key.
        once: takes an Idempotency-Key: sent again under it, it is done once.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    tag: str
    body: Any = None
    body_required: bool = True
    answer: Any = None
    status: int = 200
    problems: tuple[int, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    public: bool = False
    once: bool = False

    @property
    def pattern(self) -> str:
        """The template in aiohttp's words. Any percent-encoded id may stand there, also braces, unlike with `{id}`."""
        return re.sub(r"\{(\w+)\}", r"{\1:[^/]+}", self.path)


def json_response(value: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """The value as JSON."""
    return web.Response(
        body=msgspec.json.encode(value), status=status, content_type="application/json", headers=headers
    )
