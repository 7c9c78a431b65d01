import json

import numpy as np
import pytest

from akidb.api.vectors import matrix, one, shortest
from akidb.errors import InvalidInputError


def test_shortest_reads_back_as_the_same_float32():
    rng = np.random.default_rng(1)
    bits = rng.integers(0, 2**32, 200_000, np.uint32).view(np.float32)
    values = np.concatenate(
        [
            bits[np.isfinite(bits)],
            rng.standard_normal(100_000).astype(np.float32),
            np.float32([0, -0.0, 1e-45, 3.4028235e38, 1.1754944e-38, 16777216, 1e22, 1e-14, 9.999999e-15]),
        ]
    )
    again = np.array(json.loads(json.dumps(shortest(values))), np.float32)
    np.testing.assert_array_equal(again.view(np.uint32), values.view(np.uint32))


def test_shortest_is_as_short_as_numpys_own_shortest_form():
    rng = np.random.default_rng(2)
    values = np.concatenate([rng.standard_normal(5000), rng.standard_normal(5000) * 1e6, [0.1, 100, 0.3, 1e-5]])
    values = values.astype(np.float32)
    for text, value in zip(map(repr, shortest(values)), values, strict=True):
        digits = len(text.lstrip("-").replace(".", "").replace("e-", "").strip("0"))
        best = np.format_float_scientific(value, trim="-").lstrip("-").split("e")[0].replace(".", "")
        assert digits <= max(len(best.strip("0")), 1) + 2 * ("e" in text), (text, value)


def test_shortest_of_nothing():
    assert shortest(np.empty(0, np.float32)) == []


def test_rows_of_lists_and_base64_mix():
    np.testing.assert_array_equal(matrix([[1, 2], "AAAAPwAAAMA="], 2, ("vectors",)), np.float32([[1, 2], [0.5, -2]]))
    assert matrix([], 7, ("vectors",)).shape == (0, 7)


def test_a_row_of_another_length_is_named_where_it_stands():
    with pytest.raises(
        InvalidInputError, match=r"vectors\.11\.vector: has 1 dimensions, the collection has 2"
    ) as error:
        matrix([[1, 2], [1]], 2, ("vectors",), first=10)
    assert error.value.code == "dimension_mismatch"


def test_what_overflows_float32_becomes_infinite_for_the_next_check():
    assert np.isinf(one([1e39, 0], 2)[0])


@pytest.mark.parametrize("text", ["AAAAPwAAAMA", "AAAAPwAA AMA=", "AAAAPwAA-_A=", "é"])
def test_base64_is_taken_strictly(text):
    with pytest.raises(InvalidInputError) as error:
        one(text, 2)
    assert error.value.code == "invalid_vector"
