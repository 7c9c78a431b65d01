"""The cache of decoded payload blocks."""

from __future__ import annotations

import pytest
import zstandard

from akidb.segment.blocks import BlockCache, decode_block


def test_cache_forgets_the_least_recently_used_beyond_its_capacity() -> None:
    cache = BlockCache(30)
    loads: list[int] = []

    def get(block: int) -> bytes:
        def load() -> bytes:
            loads.append(block)
            return bytes([block]) * 10

        return cache.get((7, block), load)

    for block in (1, 2, 3, 1, 4, 1, 2):
        assert get(block) == bytes([block]) * 10
    assert loads == [1, 2, 3, 4, 2]
    assert cache.bytes == 30


def test_cache_keeps_nothing_that_is_larger_than_itself() -> None:
    cache = BlockCache(5)
    assert cache.get((7, 0), lambda: b"0123456789") == b"0123456789"
    assert cache.bytes == 0


def test_decode_block_never_gives_wrong_bytes() -> None:
    data = zstandard.ZstdCompressor(write_checksum=True, write_content_size=False).compress(b"payload " * 99)
    assert decode_block(memoryview(data), 8 * 99) == b"payload " * 99
    for wrong in (8 * 99 - 1, 8 * 99 + 1):
        with pytest.raises(ValueError):
            decode_block(memoryview(data), wrong)
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 0x20
        try:
            block = decode_block(memoryview(damaged), 8 * 99)
        except ValueError:
            continue
        assert (at, block) == (5, b"payload " * 99), "the window size may be another, every other byte matters"
