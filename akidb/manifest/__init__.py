"""HEAD of a shard: what it holds (model), its bytes (codec), what must hold (invariants), and its changes (store).

Beside it: the keys of what it names (names), and manifests, which are what it said at a snapshot (pins).
"""

from akidb.manifest.codec import decode_head, encode_head
from akidb.manifest.invariants import INVARIANTS, broken
from akidb.manifest.model import Head, Pin, RequestsRef, SegmentRef
from akidb.manifest.names import (
    AUTOMATIC,
    DELETES,
    EPOCHS_OPEN,
    FOLDERS,
    REGULAR,
    SEGMENTS,
    before_revert,
    epoch_of,
    is_object,
    object_key,
    part_of,
    regular,
)
from akidb.manifest.pins import Manifests, has_room
from akidb.manifest.store import HeadStore

__all__ = [
    "AUTOMATIC",
    "DELETES",
    "EPOCHS_OPEN",
    "FOLDERS",
    "INVARIANTS",
    "REGULAR",
    "SEGMENTS",
    "Head",
    "HeadStore",
    "Manifests",
    "Pin",
    "RequestsRef",
    "SegmentRef",
    "before_revert",
    "broken",
    "decode_head",
    "encode_head",
    "epoch_of",
    "has_room",
    "is_object",
    "object_key",
    "part_of",
    "regular",
]
