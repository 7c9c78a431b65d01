"""`akidb.connect`: one surface over memory, a folder, a bucket or a server."""

from akidb.connection.asynchronous import AsyncCollection, AsyncConnection, connect_async
from akidb.connection.blocking import Collection, Connection, connect

__all__ = [
    "AsyncCollection",
    "AsyncConnection",
    "Collection",
    "Connection",
    "connect",
    "connect_async",
]
