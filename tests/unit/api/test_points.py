"""Large bodies are decoded in pieces; what is answered is what decoding them in one piece answers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from akidb.api import points
from akidb.errors import InvalidInputError
from akidb.types import CollectionSpec, IndexParams, Metric

SPEC = CollectionSpec("c", 2, Metric.COSINE, IndexParams(), {"n": "integer"})

payloads = st.sampled_from([None, {}, {"n": 1}, {"n": "text"}, {"t": '"]},{'}, {"t": "é\\"}, {"d": [[[{}]]]}, [1], 5])
fields: dict[str, st.SearchStrategy[Any]] = {
    "id": st.sampled_from(["a", "b", "", 1, "1", None, True, '{"', "é"]),
    "vector": st.sampled_from([[1, 2], [1.5, 2e300], [0, 0], [1], [], "AACAPwAAgD8=", "x", [1, "2"], {}]),
}
good = st.fixed_dictionaries({"id": st.uuids().map(str), "vector": st.just([1, 2])}, optional={"payload": payloads})
odd = st.fixed_dictionaries({}, optional={**fields, "payload": payloads, "other": st.just(1)}) | st.sampled_from(
    [1, []]
)
bodies = st.fixed_dictionaries({"vectors": st.lists(good | odd, max_size=5)}, optional={"more": st.just(1)})
broken = st.tuples(st.integers(0, 300), st.integers(0, 2), st.text('{}[]",:\\ 0x\x01', max_size=3))


def outcome(body: bytes) -> Any:
    try:
        batch = points.parse_batch(body, SPEC)
    except InvalidInputError as error:
        return error.code, error.faults, str(error)
    return batch.ids, batch.vectors.tolist(), batch.payloads


@given(body=bodies, damage=st.none() | broken, slice_=st.sampled_from([1, 2, 256]))
@example({"vectors": [{"id": "a", "vector": [1]}, {"id": "b", "vector": [1, 2]}]}, (62, 0, "x"), 1)
def test_decoding_in_pieces_and_in_one_answer_the_same(
    body: dict[str, Any], damage: tuple[int, int, str] | None, slice_: int
) -> None:
    text = json.dumps(body, ensure_ascii=False)
    if damage is not None:
        at, gone, instead = damage
        text = text[:at] + instead + text[at + gone :]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(points, "SLICE", slice_)
        in_pieces = outcome(text.encode())
        patch.setattr(points, "find_objects", lambda *_: None)
        assert in_pieces == outcome(text.encode())


def test_broken_json_is_told_before_what_is_wrong_in_an_earlier_point_and_by_its_place_in_the_body() -> None:
    body = b'{"vectors": [{"id": "a", "vector": [1]},\n {"id": "b", "vector": [1,, 2]}]}'
    code, faults, message = outcome(body)
    assert code == "malformed_json"
    assert faults[0].loc == ()
    assert "byte 67 (line 2, column 27)" in message
    assert body[67:68] == b","


def test_the_point_is_named_by_its_place_in_the_list() -> None:
    body = json.dumps({"vectors": [{"id": i, "vector": [1, 2] if i != 300 else [1, "2"]} for i in range(600)]})
    code, faults, _ = outcome(body.encode())
    assert (code, faults[0].loc) == ("invalid_body", ("vectors", 300, "vector", 1))
