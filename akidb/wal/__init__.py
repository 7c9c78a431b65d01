"""The log of a shard: numbered slots, each put once. The truth about what was written; all else can be made from it.

Start at `record.py` for what is written, `slot.py` for its bytes, `tail.py` for what may be believed, `appender.py` for
how a write becomes durable.
"""

from akidb.wal.appender import Appender
from akidb.wal.collect import collect
from akidb.wal.epochs import Collected, collect_by_epoch, due_secs
from akidb.wal.log import Log
from akidb.wal.queue import Check
from akidb.wal.record import Batch, Delete, Entry, Once, Operation, Patch, Revert, Seal, Unpin, Upsert
from akidb.wal.slot import CHAIN_START, Slot, decode_slot, encode_slot
from akidb.wal.tail import State

__all__ = [
    "CHAIN_START",
    "Appender",
    "Batch",
    "Check",
    "Collected",
    "Delete",
    "Entry",
    "Log",
    "Once",
    "Operation",
    "Patch",
    "Revert",
    "Seal",
    "Slot",
    "State",
    "Unpin",
    "Upsert",
    "collect",
    "collect_by_epoch",
    "decode_slot",
    "due_secs",
    "encode_slot",
]
