"""AkiDB: a vector database whose only durable state is an object store.

    import akidb
    with akidb.connect("./data") as database:
        ...

Names are imported when first used, so that `import akidb` costs little and a program pays only for what it touches.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from akidb.connection import Collection, Connection, connect, connect_async
    from akidb.errors import AkiDBError
    from akidb.index import FlatIndex, HnswIndex, simd_info
    from akidb.types import Consistency, IndexParams, Metric, Point, ScoredPoint

__version__ = "0.1.0"

__all__ = [
    "AkiDBError",
    "Collection",
    "Connection",
    "Consistency",
    "FlatIndex",
    "HnswIndex",
    "IndexParams",
    "Metric",
    "Point",
    "ScoredPoint",
    "connect",
    "connect_async",
    "simd_info",
]

_HOME = {
    "AkiDBError": "errors",
    "Collection": "connection",
    "Connection": "connection",
    "Consistency": "types",
    "FlatIndex": "index",
    "HnswIndex": "index",
    "IndexParams": "types",
    "Metric": "types",
    "Point": "types",
    "ScoredPoint": "types",
    "connect": "connection",
    "connect_async": "connection",
    "simd_info": "index",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'akidb' has no attribute {name!r}")
    value = getattr(import_module(f"akidb.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
