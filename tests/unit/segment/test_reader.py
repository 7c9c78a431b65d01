"""Opening, finding and fetching; and that no damaged byte passes for data."""

from __future__ import annotations

import gc
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from akidb.codec.frame import crc32c
from akidb.errors import CorruptionError
from akidb.index import build_graph
from akidb.segment import BlockCache, Segment, reader, writer
from akidb.types import CollectionSpec
from tests.unit.segment.conftest import Made

REGIONS = ["idoff", "idtext", "idhash", "idrow", "idorder", "vectors", "norms", "lsns", "paydata", "payblk", "payoff"]
REGIONS += ["meta", "payhas", "fields", "graph"]


def offset_of(made: Made, region: str) -> int:
    whole = np.frombuffer(made.segment._data, np.uint8).ctypes.data
    return int(np.frombuffer(made.segment.regions[region], np.uint8).ctypes.data - whole)


@pytest.mark.parametrize("region", REGIONS)
def test_verify_names_the_damaged_region(make: Callable[..., Made], region: str) -> None:
    made = make(100, graph=b"the graph's bytes")
    start, length = offset_of(made, region), len(made.segment.regions[region])
    for at in {start, start + length // 2, start + length - 1}:
        data = bytearray(made.path.read_bytes())
        data[at] ^= 0x40
        made.path.write_bytes(data)
        with pytest.raises(CorruptionError, match=rf"object seg/1: (section|region) {region}"):
            Segment.open(made.path, name="seg/1", verify=True)
        data[at] ^= 0x40
        made.path.write_bytes(data)
    Segment.open(made.path, name="seg/1", verify=True)


def test_open_refuses_any_damage_to_header_and_directory(make: Callable[..., Made]) -> None:
    made = make(10)
    whole = made.path.read_bytes()
    directory = struct.unpack_from("<Q", whole, 24)[0]
    for at in [*range(64), *range(directory, len(whole))]:
        data = bytearray(whole)
        data[at] ^= 0x01
        made.path.write_bytes(data)
        with pytest.raises(CorruptionError, match="object seg/1: "):
            Segment.open(made.path, name="seg/1")


@pytest.mark.parametrize(
    "region", ["meta", "idoff", "idtext", "idhash", "idrow", "idorder", "payblk", "payoff", "payhas"]
)
def test_open_notices_a_flipped_bit_that_would_hide_a_point(make: Callable[..., Made], region: str) -> None:
    made = make(20)
    whole, start = made.path.read_bytes(), offset_of(made, region)
    for at in range(start, start + len(made.segment.regions[region])):
        data = bytearray(whole)
        data[at] ^= 0x01
        made.path.write_bytes(data)
        with pytest.raises(CorruptionError, match=rf"object seg/1: section {region} fails its checksum"):
            Segment.open(made.path, name="seg/1")


@pytest.mark.parametrize("keep", [0, 1, 63, 64, 1000, -1])
def test_open_refuses_a_truncated_file(make: Callable[..., Made], keep: int) -> None:
    made = make(30)
    made.path.write_bytes(made.path.read_bytes()[:keep])
    with pytest.raises(CorruptionError, match="object seg/1: "):
        Segment.open(made.path, name="seg/1")


def rewritten(made: Made, region: str, at: int, value: bytes) -> memoryview:
    """The object with bytes of a region replaced and all its checksums made right again."""
    data = bytearray(made.path.read_bytes())
    start, length = offset_of(made, region), len(made.segment.regions[region])
    data[start + at : start + at + len(value)] = value
    directory, count = struct.unpack_from("<Q", data, 24)[0], struct.unpack_from("<I", data, 48)[0]
    for entry in range(directory, directory + 32 * count, 32):
        if data[entry : entry + 8].rstrip(b"\0").decode() == region:
            struct.pack_into("<I", data, entry + 24, crc32c(bytes(data[start : start + length])))
    struct.pack_into("<I", data, 52, crc32c(bytes(data[directory : directory + 32 * count])))
    struct.pack_into("<I", data, 60, crc32c(bytes(data[:60])))
    return memoryview(bytes(data))


@pytest.mark.parametrize(
    ("region", "at", "value", "message"),
    [
        ("meta", 0, struct.pack("<Q", 11), "region idoff has 88 bytes, expected 96"),
        ("meta", 8, struct.pack("<I", 0), "dimension 0"),
        ("meta", 12, struct.pack("<I", 3), "metric 3"),
        ("idoff", 8, struct.pack("<Q", 1 << 40), "region idoff does not hold ascending offsets"),
        ("idoff", 80, struct.pack("<Q", 1), "region idoff does not hold ascending offsets"),
        ("payblk", 16, struct.pack("<Q", 1 << 40), "region payblk does not hold ascending offsets"),
    ],
)
def test_open_checks_sizes_and_offsets(
    make: Callable[..., Made], region: str, at: int, value: bytes, message: str
) -> None:
    with pytest.raises(CorruptionError, match=message):
        Segment(rewritten(make(10), region, at, value), name="seg/1")


def test_rows_out_of_range_are_noticed_when_they_are_met(make: Callable[..., Made]) -> None:
    made = make(10)
    beyond = struct.pack("<I", 10) * 10
    with pytest.raises(CorruptionError, match="region idrow names row 10 of 10"):
        Segment(rewritten(made, "idrow", 0, beyond), name="seg/1").find(made.ids)
    with pytest.raises(CorruptionError, match="region idorder names row 10 of 10"):
        Segment(rewritten(made, "idorder", 0, beyond), name="seg/1").following(None, 1, None)
    with pytest.raises(CorruptionError, match="region payoff points outside"):
        Segment(rewritten(made, "payoff", 8, struct.pack("<Q", 1 << 50)), name="seg/1").payloads([0])


def test_a_damaged_graph_is_told_with_the_object(make: Callable[..., Made]) -> None:
    plain = make(40)
    made = make(40, graph=build_graph(plain.vectors, "cosine", m=4, ef_construction=20, threads=1))
    with pytest.raises(CorruptionError, match="object seg/2: region graph: the graph has a damaged header"):
        _ = Segment(rewritten(made, "graph", 64, b"\1"), name="seg/2").graph
    beyond = struct.pack("<I", 40) * (2 * 4 * 40)  # every link of the lowest level leads behind the last row
    graph = Segment(rewritten(made, "graph", 128, beyond), name="seg/2").graph
    assert graph is not None
    with pytest.raises(CorruptionError, match="object seg/2: region graph: "):
        graph.search(made.vectors[:1], 1, ef_search=1)  # wider, it would compare all 40 rows and follow no link


def test_a_damaged_payload_block_is_noticed_without_verify(make: Callable[..., Made]) -> None:
    made = make(400)
    for at in (0, 1, 2):
        start, end = (int(made.segment._block_at[at + i]) for i in (0, 1))
        data = rewritten(made, "paydata", (start + end) // 2, b"\xff\xff\xff")
        segment = Segment(data, name="seg/1", blocks=BlockCache(1 << 20))
        first = int(np.searchsorted(segment._payload_offsets, segment._block_raw[at], "right")) - 1
        with pytest.raises(CorruptionError, match=f"object seg/1: payload block {at}: "):
            segment.payloads(np.arange(first, first + 3))


def test_find_compares_ids_that_share_a_hash(make: Callable[..., Made], monkeypatch: pytest.MonkeyPatch) -> None:
    def clash(keys: list[bytes]) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
        return np.array([len(key) for key in keys], np.uint64)

    for module in (reader, writer):
        monkeypatch.setattr(module, "id_hashes", clash)
    made = make(120)
    wanted = [*reversed(made.ids), "id-1-x", "z", "id-1-120"]
    assert made.segment.find(wanted).tolist() == [*reversed(range(120)), -1, -1, -1]


def test_find_answers_repeated_and_no_ids(make: Callable[..., Made]) -> None:
    made = make(50)
    assert made.segment.find([]).shape == (0,)
    assert made.segment.find([made.ids[3]] * 3 + ["nobody"]).tolist() == [3, 3, 3, -1]


def test_payloads_come_back_in_any_order(make: Callable[..., Made]) -> None:
    made = make(900)
    rows = np.random.default_rng(5).integers(0, 900, 2000)
    assert made.segment.payloads(rows) == [made.payloads[row] for row in rows]
    assert made.segment.payloads([]) == []


def test_following_pages_through_a_mask_in_id_order(make: Callable[..., Made]) -> None:
    made = make(5000)
    mask = np.random.default_rng(1).random(5000) < 0.01
    expected = sorted(np.array(made.ids)[mask].tolist())
    seen: list[str] = []
    while page := made.segment.id_at(made.segment.following(seen[-1] if seen else None, 7, mask)):
        assert len(page) <= 7
        seen += page
    assert seen == expected
    assert made.segment.id_at(made.segment.following("id-1-4", 2, None)) == ["id-1-40", "id-1-400"]


def test_an_empty_segment_answers(make: Callable[..., Made], spec: CollectionSpec) -> None:
    segment = make(0).segment
    segment.verify()
    assert (segment.rows, segment.vectors.shape) == (0, (0, spec.dim))
    assert segment.find(["a"]).tolist() == [-1]
    assert segment.following(None, 5, None).tolist() == []
    assert segment.fields.rows == 0


def test_arrays_outlive_segment_and_file(make: Callable[..., Made]) -> None:
    made = make(3000)
    vectors, expected, path = made.segment.vectors, made.vectors, made.path
    del made
    gc.collect()
    path.unlink()
    np.testing.assert_array_equal(vectors, expected)


def test_columns_can_not_be_written_to(make: Callable[..., Made]) -> None:
    segment = make(3).segment
    with pytest.raises(ValueError, match="read-only"):
        segment.vectors[0, 0] = 1.0


def test_open_names_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Segment.open(tmp_path / "none", name="seg/none")
