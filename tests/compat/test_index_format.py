"""The formats of a saved index: the worked example of docs/formats/graph.md, and a golden file per version for ever."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from akidb import HnswIndex
from akidb.index import build_graph

ROOT = Path(__file__).parents[2]
FOLDER = Path(__file__).parent / "golden"
PLAIN, INT8 = FOLDER / "index-v1.aki", FOLDER / "index-v2-int8.aki"
CODED, PACKED = FOLDER / "index-v1-coded.aki", FOLDER / "index-v1-packed.aki"  # sealed: graphs of version 2, 3

# Whole numbers, whose distances are exact on every machine.
VECTORS = np.array([[x % 7, x % 5, x % 3] for x in range(1, 41)], np.float32)


def golden_index() -> HnswIndex:
    index = HnswIndex(3, "l2", m=4, ef_construction=20, seed=1)
    index.add(np.arange(40) * 3, VECTORS, threads=1)
    return index


@pytest.mark.parametrize(("heading", "code_bits"), [("## Worked example", "auto"), ("### Sealed", 4)])
def test_the_worked_example_is_what_is_built(heading: str, code_bits: Any) -> None:
    vectors = np.array([[0, 0], [1, 0], [0, 2], [5, 5]], np.float32)
    graph = build_graph(vectors, "l2", m=2, ef_construction=10, seed=0, code_bits=code_bits)
    shown = np.zeros(len(graph), np.uint8)
    example = (ROOT / "docs/formats/graph.md").read_text().split(f"\n{heading}\n")[1].split("\n#")[0]
    for line in example.splitlines():
        if row := re.match(r" *(\d+)((?: [0-9a-f]{2}){16})", line):
            shown[int(row[1]) :][:16] = list(bytes.fromhex(row[2]))
    assert shown.tobytes() == bytes(graph)


@pytest.mark.parametrize(("at", "golden"), [(0, PLAIN), (1, INT8)])
def test_the_worked_examples_are_the_golden_files(at: int, golden: Path) -> None:
    dump = re.findall(r"```\n(0000 .*?)```", (ROOT / "docs/formats/index.md").read_text(), re.DOTALL)[at]
    told = {int(line[:4], 16): bytes.fromhex(line[4:]) for line in dump.splitlines()}
    data = golden.read_bytes()
    assert told == {place: data[place : place + 16] for place in told}
    header = data[: max(place for place in told if place < 0x1000) + 16]
    assert header == b"".join(told[place] for place in range(0, len(header), 16))
    assert not any(data[len(header) : 0x1000])


@pytest.mark.parametrize("golden", [PLAIN, CODED, PACKED, INT8])
@pytest.mark.parametrize("opened", [HnswIndex.load, HnswIndex.view])
def test_the_golden_file_answers_as_on_its_first_day(opened: Callable[[Path], Any], golden: Path) -> None:
    index = opened(golden)
    assert index.validate()["nodes"] == 40
    np.testing.assert_array_equal(index.get(np.arange(40) * 3), VECTORS)
    found = index.search(VECTORS, 3, ef_search=40)
    wanted = golden_index().search(VECTORS, 3, ef_search=40)
    if golden not in (
        CODED,
        PACKED,
    ):  # vectors at the same distance come in the order in which a walk over codes meets them
        np.testing.assert_array_equal(found.ids, wanted.ids)
    np.testing.assert_array_equal(found.distances, wanted.distances)


def test_the_golden_file_is_what_is_written(tmp_path: Path) -> None:
    index = HnswIndex.load(PLAIN)  # whose links are those that the build of its day made
    index.save(tmp_path / "plain.aki")
    index.seal(4).save(tmp_path / "packed.aki")
    assert (tmp_path / "plain.aki").read_bytes() == PLAIN.read_bytes()
    assert (tmp_path / "packed.aki").read_bytes() == PACKED.read_bytes()
    HnswIndex.load(INT8).save(tmp_path / "int8.aki")
    assert (tmp_path / "int8.aki").read_bytes() == INT8.read_bytes()
