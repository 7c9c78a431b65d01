"""Every decoder of stored bytes, fed what no writer wrote: it refuses with CorruptionError, which names the object, or
gives something that can be read through. AKIDB_FUZZ_RUNS sets how many inputs each is given.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest

from akidb import HnswIndex
from akidb.collection.requests import decode_requests
from akidb.errors import CorruptionError
from akidb.filter import evaluate, parse
from akidb.manifest import RequestsRef, decode_head
from akidb.segment import Segment, decode_deletes
from akidb.segment.blocks import BlockCache
from akidb.wal import decode_slot
from tests.fuzz.mutation import mutated, repair_frame, repair_index_file

GOLDEN = Path(__file__).parents[1] / "compat" / "golden"
RUNS = int(os.environ.get("AKIDB_FUZZ_RUNS", "150"))
SHARD = UUID(int=0x11)
FILTERS = [
    parse(each)
    for each in (
        {"field": "n", "match": 1},
        {"field": "n", "range": {"gte": 0}},
        {"must_not": [{"exists": "n"}]},
        {"field": "tags", "match": "a"},
    )
]


def refusal(use: Callable[[], object], *names: str) -> bool:
    """Whether the bytes were refused; the error must name what they are of."""
    try:
        use()
    except CorruptionError as error:
        told = str(error) if error.key is None else error.key  # an index file is no object
        if any(name in told for name in names):
            return True
        raise
    return False


def slot(data: bytes, lsn: int = 1) -> None:
    for batch in decode_slot(data, lsn=lsn, shard=SHARD, name="objects/slot").batches:
        repr(batch)


def second_slot(data: bytes) -> None:
    slot(data, 2)


def head(data: bytes) -> None:
    repr(decode_head(data, shard=SHARD, name="objects/head"))


def requests(data: bytes) -> None:
    found = decode_requests(data, RequestsRef(UUID(int=0x77), 1, 1_700_000_000), name="objects/requests")
    found.find(UUID(int=0x33))


def deletes(data: bytes) -> None:
    assert decode_deletes(data, rows=2, name="objects/deletes").shape == (2,)


def segment(data: bytes) -> None:
    opened = Segment(memoryview(data), name="objects/segment", blocks=BlockCache(1 << 20))
    rows = list(range(min(opened.rows, 50)))
    for use in (
        lambda: opened.id_at(rows),
        lambda: opened.find(["a", "b", "é"]),
        lambda: opened.following(None, 3, None),
        lambda: opened.payloads(rows),
        lambda: opened.graph,
        opened.verify,
        *(lambda each=each: evaluate(each, opened.fields) for each in FILTERS),
    ):
        refusal(use, "objects/segment")


def index_file(data: bytes, path: Path) -> None:
    path.write_bytes(data)
    for opening in (HnswIndex.view, HnswIndex.load):
        opened = opening(path)
        opened.search(np.ones(opened.dim), 3)


CASES = [
    ("slot-1.0.bin", slot, repair_frame),
    ("slot-once-1.0.bin", slot, repair_frame),
    ("slot-revert-1.0.bin", second_slot, repair_frame),
    ("head-1.0.bin", head, repair_frame),
    ("head-requests-1.0.bin", head, repair_frame),
    ("head-snapshots-1.0.bin", head, repair_frame),
    ("requests-1.0.bin", requests, repair_frame),
    ("deletes-1.0.bin", deletes, repair_frame),
    ("segment-1.0.bin", segment, repair_frame),
    ("index-v1.aki", index_file, repair_index_file),
    ("index-v1-coded.aki", index_file, repair_index_file),
]


@pytest.mark.parametrize(("name", "decoder", "repair"), CASES, ids=[name for name, _, _ in CASES])
def test_foreign_bytes_are_refused_or_read(
    name: str, decoder: Callable[..., None], repair: Callable[[bytearray], None], tmp_path: Path
) -> None:
    good = (GOLDEN / name).read_bytes()
    more = (tmp_path / "index.aki",) if decoder is index_file else ()
    decoder(good, *more)
    refused = 0
    for seed in range(RUNS):
        data = mutated(good, np.random.default_rng(seed), repair)
        try:
            refused += refusal(
                lambda data=data: decoder(data, *more), *(map(str, (*more, "graph")) if more else ("objects/",))
            )
        except Exception as error:
            error.add_note(f"{name}: seed {seed}")
            raise
    assert refused > 0


def test_repair_leaves_whole_objects_as_they_are() -> None:
    for name, _, repair in CASES:
        good = (GOLDEN / name).read_bytes()
        data = bytearray(good)
        repair(data)
        assert bytes(data) == good, name
