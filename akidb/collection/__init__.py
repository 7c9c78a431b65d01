"""Collections: a shard's state, its log, and the background work that keeps both small.

Start at `shard.py` for how a state comes to be, `fold.py` for how the log becomes segments, and `collection.py` for
what users call.
"""

from akidb.collection.collection import Collection
from akidb.collection.forwarding import Peers, decode_forwarded, encode_done
from akidb.collection.prepared import PreparedSearch
from akidb.collection.routing import shard_uuid
from akidb.collection.sealing import drop_unopened
from akidb.collection.shard import Shard
from akidb.collection.workers import Workers

__all__ = [
    "Collection",
    "Peers",
    "PreparedSearch",
    "Shard",
    "Workers",
    "decode_forwarded",
    "drop_unopened",
    "encode_done",
    "shard_uuid",
]
