"""Sorting many byte strings in pieces: `sorted` on a million keys would hold the GIL, and the event loop, for long."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_WORD = 8
_CHUNK = 10_000  # keys per call that holds the GIL: under a millisecond


def joined(items: Sequence[bytes]) -> list[bytes]:
    """b"".join in pieces, between which other threads run."""
    return [b"".join(items[at : at + _CHUNK]) for at in range(0, len(items), _CHUNK)]


def lengths(items: Sequence[bytes]) -> npt.NDArray[np.int64]:
    """int64 (n,): the length of each item."""
    parts = [np.fromiter(map(len, items[at : at + _CHUNK]), np.int64) for at in range(0, len(items), _CHUNK)]
    return np.concatenate([np.empty(0, np.int64), *parts])


def order(keys: Sequence[bytes]) -> npt.NDArray[np.int64]:
    """int64 (n,): the positions of distinct keys in the order of their bytes.

    A radix sort from the front: all keys by their first eight bytes, then those that are still tied by the next eight,
    and so on. NumPy sorts without the GIL. Missing bytes count as zero; of keys that look equal the shorter is first.
    """
    sizes = lengths(keys)
    starts = np.cumsum(sizes) - sizes
    data = b"".join([*joined(keys), b"\0" * _WORD])
    words_at = np.ndarray(len(data) - _WORD + 1, ">u8", data, strides=(1,))  # the eight bytes that begin at each offset
    result: npt.NDArray[np.int64] = np.arange(len(keys))
    places, items = result.copy(), result.copy()
    groups: npt.NDArray[np.int64] = np.zeros(len(keys), np.int64)
    depth = 0
    while len(items):
        have = np.clip(sizes[items] - depth, 0, _WORD)
        words = words_at[np.minimum(starts[items] + depth, len(words_at) - 1)].astype(np.uint64)
        spare = (8 * (_WORD - have)).astype(np.uint64)
        words = np.where(have == 0, np.uint64(0), words >> spare << spare)
        by = np.lexsort((have, words, groups))
        items, words, have, groups = items[by], words[by], have[by], groups[by]
        result[places] = items
        differs = np.ones(len(items) + 1, np.bool_)
        differs[1:-1] = (words[1:] != words[:-1]) | (have[1:] != have[:-1]) | (groups[1:] != groups[:-1])
        tied = np.flatnonzero(~(differs[:-1] & differs[1:]))
        places, items, groups = places[tied], items[tied], np.cumsum(differs[:-1], dtype=np.int64)[tied]
        depth += _WORD
    return result
