"""API keys: asked for before anything of a body is read, compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Sequence

from aiohttp import web
from aiohttp.typedefs import Middleware

from akidb.api.errors import refuse
from akidb.api.route import Handler


def authenticate(keys: Sequence[str], public: Collection[str]) -> Middleware:
    """A middleware that lets pass who sends one of `keys`, and anyone to the `public` route templates."""
    # Only digests are kept: a memory dump or a debugger does not show keys.
    known = [_digest(key) for key in keys]

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        if resource is not None and resource.canonical in public:
            return await handler(request)
        sent = _digest(_sent_key(request))
        # No early return from the loop: how long this takes says nothing about which key matched.
        matches = [hmac.compare_digest(sent, digest) for digest in known]
        if not any(matches):
            raise refuse("unauthorized", (), "an API key is needed: send it as X-API-Key or as Authorization: Bearer")
        return await handler(request)

    return check


def _sent_key(request: web.Request) -> str:
    key = request.headers.get("X-API-Key")
    if key is not None:
        return key
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
