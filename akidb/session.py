"""Session tokens: a place in the log of each shard of one collection, which only that collection takes back."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from uuid import UUID

from akidb.errors import InvalidInputError
from akidb.types import Lsn

_UUID_BYTES, _LSN_BYTES = 16, 8  # the collection's uuid, then an LSN of each shard, big-endian


def session_token(collection: UUID, lsns: Sequence[Lsn]) -> str:
    """The token of one slot of each shard, in their order. To a caller it is opaque."""
    places = b"".join(lsn.to_bytes(_LSN_BYTES, "big") for lsn in lsns)
    return base64.urlsafe_b64encode(collection.bytes + places).decode()


def parse_token(token: str) -> tuple[UUID, tuple[Lsn, ...]]:
    """The collection and slots of a token. Raises InvalidInputError `invalid_token` for a text that is none."""
    try:
        raw = base64.b64decode(token, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError, TypeError):
        raw = b""
    places = raw[_UUID_BYTES:]
    if not places or len(places) % _LSN_BYTES:
        raise InvalidInputError("the session is no token that AkiDB gave", code="invalid_token")
    lsns = (int.from_bytes(places[at : at + _LSN_BYTES], "big") for at in range(0, len(places), _LSN_BYTES))
    return UUID(bytes=raw[:_UUID_BYTES]), tuple(lsns)


def lsns_for(token: str, collection: UUID, shards: int) -> tuple[Lsn, ...]:
    """The slots of a token of this collection. Raises InvalidInputError `invalid_token` for another's."""
    given, lsns = parse_token(token)
    if given != collection or len(lsns) != shards:
        raise InvalidInputError("the session token is of another collection", code="invalid_token")
    return lsns


def joined(known: str, new: str) -> str:
    """The token that covers both of one collection; answers may come in another order than the writes they tell of.

    "" is no token; of two collections, or of tokens of a form that is not known here, the new one is meant.
    """
    if not known or not new:
        return known or new
    try:
        (collection, mine), (other, theirs) = parse_token(known), parse_token(new)
    except InvalidInputError:
        return new
    if collection != other or len(mine) != len(theirs):
        return new
    return session_token(collection, tuple(map(max, mine, theirs)))
