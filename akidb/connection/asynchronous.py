"""Databases for asyncio: in this process or on a server, with the same calls."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TypeAlias

from akidb.config import Settings, from_s3_variables
from akidb.connection.embedded import EmbeddedCollection, EmbeddedDatabase
from akidb.database import Database
from akidb.errors import ConflictError, NotFoundError
from akidb.storage import open_location
from akidb.types import Metric

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
    """`connect` for asyncio: the same calls, awaited. What it gives belongs to the running event loop."""
    text = os.fspath(where)
    if text.startswith(("http://", "https://")):
        from akidb.client import RemoteDatabase  # aiohttp takes a third of a second that embedded use need not spend

        return await RemoteDatabase.connect(text, api_key=api_key, read_only=read_only)
    chosen = settings or (from_s3_variables() if text.startswith("s3://") else Settings())
    store = open_location(text, chosen)
    try:
        return EmbeddedDatabase(await Database.open(store, chosen, read_only=read_only), chosen)
    except BaseException:
        await store.close()
        raise


async def get_or_create(database: AsyncConnection, name: str, dim: int, **options: Any) -> AsyncCollection:
    """The collection of that name, made if need be. Raises ConflictError if it has another dimension or metric."""
    try:
        found: AsyncCollection = await database.collection(name)
    except NotFoundError:
        try:
            return await database.create_collection(name, dim, **options)
        except ConflictError:  # somebody else made it between the two calls
            found = await database.collection(name)
    metric = Metric.parse(options.get("metric", found.metric))
    if (found.dim, found.metric) != (dim, metric):
        raise ConflictError(
            f"collection {name!r} exists with {found.dim} dimensions under {found.metric.value}, "
            f"asked for {dim} under {metric.value}",
            code="collection_exists",
        )
    return found
