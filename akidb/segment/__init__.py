"""Rows of a shard: the memtable they arrive in, the immutable files they end up in, and what is dead of each."""

from akidb.segment.blocks import BlockCache, decode_block
from akidb.segment.columns import Columns, Mask, Rows
from akidb.segment.deletes import decode_deletes, encode_deletes
from akidb.segment.ids import id_hashes
from akidb.segment.lists_format import ListDirectory, RowList, decode_directory
from akidb.segment.memtable import MemTable, MemView
from akidb.segment.payload_patch import merge_patch
from akidb.segment.reader import Segment
from akidb.segment.verify import ID_REGIONS, reread, verify_vectors
from akidb.segment.writer import SegmentStats, Source, write_segment

__all__ = [
    "ID_REGIONS",
    "BlockCache",
    "Columns",
    "ListDirectory",
    "Mask",
    "MemTable",
    "MemView",
    "RowList",
    "Rows",
    "Segment",
    "SegmentStats",
    "Source",
    "decode_block",
    "decode_deletes",
    "decode_directory",
    "encode_deletes",
    "id_hashes",
    "merge_patch",
    "reread",
    "verify_vectors",
    "write_segment",
]
