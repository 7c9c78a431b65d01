"""What may be passed for vectors, ids and filters, and what is refused, the same for both indexes."""

from __future__ import annotations

import pickle
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest

from akidb import FlatIndex, HnswIndex
from akidb.errors import DeadlineExceededError, InvalidInputError, NotFoundError

KINDS = [HnswIndex, FlatIndex]
ROWS = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]], np.float32)


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def index(request: pytest.FixtureRequest) -> Any:
    made = request.param(3, "l2")
    made.add(ROWS)
    return made


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int8, np.uint8, np.int64, np.bool_, ">f4"])
def test_every_real_dtype_is_taken(index: Any, dtype: Any) -> None:
    index.add([7], ROWS[3:].astype(dtype))
    found = index.search(ROWS[3].astype(dtype), 2)
    assert sorted(found.ids.tolist()) == [3, 7]


@pytest.mark.parametrize("layout", [np.asfortranarray, lambda a: np.repeat(a, 2, axis=0)[::2], lambda a: a.tolist()])
def test_every_layout_is_taken(index: Any, layout: Any) -> None:
    assert index.search(layout(ROWS), 1).ids.tolist() == [[0], [1], [2], [3]]


def test_one_query_gives_one_row_and_many_give_many(index: Any) -> None:
    one = index.search(ROWS[0], 2)
    many = index.search(ROWS[:1], 2)
    assert one.ids.shape == one.distances.shape == (2,)
    assert many.ids.shape == many.distances.shape == (1, 2)
    assert one.ids.dtype == np.int64
    assert one.distances.dtype == np.float32
    assert index.search(np.empty((0, 3)), 2).ids.shape == (0, 2)


def test_fewer_than_k_are_padded(index: Any) -> None:
    ids, distances = index.search(ROWS[0], 6)
    assert ids.tolist()[4:] == [-1, -1]
    assert np.isinf(distances[4:]).all()
    assert np.isfinite(distances[:4]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_index_answers_with_padding(kind: Any) -> None:
    empty = kind(3)
    assert empty.search(ROWS[0], 2).ids.tolist() == [-1, -1]
    for nothing in ([], np.ones(0, bool), np.ones(9, bool)):
        assert empty.search(ROWS[0], 2, filter=nothing).ids.tolist() == [-1, -1]
    assert len(empty) == 0


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.zeros((2, 4), np.float32), "4 values each, the index has dim 3"),
        (np.zeros((2, 3, 1), np.float32), "3 dimensions"),
        (np.float32(1), "0 dimensions"),
        (np.array([["a", "b", "c"]]), "real numbers"),
        (np.array([[1j, 0, 0]]), "real numbers"),
        ([[1, 2, 3], [1, 2]], "rectangular"),
        ([[1, 0, 0], [1, np.nan, 0]], "vector 1 holds NaN or infinity"),
        ([[1, 0, 0], [np.inf, 0, 0]], "vector 1 holds NaN or infinity"),
        ([[1, 0, 0], [0, -1e300, 0]], r"row 1 holds -1e\+300 at place 1, float32 holds at most 3\.40282e\+38"),
        ([[None, 0, 0]], "real numbers"),
        (None, "got NoneType, expected an array or a list"),
        (b"abc", "real numbers"),
        (np.zeros((2, 3), "M8[s]"), "dtype datetime64"),
        (np.zeros(3, [("x", "f4")]), "real numbers"),
    ],
)
def test_vectors_that_are_none_are_refused(index: Any, vectors: Any, message: str) -> None:
    before = index.ids.tolist()
    with pytest.raises(InvalidInputError, match=message):
        index.add(vectors)
    with pytest.raises(InvalidInputError, match=message.replace("vector ", "query ")):
        index.search(vectors)
    assert index.ids.tolist() == before


def test_a_wrong_dimension_has_a_code(index: Any) -> None:
    with pytest.raises(InvalidInputError) as refused:
        index.add(np.ones(5))
    assert refused.value.code == "dimension_mismatch"


@pytest.mark.parametrize("kind", KINDS)
def test_cosine_refuses_zero_vectors(kind: Any) -> None:
    made = kind(3, "cosine")
    with pytest.raises(InvalidInputError, match="vector 1 is zero"):
        made.add([[1, 0, 0], [0, 0, 0]])
    with pytest.raises(InvalidInputError, match="query 0 is zero"):
        made.search([0, 0, 0])
    assert len(made) == 0


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([10, 10], "id 10 at position 1 is there twice"),
        ([10, -1], "id -1 at position 1 is negative"),
        ([10, 3], "id 3 at position 1 exists already; update replaces vectors"),
        ([10], "got 1 ids for 2 vectors"),
        ([10.0, 11.0], "expected integers"),
        (["a", "b"], "expected integers"),
        ([[10], [11]], "expected integers"),
        (np.array([1, 2**63], np.uint64), "more than an int64"),
        ([[1], [1, 2]], "ids: expected a rectangular array"),
        ({10, 11}, "ids: got set, expected an array or a list"),
    ],
)
def test_ids_that_are_wrong_are_refused(index: Any, ids: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        index.add(ids, ROWS[:2])
    assert index.ids.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [1e-20, 1e-16, 2e19, 3e38])
def test_cosine_refuses_what_is_too_short_or_too_long_for_its_products(kind: Any, value: float) -> None:
    made = kind(3, "cosine")
    with pytest.raises(InvalidInputError, match=r"vector 1 is (shorter|longer) than"):
        made.add([[1, 0, 0], [0, value, 0]])
    with pytest.raises(InvalidInputError, match=r"query 0 is (shorter|longer) than"):
        made.search([value, 0, 0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [2e-15, 1e-8, 1e9, 1.8e19])
def test_cosine_is_exact_for_the_shortest_and_the_longest_taken(kind: Any, value: float) -> None:
    made = kind(2, "cosine")
    made.add(np.array([[value, 0], [0, value], [-value, 0]], np.float32))
    found = made.search([value, 0], 3)
    assert found.ids.tolist() == [0, 1, 2]
    np.testing.assert_allclose(found.distances, [0, 1, 2], atol=1e-6)


def test_an_id_that_was_removed_is_not_the_largest_any_more(index: Any) -> None:
    index.add([8, 9], ROWS[:2])
    index.remove([9])
    index.add(ROWS[:1])
    assert sorted(index.ids.tolist()) == [0, 1, 2, 3, 8, 9]


def test_no_id_comes_after_the_largest_int64(index: Any) -> None:
    index.add([2**63 - 2], ROWS[:1])
    with pytest.raises(InvalidInputError, match="no ids are left after 9223372036854775806"):
        index.add(ROWS[:2])
    index.add(ROWS[:1])
    with pytest.raises(InvalidInputError, match="no ids are left after 9223372036854775807"):
        index.add(ROWS[:1])
    assert sorted(index.ids.tolist()) == [0, 1, 2, 3, 2**63 - 2, 2**63 - 1]


def test_in_tells_integers_alone(index: Any) -> None:
    assert [each in index for each in (3, np.int32(3), 4, -1, 2**70, 3.0, "3", [3])] == [True, True, *[False] * 6]


def test_ids_go_on_from_the_largest(index: Any) -> None:
    index.add([9], ROWS[:1])
    index.add(ROWS[:2])
    assert sorted(index.ids.tolist()) == [0, 1, 2, 3, 9, 10, 11]
    assert 11 in index
    assert 8 not in index


def test_unknown_ids_are_not_found_and_change_nothing(index: Any) -> None:
    message = "^id 8 at position 1 does not exist$"
    with pytest.raises(NotFoundError, match=message):
        index.remove([1, 8])
    with pytest.raises(NotFoundError, match=message):
        index.update([1, 8], ROWS[:2])
    with pytest.raises(NotFoundError, match=message):
        index.get([1, 8])
    assert len(index) == 4
    assert index.get(1).tolist() == [0, 1, 0]


@pytest.mark.parametrize("filter", [[1, 2, 1], np.arange(9) % 3 > 0, np.array([2, 1], np.uint8)])
def test_a_filter_is_ids_or_a_mask_over_ids(index: Any, filter: Any) -> None:
    assert sorted(index.search(ROWS[3], 4, filter=filter).ids.tolist()) == [-1, -1, 1, 2]


@pytest.mark.parametrize(("filter", "message"), [([1, 77], "id 77 at position 1"), ([-3, 1 << 40], "id -3")])
def test_an_id_in_a_filter_that_the_index_has_not_is_not_found(index: Any, filter: Any, message: str) -> None:
    with pytest.raises(NotFoundError, match=f"filter: {message}"):
        index.search(ROWS[3], 2, filter=filter)


def test_a_mask_is_told_how_far_the_largest_id_there_can_be_reaches(index: Any) -> None:
    index.add([2**63 - 1], ROWS[:1])
    with pytest.raises(InvalidInputError, match=f"expected {2**63} or more: the index holds id {2**63 - 1}"):
        index.search(ROWS[0], 1, filter=np.ones(9, bool))


def test_a_mask_is_told_of_the_largest_id_not_of_the_first_beyond_it(index: Any) -> None:
    index.add([9, 2001, 1000], ROWS[:3])
    with pytest.raises(InvalidInputError, match="expected 2002 or more: the index holds id 2001"):
        index.search(ROWS[0], 1, filter=np.ones(9, bool))
    index.remove([2001])
    with pytest.raises(InvalidInputError, match="expected 1001 or more: the index holds id 1000"):
        index.search(ROWS[0], 1, filter=np.ones(9, bool))


def test_an_id_named_twice_is_removed_once_but_not_updated(index: Any) -> None:
    with pytest.raises(InvalidInputError, match="id 1 at position 2 is there twice"):
        index.update([1, 2, 1], ROWS[:3])
    index.remove([1, 2, 1])
    assert sorted(index.ids.tolist()) == [0, 3]


@pytest.mark.parametrize("length", [0, 3])
def test_a_mask_reaches_as_far_as_the_ids(index: Any, length: int) -> None:
    message = rf"mask over {length} ids, expected \d+ or more"
    with pytest.raises(InvalidInputError, match=message):
        index.search(ROWS[3], 2, filter=np.ones(length, bool))
    index.remove([3])
    assert -1 in index.search(ROWS[3], 4, filter=np.ones(100, bool)).ids
    with pytest.raises(InvalidInputError, match=message) if length == 0 else nullcontext():
        index.search(ROWS[3], 2, filter=np.ones(length, bool))


def test_an_empty_filter_allows_nothing(index: Any) -> None:
    assert index.search(ROWS[3], 1, filter=[]).ids.tolist() == [-1]
    assert index.search(ROWS[3], 1, filter=np.zeros(4, bool)).ids.tolist() == [-1]


def test_a_mask_goes_by_id_not_by_position() -> None:
    for kind in KINDS:
        made = kind(3, "l2")
        made.add([30, 20, 10], ROWS[:3])
        mask = np.zeros(40, bool)
        mask[10] = True
        assert made.search(ROWS[0], 2, filter=mask).ids.tolist() == [10, -1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 0}, "k is 0"),
        ({"k": 1.5}, "k is 1.5"),
        ({"k": True}, "k is True"),
        ({"threads": -1}, "threads is -1"),
        ({"timeout_ms": -1}, "timeout_ms is -1"),
        ({"timeout_ms": float("nan")}, "timeout_ms is nan"),
        ({"timeout_ms": "5"}, "timeout_ms is '5'"),
        ({"k": 1 << 21}, "k is 2097152, expected 1 to 1048576"),
        ({"threads": 1.5}, "threads is 1.5"),
        ({"filter": [None]}, r"filter: got dtype object and shape \(1,\), expected integers of shape \(n,\)"),
        ({"filter": {1: 2}}, "filter: got dict, expected an array or a list"),
        ({"filter": {1, 2}}, "filter: got set, expected"),
        ({"filter": (id for id in (1, 2))}, "filter: got generator, expected"),
        ({"filter": 2**70}, "filter: got dtype object"),
        ({"filter": lambda each: True}, "filter: got function, expected"),
        ({"filter": np.array([2**64 - 1], np.uint64)}, "more than an int64"),
        ({"filter": np.zeros((2, 2), bool)}, "filter is a mask of shape"),
        ({"filter": [0.5]}, "filter: got dtype float64"),
        ({"filter": [[1], [1, 2]]}, "filter: expected a rectangular array"),
        ({"timeout_ms": True}, "timeout_ms is True"),
    ],
)
def test_search_arguments_out_of_range_are_refused(index: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        index.search(ROWS[0], **arguments)


def test_a_deadline_that_has_passed_stops_the_search(index: Any) -> None:
    with pytest.raises(DeadlineExceededError):
        index.search(ROWS, timeout_ms=0)
    assert index.search(ROWS, 1, timeout_ms=60_000).ids.shape == (4, 1)


def test_pickling_is_refused_with_a_way_that_there_is(index: Any) -> None:
    with pytest.raises(TypeError, match="use save" if hasattr(index, "save") else "use get"):
        pickle.dumps(index)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dim": 0}, "dim is 0"),
        ({"dim": 70_000}, "dim is 70000"),
        ({"metric": "hamming"}, "hamming"),
        ({"metric": "euclid"}, 'metric is \'euclid\', expected "cosine", "l2", "ip" or "hamming"'),
        ({"m": 1}, "m is 1, expected 2 to 512"),
        ({"m": 513}, "m is 513"),
        ({"ef_construction": 0}, "ef_construction is 0"),
        ({"ef_construction": 1 << 17}, "ef_construction is 131072"),
        ({"ef_search": 0}, "ef_search is 0"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_parameters_out_of_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        HnswIndex(**{"dim": 3, **arguments})
