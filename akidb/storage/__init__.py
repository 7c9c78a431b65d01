"""Object stores: one protocol, three stores, wrappers that stack over them."""

from akidb.storage.factory import as_found, as_judged, open_location, open_store
from akidb.storage.file_cache import file_cache
from akidb.storage.object_store import Body, ObjectInfo, ObjectStore, Reply, Status
from akidb.storage.probe import require_conditional_puts

__all__ = [
    "Body",
    "ObjectInfo",
    "ObjectStore",
    "Reply",
    "Status",
    "as_found",
    "as_judged",
    "file_cache",
    "open_location",
    "open_store",
    "require_conditional_puts",
]
