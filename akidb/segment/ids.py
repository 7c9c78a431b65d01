"""Hashes and order of many ids, never holding the interpreter for long: both run while searches are served."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import xxhash

_HASHES_AT_ONCE = 4096
_CHUNK = 8


def id_hashes(keys: Sequence[bytes]) -> npt.NDArray[np.uint64]:
    """XXH3-64 (seed 0) of each UTF-8 encoded id, uint64 (n,)."""
    hashes = np.empty(len(keys), np.uint64)
    for at in range(0, len(keys), _HASHES_AT_ONCE):  # map() gives way to no other thread until it ends
        some = keys[at : at + _HASHES_AT_ONCE]
        hashes[at : at + len(some)] = np.fromiter(map(xxhash.xxh3_64_intdigest, some), np.uint64, len(some))
    return hashes


def id_order(offsets: npt.NDArray[np.uint64], text: bytes) -> npt.NDArray[np.int64]:
    """The rows by rising id, compared byte by byte; the ids as codec.pack gives them, all different.

    Eight bytes at a time, and in each round only rows that are still level with another. Python's sort would hold the
    interpreter for a second per million ids.
    """
    data = np.frombuffer(text + bytes(_CHUNK), np.uint8)
    starts, ends = offsets[:-1].astype(np.int64), offsets[1:].astype(np.int64)
    order = np.arange(len(starts))
    group = np.zeros(len(starts), np.int64)
    pending = order.copy() if len(order) > 1 else order[:0]
    depth = 0
    while len(pending):
        rows = order[pending]
        lengths = ends[rows] - starts[rows]
        ended = depth >= lengths.max()  # what is level now differs in zeros at the end only: the shorter is smaller
        chunk = lengths if ended else _chunks(data, starts[rows] + depth, ends[rows])
        by = np.lexsort((chunk, group[pending]))
        order[pending], chunk, groups = rows[by], chunk[by], group[pending]
        parts = (chunk[1:] != chunk[:-1]) | (groups[1:] != groups[:-1])
        group[pending] = np.concatenate([[0], np.cumsum(parts)])
        level = np.concatenate([~parts, [False]]) | np.concatenate([[False], ~parts])
        pending = pending[:0] if ended else pending[level]
        depth += _CHUNK
    return order


def _chunks(
    data: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]
) -> npt.NDArray[np.uint64]:
    """The eight bytes from each of `starts` on as numbers that compare like them, zeros after `ends`."""
    places = np.minimum(starts, ends)[:, None] + np.arange(_CHUNK)
    found = data[places]
    found[places >= ends[:, None]] = 0
    return found.view(">u8")[:, 0].astype(np.uint64)
