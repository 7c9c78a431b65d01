"""HEAD of a shard: what it holds (model), its bytes (codec), what must hold (invariants), and its changes (store)."""

from akidb.manifest.codec import decode_head, encode_head
from akidb.manifest.invariants import INVARIANTS, broken
from akidb.manifest.model import Head, RequestsRef, SegmentRef
from akidb.manifest.store import HeadStore

__all__ = ["INVARIANTS", "Head", "HeadStore", "RequestsRef", "SegmentRef", "broken", "decode_head", "encode_head"]
