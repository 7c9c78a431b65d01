"""Where points go: a collection that exists, or one that is made when the first vector has told its dimension."""

from __future__ import annotations

from akidb.config import Settings
from akidb.connection import AsyncCollection, AsyncConnection, connect_async
from akidb.connection.embedded import EmbeddedDatabase
from akidb.database import Database
from akidb.errors import ConfigurationError, ConflictError, NotFoundError
from akidb.storage import open_store
from akidb.types import Metric


class Target:
    """The collection `name` of `database`. `metric` None: that of the collection, Cosine for a new one."""

    def __init__(self, database: AsyncConnection, name: str, *, metric: Metric | None, create: bool) -> None:
        self._database = database
        self._name = name
        self._wanted = metric
        self._create = create

    @property
    def metric(self) -> Metric:
        return self._wanted or Metric.COSINE

    async def existing(self) -> AsyncCollection | None:
        """The collection, None if it is to be made.

        Raises:
            NotFoundError: it is not there and is not to be made.
            ConflictError: it has another metric.
        """
        try:
            found = await self._database.collection(self._name)
        except NotFoundError as error:
            if self._create:
                return None
            raise NotFoundError(f"{error}; --create makes it", code=error.code) from error
        if self._wanted not in (None, found.metric):
            asked = f"collection {self._name!r} is under {found.metric.value}, asked for {self.metric.value}"
            raise ConflictError(asked, code="collection_exists")
        self._wanted = found.metric
        return found

    async def made(self, dim: int) -> AsyncCollection:
        return await self._database.get_or_create_collection(self._name, dim, metric=self.metric)


async def open_database(to: str | None, settings: Settings, *, api_key: str | None) -> AsyncConnection:
    """The database at `to`, or the one that the settings name.

    Raises:
        ConfigurationError: the settings name the memory store, which would be gone with this process.
    """
    if to is not None:
        return await connect_async(to, settings=settings, api_key=api_key)
    if settings.storage.use_memory_backend:
        raise ConfigurationError("the memory store is gone when this ends; name another with --to", code="memory_store")
    store = open_store(settings)
    try:
        return EmbeddedDatabase(await Database.open(store, settings), settings)
    except BaseException:
        await store.close()
        raise
