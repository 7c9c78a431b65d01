"""Searches and reads over an immutable snapshot. No I/O, so any thread may run them."""

from akidb.query.execute import execute
from akidb.query.fetch import count, fetch, matching_ids, matching_rows, scroll, versions
from akidb.query.plan import SearchQuery
from akidb.query.remote import GoneError, RemoteSegment, merged, read_directory, search_remote, serves
from akidb.query.snapshot import Part, Snapshot, side_by_side
from akidb.query.sparse import SparseSegment

__all__ = [
    "GoneError",
    "Part",
    "RemoteSegment",
    "SearchQuery",
    "Snapshot",
    "SparseSegment",
    "count",
    "execute",
    "fetch",
    "matching_ids",
    "matching_rows",
    "merged",
    "read_directory",
    "scroll",
    "search_remote",
    "serves",
    "side_by_side",
    "versions",
]
