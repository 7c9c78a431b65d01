"""Payload blocks: zstd frames decoded on demand, the decoded ones shared by all segments of a process."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeAlias

import zstandard

BlockKey: TypeAlias = tuple[int, int]
"""Number of a segment's opening, and number of the block in it."""


class BlockCache:
    """Least recently used blocks are forgotten beyond `capacity` bytes. Safe from any thread.

    Two threads that miss the same block both decode it: cheaper than making either wait.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.bytes = 0
        self._blocks: OrderedDict[BlockKey, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: BlockKey, load: Callable[[], bytes]) -> bytes:
        """The block, from the cache or by `load`."""
        with self._lock:
            block = self._blocks.get(key)
            if block is not None:
                self._blocks.move_to_end(key)
                return block
        block = load()
        with self._lock:
            if key not in self._blocks:
                self._blocks[key] = block
                self.bytes += len(block)
                while self.bytes > self.capacity:
                    self.bytes -= len(self._blocks.popitem(last=False)[1])
        return block


SHARED_BLOCKS = BlockCache(64 << 20)

_thread = threading.local()


def decode_block(data: memoryview, raw_bytes: int) -> bytes:
    """The `raw_bytes` bytes that a block holds.

    Raises:
        ValueError: the frame is damaged or holds another number of bytes.
    """
    decompressor = getattr(_thread, "decompressor", None)
    if decompressor is None:  # one per thread: a zstd context serves one call at a time
        decompressor = _thread.decompressor = zstandard.ZstdDecompressor()
    try:
        block: bytes = decompressor.decompress(data, max_output_size=raw_bytes)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from error
    if len(block) != raw_bytes:
        raise ValueError(f"{len(block)} bytes, expected {raw_bytes}")
    return block
