"""RFC 7396, with the examples of its appendix A, and that untouched members keep their bytes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from akidb.errors import InvalidInputError
from akidb.segment.payload_patch import merge_patch

# appendix A, as far as target and patch are objects
EXAMPLES = [
    ('{"a":"b"}', '{"a":"c"}', '{"a":"c"}'),
    ('{"a":"b"}', '{"b":"c"}', '{"a":"b","b":"c"}'),
    ('{"a":"b"}', '{"a":null}', "{}"),
    ('{"a":"b","b":"c"}', '{"a":null}', '{"b":"c"}'),
    ('{"a":["b"]}', '{"a":"c"}', '{"a":"c"}'),
    ('{"a":"c"}', '{"a":["b"]}', '{"a":["b"]}'),
    ('{"a":{"b":"c"}}', '{"a":{"b":"d","c":null}}', '{"a":{"b":"d"}}'),
    ('{"a":[{"b":"c"}]}', '{"a":[1]}', '{"a":[1]}'),
    ('{"e":null}', '{"a":1}', '{"e":null,"a":1}'),
    ("{}", '{"a":{"bb":{"ccc":null}}}', '{"a":{"bb":{}}}'),
]


@pytest.mark.parametrize(("payload", "patch", "merged"), EXAMPLES)
def test_merge_patch_follows_the_rfc(payload: str, patch: str, merged: str) -> None:
    assert merge_patch(payload.encode(), patch.encode()) == merged.encode()


def test_merge_patch_keeps_the_spelling_of_what_it_does_not_name() -> None:
    payload = b'{"n": 1.10, "big": 18446744073709551615, "e": 1E2, "t": "\\u00e9", "o": {"x": 1.0, "y":  [ 1 ]}}'
    patch = b' { "o" : { "z" : 2.50 } , "new":\t0.10 } '
    merged = merge_patch(payload, patch)
    assert json.loads(merged) == {**json.loads(payload), "o": {"x": 1.0, "y": [1], "z": 2.5}, "new": 0.1}
    for spelling in (b"1.10", b"18446744073709551615", b"1E2", b'"\\u00e9"', b"1.0", b"[ 1 ]", b"2.50", b"0.10"):
        assert spelling in merged


@pytest.mark.parametrize("payload", [None, b"", b"{}"])
def test_merge_patch_of_no_payload(payload: bytes | None) -> None:
    assert merge_patch(payload, b'{"a": {"b": 1, "c": null}, "d": null}') == b'{"a":{"b":1}}'


@pytest.mark.parametrize("patch", [b"", b"null", b"[]", b"1", b"{", b'{"a": }', b"{1: 2}"])
def test_merge_patch_refuses(patch: bytes) -> None:
    with pytest.raises(InvalidInputError, match="is not a JSON object") as caught:
        merge_patch(b'{"a": 1}', patch)
    assert caught.value.code == "invalid_patch"


values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.text(max_size=3)),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.sampled_from("abc"), inner, max_size=3)),
    max_leaves=8,
)
objects = st.dictionaries(st.sampled_from("abc"), values, max_size=3)


def rfc(target: Any, patch: Any) -> Any:
    """The pseudocode of section 2."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = rfc(merged.get(name), value)
    return merged


@settings(max_examples=300, deadline=None, derandomize=True)
@given(objects, objects, st.sampled_from([None, 2]))
def test_merge_patch_equals_the_pseudocode(payload: Any, patch: Any, indent: int | None) -> None:
    merged = merge_patch(json.dumps(payload, indent=indent).encode(), json.dumps(patch, indent=indent).encode())
    assert json.loads(merged) == rfc(payload, patch)
