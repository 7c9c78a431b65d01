"""Id order equals Python's sort of the bytes; hashes are xxhash's."""

from __future__ import annotations

import numpy as np
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from akidb.codec import pack
from akidb.segment.ids import id_hashes, id_order

# few letters and long common beginnings, so that many ids are level for several rounds
similar = st.builds(lambda start, end: "12345678" * start + end, st.integers(0, 4), st.text("\0a€", max_size=20))


@given(st.sets(st.one_of(similar, st.text(max_size=30)).map(str.encode), max_size=60))
def test_id_order_is_the_order_of_the_bytes(keys: set[bytes]) -> None:
    unsorted = sorted(keys, key=lambda key: key[::-1])
    order = id_order(*pack(unsorted))
    assert [unsorted[row] for row in order] == sorted(keys)


def test_id_order_of_many_ids() -> None:
    numbers = np.random.default_rng(1).permutation(50_000)
    keys = [b"collection/part-%d" % n for n in numbers]
    assert [keys[row] for row in id_order(*pack(keys))] == sorted(keys)


def test_id_hashes_are_xxh3_64() -> None:
    keys = [b"%d" % i for i in range(10_001)]
    assert id_hashes(keys).tolist() == [xxhash.xxh3_64_intdigest(key) for key in keys]
    assert id_hashes([]).tolist() == []
