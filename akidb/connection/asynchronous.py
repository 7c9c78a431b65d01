"""Databases for asyncio: in this process or on a server, with the same calls."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeAlias

from akidb.config import Settings, from_s3_variables
from akidb.connection.embedded import EmbeddedCollection, EmbeddedDatabase
from akidb.database import Database
from akidb.storage import as_found, open_location

if TYPE_CHECKING:
    from akidb.client import RemoteCollection, RemoteDatabase

AsyncConnection: TypeAlias = "EmbeddedDatabase | RemoteDatabase"
AsyncCollection: TypeAlias = "EmbeddedCollection | RemoteCollection"


async def connect_async(
    where: str | os.PathLike[str],
    *,
    read_only: bool = False,
    settings: Settings | None = None,
    api_key: str | None = None,
) -> AsyncConnection:
    """`connect` for asyncio: the same arguments and the same calls, awaited.

    What it gives belongs to the running event loop. `async with await connect_async(...) as database:` closes it.
    """
    text = os.fspath(where)
    if text.startswith(("http://", "https://")):
        from akidb.client import RemoteDatabase  # aiohttp takes a third of a second that embedded use need not spend

        return await RemoteDatabase.connect(text, api_key=api_key, read_only=read_only)
    chosen = settings or (from_s3_variables() if text.startswith("s3://") else Settings())
    store = open_location(text, as_found(chosen) if read_only else chosen)
    try:
        return EmbeddedDatabase(await Database.open(store, chosen, read_only=read_only), chosen)
    except BaseException:
        await store.close()
        raise
