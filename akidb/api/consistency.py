"""Which writes a read must see, as requests say it; and the token that lets a caller see its own."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import msgspec
from aiohttp import web

from akidb.api.errors import refuse
from akidb.api.schemas import ConsistencyObject, Weaker
from akidb.collection import Collection
from akidb.errors import InvalidInputError
from akidb.session import parse_token
from akidb.types import EVENTUAL, STRONG, Consistency

TOKEN_HEADER = "X-AkiDB-Token"  # noqa: S105  a place in the log, no secret
STALENESS_HEADER = "X-AkiDB-Staleness-Ms"


def of(request: web.Request, given: ConsistencyObject, as_of: str | None = None) -> Consistency | None:
    """What the body says, else the session of the request's X-AkiDB-Token, else None for the configured default;
    `as_of` names a snapshot to read.

    Raises:
        InvalidInputError: `invalid_consistency`, `invalid_token`.
    """
    if as_of is not None:
        return replace(of(request, given) or STRONG, as_of=as_of)
    if given is None:
        token = request.headers.get(TOKEN_HEADER)
        return None if token is None else Consistency("session", token=_checked(token, (TOKEN_HEADER,)))
    if isinstance(given, Weaker):
        return _weaker(given)
    if given not in ("strong", "eventual"):
        msg = f"is {given!r}, expected strong, eventual, {{session}} or {{bounded_ms}}"
        raise refuse("invalid_consistency", ("consistency",), msg)
    return STRONG if given == "strong" else EVENTUAL


def of_query(request: web.Request) -> Consistency | None:
    """The same for GET, from `?consistency=`: strong, eventual, session:TOKEN or bounded_ms:N."""
    text = request.query.get("consistency")
    if text is None or text in ("strong", "eventual"):
        return of(request, text)
    kind, _, value = text.partition(":")
    if kind == "session":
        return Consistency("session", token=_checked(value, ("consistency",)))
    if kind == "bounded_ms" and value.isascii() and value.isdigit() and len(value) < 9:
        return Consistency("bounded", bounded_ms=int(value))
    msg = f"is {text!r}, expected strong, eventual, session:TOKEN or bounded_ms:N"
    raise refuse("invalid_consistency", ("consistency",), msg)


def of_snapshot(request: web.Request) -> Consistency | None:
    """The same for GETs that can be of a snapshot, which `?as_of=` names."""
    wanted, as_of = of_query(request), request.query.get("as_of")
    return wanted if as_of is None else replace(wanted or STRONG, as_of=as_of)


def token(collection: Collection) -> dict[str, str]:
    """The response header that tells how far the logs of the collection's shards are known here."""
    return {TOKEN_HEADER: collection.token}


class Told:
    """What the headers of a read's answer tell: the token and, of a read that may see an older state, how old at most
    that is. Made before the read."""

    def __init__(self, collection: Collection, wanted: Consistency | None) -> None:
        self._collection = collection
        self._since = collection.read_since(wanted)

    def headers(self) -> dict[str, str]:
        if self._since is None:
            return token(self._collection)
        staleness = math.ceil((time.monotonic() - self._since) * 1000)
        return token(self._collection) | {STALENESS_HEADER: str(staleness)}


def _weaker(given: Weaker) -> Consistency:
    if (given.session is msgspec.UNSET) == (given.bounded_ms is msgspec.UNSET):
        raise refuse("invalid_consistency", ("consistency",), "expected one of session and bounded_ms")
    if given.bounded_ms is not msgspec.UNSET:
        return Consistency("bounded", bounded_ms=given.bounded_ms)
    return Consistency("session", token=_checked(str(given.session), ("consistency", "session")))


def _checked(token: str, loc: tuple[str | int, ...]) -> str:
    """Refuses what is no token with its place in the request; whether it is one of the collection's, that will say."""
    try:
        parse_token(token)
    except InvalidInputError:
        raise refuse("invalid_token", loc, "is no token that AkiDB gave in X-AkiDB-Token") from None
    return token
