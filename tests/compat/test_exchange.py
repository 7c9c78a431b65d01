"""A segment with everything in it, graph and codes included, is the same bytes on every architecture.

One golden file was written by an emulated ARM when graphs were of version 2, and is read for ever. The other is what is
written now; `make test-arm` runs these tests there as well, so each of both must write it, and each reads the other's.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zstandard

import akidb
from akidb.filter import evaluate, parse
from akidb.segment import Segment
from tests.compat import exchange

FOLDER = Path(__file__).parent / "golden"
OF_ARM, GOLDEN = FOLDER / "segment-graph-1.0.bin", FOLDER / "segment-graph-packed-1.0.bin"
ZSTD = (1, 5, 7)
"""What compressed the golden file's payloads; another release may do it otherwise."""
COMPRESSED = ("paydata", "payblk")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written")
    exchange.fill(folder, exchange.CODED)
    return folder


@pytest.mark.skipif(akidb.simd_info()["level"] == "scalar", reason="rounds otherwise: csrc/distance/README.md")
def test_what_is_written_is_the_same_everywhere(folder: Path) -> None:
    (written,) = exchange.segments(folder).values()
    ours, theirs = Segment(memoryview(written), name="ours"), Segment.open(GOLDEN, name=GOLDEN.name)
    assert list(ours.regions) == list(theirs.regions)
    for name, region in theirs.regions.items():
        if name not in COMPRESSED:
            assert ours.regions[name] == region, name
    assert ours.payloads(range(ours.rows)) == theirs.payloads(range(theirs.rows))
    if zstandard.ZSTD_VERSION == ZSTD:
        assert written == GOLDEN.read_bytes()


@pytest.mark.parametrize("golden", [OF_ARM, GOLDEN])
def test_what_was_written_elsewhere_answers(golden: Path) -> None:
    written, segment = exchange.CODED, Segment.open(golden, name=golden.name, verify=True)
    ids = [written.ids[i] for i in written.kept]
    rows = segment.find(ids)
    assert sorted(rows.tolist()) == list(range(segment.rows))
    np.testing.assert_array_equal(segment.vectors[rows], written.vectors[written.kept])
    assert len(evaluate(parse({"field": "n", "match": 3}), segment.fields)) == sum(
        i % 7 == 3 and i % 11 != 0 for i in written.kept
    )
    assert segment.graph is not None
    found, distances = segment.graph.search(written.vectors[written.kept], 1, ef_search=60)
    np.testing.assert_array_equal(found[:, 0], rows)
    np.testing.assert_allclose(distances[:, 0], 0, atol=1e-6)


def test_the_database_answers_as_it_must(folder: Path) -> None:
    exchange.ask(folder, exchange.CODED)
