"""The collections of a server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any
from urllib.parse import quote

import msgspec

from akidb.client import schemas
from akidb.client.collection import RemoteCollection
from akidb.client.transport import TIMEOUT_SECS, Transport, key_or_new
from akidb.errors import AkiDBError, ReadOnlyError, UnavailableError
from akidb.surface import AsyncDatabase
from akidb.types import INDEX_FIELDS, CollectionSpec, IndexParams, Metric


class RemoteDatabase(AsyncDatabase[RemoteCollection]):
    """A running akidb-api, with the calls of the embedded database."""

    def __init__(self, transport: Transport, *, read_only: bool) -> None:
        self._transport = transport
        self._read_only = read_only

    @classmethod
    async def connect(
        cls, url: str, *, api_key: str | None = None, read_only: bool = False, timeout_secs: float = TIMEOUT_SECS
    ) -> RemoteDatabase:
        """Opens connections to the server at `url` ("http://host:port", or https, with a path where a proxy wants one).

        Raises:
            ConfigurationError: `url` is no address of a server.
            UnavailableError: nothing answers there, or something that is not akidb-api.
        """
        transport = Transport(url, api_key=api_key, timeout_secs=timeout_secs)
        try:
            await transport.send("GET", "/health/live", repeatable=True)
        except AkiDBError as error:
            await transport.close()
            if isinstance(error, UnavailableError):
                raise
            raise UnavailableError(f"{transport.base} does not answer like akidb-api: {error}") from error
        except BaseException:
            await transport.close()
            raise
        return cls(transport, read_only=read_only)

    @property
    def location(self) -> str:
        return self._transport.base

    async def create_collection(
        self,
        name: str,
        dim: int,
        *,
        metric: str | Metric = Metric.COSINE,
        index: IndexParams | Mapping[str, Any] | None = None,
        payload_schema: Mapping[str, Any] | None = None,
        shard_count: int = 1,
        idempotency_key: str | None = None,
    ) -> RemoteCollection:
        """A new collection; `index` is IndexParams or a dict of some of its fields, `shard_count` into how many logs,
        1 to 256, its points are spread.

        Raises:
            ConflictError: the name is taken.
            InvalidInputError: bad values.
        """
        self._refuse_if_read_only()
        body: dict[str, Any] = {"name": name, "vector_dim": dim, "distance": Metric.parse(metric).value}
        if index is not None:
            chosen = asdict(IndexParams.parse(index, IndexParams()))
            # Of a dict only what it names: the server has defaults of its own.
            named = index if isinstance(index, Mapping) else INDEX_FIELDS
            body["index"] = {name: chosen[name] for name in named}
        if payload_schema is not None:
            body["payload_schema"] = payload_schema
        if shard_count != 1:
            body["shard_count"] = shard_count
        await self._transport.exchange("POST", "/collections", body, repeatable=False, key=key_or_new(idempotency_key))
        return await self.collection(name)

    async def clone_collection(
        self, source: str, name: str, *, as_of: str | None = None, idempotency_key: str | None = None
    ) -> RemoteCollection:
        """A new collection `name` with the points of `source`, or of its snapshot `as_of`; nothing is copied.

        Raises:
            ConflictError: the name is taken, or `too_many_snapshots` and clones of `source`; nothing was created.
            NotFoundError: there is no `source`, or no such snapshot of it.
            InvalidInputError: bad name.
        """
        self._refuse_if_read_only()
        body = {"name": name} | ({} if as_of is None else {"as_of": as_of})
        path, key = f"/collections/{quote(source, safe='')}/clone", key_or_new(idempotency_key)
        await self._transport.exchange("POST", path, body, repeatable=False, key=key)
        return await self.collection(name)

    async def collection(self, name: str) -> RemoteCollection:
        """An existing collection. Raises NotFoundError."""
        path = f"/collections/{quote(name, safe='')}"
        answer = await self._transport.exchange("GET", path, repeatable=True)
        description = msgspec.json.decode(answer.body, type=schemas.CollectionDescription)
        spec: CollectionSpec = description.info().spec
        return RemoteCollection(self._transport, spec, read_only=self._read_only, token=answer.token)

    async def list_collections(self) -> list[str]:
        """Names, sorted."""
        answer = await self._transport.send("GET", "/collections", repeatable=True)
        listing = msgspec.json.decode(answer, type=schemas.Listing)
        unopened = [entry.name for entry in listing.unopened]
        return sorted([*(entry.name for entry in listing.collections), *unopened])

    async def drop_collection(self, name: str, *, idempotency_key: str | None = None) -> None:
        """Removes a collection with all its points. Raises NotFoundError."""
        self._refuse_if_read_only()
        path = f"/collections/{quote(name, safe='')}"
        await self._transport.exchange("DELETE", path, repeatable=False, key=key_or_new(idempotency_key))

    async def close(self) -> None:
        """Closes the connections."""
        await self._transport.close()

    def _refuse_if_read_only(self) -> None:
        if self._read_only:
            raise ReadOnlyError(f"{self.location} is open read-only")
