"""Indexes of every dtype: what they take, keep, find and refuse, against numpy in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ml_dtypes import bfloat16

from akidb import FlatIndex, HnswIndex
from akidb.errors import CorruptionError, InvalidInputError
from akidb.index.space import DTYPES, Space

KINDS = [FlatIndex, HnswIndex]
DIM, N = 37, 1500
NUMBERS = [dtype for dtype in DTYPES if dtype != "binary"]
CASES = [(dtype, metric) for dtype in NUMBERS for metric in ("l2", "cosine", "ip")] + [("binary", "hamming")]


def values(dtype: str, n: int, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if dtype == "binary":
        return rng.random((n, DIM)) < 0.5
    if dtype in ("int8", "uint8"):
        info = np.iinfo(dtype)
        return rng.integers(info.min, info.max, (n, DIM), endpoint=True).astype(dtype)
    return rng.standard_normal((n, DIM)).astype(np.float32)


def distances(metric: str, rows: np.ndarray, query: np.ndarray) -> np.ndarray:
    rows, query = rows.astype(np.float64), query.astype(np.float64)
    if metric in ("l2", "hamming"):
        return ((rows - query) ** 2).sum(axis=1)
    dots = rows @ query
    return -dots if metric == "ip" else 1 - dots / np.linalg.norm(rows, axis=1) / np.linalg.norm(query)


def bfloats(array: np.ndarray) -> np.ndarray:
    """Rounded to bfloat16 by arithmetic: eight bits of significand, ties to even."""
    significand, exponent = np.frexp(array.astype(np.float64))
    return np.ldexp(np.rint(significand * 256), exponent - 8).astype(np.float32)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("dtype", "metric"), CASES)
def test_finds_what_numpy_finds(kind: Any, dtype: str, metric: str) -> None:
    base, queries = values(dtype, N), values(dtype, 12, seed=2)
    index = kind(DIM, metric, dtype=dtype)
    index.add(base)
    assert (index.dtype, index.metric, index.dim) == (dtype, metric, DIM)
    if dtype in ("float16", "bfloat16"):
        base, queries = (
            (bfloats(base), bfloats(queries)) if dtype == "bfloat16" else (base.astype("f2"), queries.astype("f2"))
        )
    found = index.search(queries, 10, **({"ef_search": 400} if kind is HnswIndex else {}))
    for i, query in enumerate(queries):
        truth = distances(metric, base, query)
        scale = np.abs(truth).max()
        np.testing.assert_allclose(found.distances[i], np.sort(truth)[:10], atol=2e-6 * scale)
        np.testing.assert_allclose(truth[found.ids[i]], found.distances[i], atol=2e-6 * scale)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("dtype", "metric"), CASES)
def test_get_gives_what_is_kept_which_can_be_added_again(kind: Any, dtype: str, metric: str) -> None:
    base = values(dtype, 20)
    index = kind(DIM, metric, dtype=dtype)
    index.add(base)
    got = index.get(np.arange(20))
    if dtype == "binary":
        np.testing.assert_array_equal(got, np.packbits(base, axis=1))
    elif dtype == "bfloat16":
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got, bfloats(base))
    else:
        assert got.dtype == dtype
        np.testing.assert_array_equal(got, base.astype(dtype))
    index.update(np.arange(20), got[::-1])
    np.testing.assert_array_equal(index.get(3), got[16])
    index.remove([0, 1])
    assert 1 not in index
    assert len(index) == 18


@pytest.mark.parametrize("dtype", [np.float16, np.dtype("int8"), "<f4", np.uint8])
def test_numpy_names_of_dtypes_are_taken(dtype: Any) -> None:
    assert FlatIndex(4, "l2", dtype=dtype).dtype == np.dtype(dtype).name


def test_bfloat16_arrays_are_known_by_the_name_of_their_dtype() -> None:
    array = values("float32", 30).astype(bfloat16)
    index = FlatIndex(DIM, "l2", dtype=bfloat16)
    index.add(array)
    np.testing.assert_array_equal(index.get(np.arange(30)), array.astype(np.float32))


def test_integers_of_other_dtypes_and_whole_floats_are_taken() -> None:
    base = values("int8", 10)
    index = FlatIndex(DIM, "l2", dtype="int8")
    for array in (base.astype(np.int64), base.astype(np.float32), base.tolist(), np.asfortranarray(base)):
        index.add(array)
    assert index.search(base, 4).ids[3].tolist() == [3, 13, 23, 33]


def test_packed_bits_and_bools_are_the_same() -> None:
    base = values("binary", 10)
    index = HnswIndex(DIM, "hamming", dtype="binary")
    index.add(base)
    index.add(np.packbits(base, axis=1))
    assert index.search(base[4], 2).distances.tolist() == [0, 0]
    assert sorted(index.search(np.packbits(base[4]), 2).ids.tolist()) == [4, 14]


def row(dtype: Any, at: int, value: float) -> np.ndarray:
    array = np.ones((3, 4), dtype)
    array[1, at] = value
    return array


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("dtype", "array", "message"),
    [
        ("float16", row("f4", 2, 70000), "row 1 holds 70000.0 at place 2, float16 holds at most 65504"),
        ("float16", row("f8", 2, 1e300), r"row 1 holds 1e\+300 at place 2, float16 holds at most 65504"),
        ("bfloat16", row("f8", 2, 1e300), r"row 1 holds 1e\+300 at place 2, bfloat16 holds at most 3.38953e\+38"),
        ("float16", row("f4", 2, np.nan), "1 holds NaN or infinity"),
        ("float32", row("f8", 2, np.inf), "1 holds NaN or infinity"),
        ("bfloat16", row("f8", 0, 3.4e38), r"row 1 holds 3.4e\+38 at place 0, bfloat16 holds at most 3.38953e\+38"),
        ("bfloat16", row("f4", 0, np.nan), "1 holds NaN or infinity"),
        ("bfloat16", row("f4", 0, -np.inf), "1 holds NaN or infinity"),
        ("bfloat16", row("u2", 0, 16256), r"dtype uint16.*bits.view\(ml_dtypes.bfloat16\)"),
        ("int8", row("i4", 3, 128), "row 1 holds 128 at place 3, expected whole numbers -128 to 127, as dtype int8"),
        ("int8", row("f4", 1, 0.5), "row 1 holds 0.5 at place 1, expected whole numbers -128 to 127"),
        ("int8", row("f4", 1, np.nan), "row 1 holds nan at place 1, expected whole numbers"),
        ("uint8", row("i8", 0, -1), "row 1 holds -1 at place 0, expected whole numbers 0 to 255"),
        ("uint8", row("u8", 0, 256), "row 1 holds 256 at place 0, expected whole numbers 0 to 255"),
        ("uint8", np.array([["a"] * 4]), "real numbers"),
    ],
)
def test_what_a_dtype_cannot_hold_is_refused_by_row_and_value(kind: Any, dtype: str, array: Any, message: str) -> None:
    index = kind(4, "l2", dtype=dtype)
    for call in (index.add, index.search):
        with pytest.raises(InvalidInputError, match=message):
            call(array)
    assert len(index) == 0


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_rows_are_none_of_any_dtype(dtype: str) -> None:
    index = HnswIndex(8, "hamming" if dtype == "binary" else "l2", dtype=dtype)
    for given in ("f8", "O", "U1", "M8[s]"):
        index.add(np.empty((0, index._space.width), given))
    assert len(index) == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones((2, 13), np.uint8), "13 bytes each, the index has dim 13, 2 bytes"),
        (np.ones((2, 12), np.bool_), "12 values each, the index has dim 13"),
        (
            np.ones((2, 13), np.float32),
            r"dtype float32, expected uint8 of shape \(n, 2\), .* or bool of shape \(n, 13\)",
        ),
        (np.array([[1, 0], [1, 1]], np.uint8), "1 has bits set past the last dimension"),
    ],
)
def test_bits_that_are_none_are_refused(kind: Any, array: Any, message: str) -> None:
    index = kind(13, "hamming", dtype="binary")
    with pytest.raises(InvalidInputError, match=message):
        index.add(array)
    with pytest.raises(InvalidInputError, match=message):
        index.search(array)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("metric", "dtype", "message"),
    [
        ("hamming", "float32", "go together"),
        ("l2", "binary", "go together"),
        ("l2", "int4", "dtype is 'int4', expected float32, .* or binary"),
        ("l2", np.float64, "expected float32, "),
        ("manhattan", "int8", 'metric is .manhattan., expected "cosine"'),
    ],
)
def test_spaces_that_there_are_not_are_refused(kind: Any, metric: str, dtype: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        kind(8, metric, dtype=dtype)


@pytest.mark.parametrize("dtype", ["float16", "int8", "uint8"])
def test_cosine_refuses_zero_rows_of_every_dtype(dtype: str) -> None:
    for kind in KINDS:
        with pytest.raises(InvalidInputError, match="vector 1 is zero"):
            kind(3, "cosine", dtype=dtype).add([[1, 0, 0], [0, 0, 0]])


@pytest.mark.parametrize(("dtype", "metric"), CASES)
def test_sealed_saved_viewed_and_loaded_it_answers_alike(dtype: str, metric: str, tmp_path: Path) -> None:
    base, queries = values(dtype, N), values(dtype, 8, seed=3)
    index = HnswIndex(DIM, metric, 8, 100, dtype=dtype)
    index.add(np.arange(N) * 2, base)
    wanted = index.search(queries, 5, ef_search=600)
    index.save(tmp_path / "live.aki")
    sealed = index.seal()
    sealed.save(tmp_path / "sealed.aki")
    for other in (
        sealed,
        *(way(tmp_path / name) for name in ("live.aki", "sealed.aki") for way in (HnswIndex.load, HnswIndex.view)),
    ):
        assert (other.dtype, other.metric, other.dim) == (dtype, metric, DIM)
        found = other.search(queries, 5, ef_search=600)
        np.testing.assert_array_equal(found.distances, wanted.distances)
        np.testing.assert_array_equal(other.get([0, 8]), index.get([0, 8]))
        assert other.stats()["dtype"] == dtype
        assert other.stats()["bytes_per_vector"] == Space.parse(DIM, metric, dtype).bytes_per_vector
        other.validate()


def test_shorter_dtypes_take_less_memory() -> None:
    sizes = {}
    for dtype, metric in (("float32", "l2"), ("bfloat16", "l2"), ("int8", "l2"), ("binary", "hamming")):
        index = HnswIndex(1024, metric, 4, 20, dtype=dtype)
        index.add(np.ones((200, 1024), np.bool_ if dtype == "binary" else np.float32))
        sizes[dtype] = index.nbytes
        flat = FlatIndex(1024, metric, dtype=dtype)
        flat.add(np.ones((200, 1024), np.bool_ if dtype == "binary" else np.float32))
        assert flat.stats()["bytes_per_vector"] == index.stats()["bytes_per_vector"]
        assert flat.stats()["bytes"] >= 200 * flat.stats()["bytes_per_vector"]
    assert sizes["float32"] - sizes["bfloat16"] == 200 * 2048
    assert sizes["bfloat16"] - sizes["int8"] == 200 * 1024
    assert sizes["int8"] - sizes["binary"] == 200 * (1024 - 128)


def test_codes_of_bits_are_refused() -> None:
    index = HnswIndex(16, "hamming", dtype="binary")
    index.add(np.eye(16, dtype=np.bool_))
    with pytest.raises(InvalidInputError, match="binary vectors have no codes"):
        index.seal(4)
    assert index.seal().code_bits == 0


def test_a_file_whose_dtype_is_changed_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "index.aki"
    index = HnswIndex(8, "l2", dtype="int8")
    index.add(np.eye(8))
    index.save(path)
    data = bytearray(path.read_bytes())
    data[128] = DTYPES.index("uint8")
    path.write_bytes(data)
    with pytest.raises(CorruptionError, match="header fails its checksum"):
        HnswIndex.view(path)
