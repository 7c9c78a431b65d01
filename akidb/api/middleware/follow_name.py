"""A name belongs to the collection that has it now, also where another node dropped the one that this node knows.

No request asks the catalogue first, which on S3 would cost each of them a round trip. One that was refused by a
collection which turns out to be dropped is handled again, by what has its name now; the first try changed nothing.
"""

from __future__ import annotations

import contextlib
import time

from aiohttp import web

from akidb.api.route import Handler
from akidb.api.service import COLLECTION
from akidb.collection import Collection
from akidb.errors import AkiDBError, InvalidInputError, NotFoundError
from akidb.types import STRONG

LOOK_SECS = 1.0


@web.middleware
async def follow_name(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except (NotFoundError, InvalidInputError) as error:
        used = request.get(COLLECTION)
        if used is None or not await _was_dropped(used, error):
            raise
    return await handler(request)


async def _was_dropped(used: Collection, error: AkiDBError) -> bool:
    """Whether the refusal came from a collection that is no more. Input may have been checked (its dimensions, say)
    with nothing asked of the store yet, so that is done here."""
    if isinstance(error, InvalidInputError):
        with contextlib.suppress(AkiDBError):
            await used.snapshot(STRONG, deadline=time.monotonic() + LOOK_SECS)
    return used.sealed
