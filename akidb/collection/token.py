"""Session tokens: a place in one collection's log, which only that collection takes back."""

from __future__ import annotations

import base64
import binascii
from uuid import UUID

from akidb.errors import InvalidInputError
from akidb.types import Lsn

_BYTES = 24  # the collection's uuid, then the LSN, big-endian


def session_token(collection: UUID, lsn: Lsn) -> str:
    """The token of slot `lsn`. To a caller it is opaque."""
    return base64.urlsafe_b64encode(collection.bytes + lsn.to_bytes(8, "big")).decode()


def parse_token(token: str) -> tuple[UUID, Lsn]:
    """The collection and slot of a token. Raises InvalidInputError `invalid_token` for a text that is none."""
    try:
        raw = base64.b64decode(token, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError, TypeError):
        raw = b""
    if len(raw) != _BYTES:
        raise InvalidInputError("the session is no token that AkiDB gave", code="invalid_token")
    return UUID(bytes=raw[:16]), int.from_bytes(raw[16:], "big")


def lsn_for(token: str, collection: UUID) -> Lsn:
    """The slot of a token of this collection. Raises InvalidInputError `invalid_token` for another's."""
    given, lsn = parse_token(token)
    if given != collection:
        raise InvalidInputError("the session token is of another collection", code="invalid_token")
    return lsn
