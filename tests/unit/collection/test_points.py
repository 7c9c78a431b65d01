"""What is refused at the edge, with the place that is wrong."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from akidb.collection.points import check_ids, encode_payload
from akidb.errors import InvalidInputError
from akidb.filter import PayloadSchema


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("inside", [lambda x: x, lambda x: [1, x], lambda x: {"b": (None, {"c": x})}])
def test_floats_that_json_cannot_say_are_refused_and_not_made_null(value: float, inside: object) -> None:
    with pytest.raises(InvalidInputError, match=r"payloads\.2: holds a float that is not finite") as refused:
        encode_payload({"a": inside(value)}, PayloadSchema(), ("payloads", 2))
    assert refused.value.code == "invalid_payload"


def test_null_and_the_word_null_are_payload_as_any_other() -> None:
    payload = {"a": None, "b": ["null", None], "c": 1.5, "when": datetime(2020, 1, 1, tzinfo=UTC)}
    assert b'"a":null,"b":["null",null]' in encode_payload(payload, PayloadSchema(), ("payload",))


def test_integers_are_ids_up_to_the_length_of_text_ids() -> None:
    assert check_ids([7, -7, np.int64(3), 10**511 - 1])[:3] == ["7", "-7", "3"]
    for long in (10**511, -(10**511), 10**5000):
        with pytest.raises(InvalidInputError, match=r"ids\.1: is an integer of more than 511 digits"):
            check_ids(["a", long])
