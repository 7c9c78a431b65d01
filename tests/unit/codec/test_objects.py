"""The bounds of a JSON text's objects, in Python and in Cython: the same cases, the same answers."""

from __future__ import annotations

import importlib
import json
import os
from types import ModuleType

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from akidb.codec import objects

same_module = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])

values = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text('"\\{}[],:é', max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('"\\{}[]', max_size=3), inner, max_size=3),
    max_leaves=8,
)
listed = st.lists(st.dictionaries(st.text("ab\"\\{}[]'", max_size=4), values, max_size=3), max_size=4)


@pytest.fixture(params=["python", "cython"])
def twin(request: pytest.FixtureRequest) -> ModuleType:
    if request.param == "python":
        return objects
    try:
        return importlib.import_module("akidb.codec._objects")
    except ImportError:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip("akidb.codec._objects is not built")


def parts(twin: ModuleType, text: bytes, key: bytes = b"k") -> list[bytes] | None:
    found = twin.find_objects(text, key)
    if found is None:
        return None
    assert found.dtype == np.int64
    assert found.shape == (len(found), 2)
    return [text[start:end] for start, end in found.tolist()]


@same_module
@given(items=listed, indent=st.sampled_from([None, 1]), as_ascii=st.booleans())
def test_each_object_is_found_whole(twin: ModuleType, items: list[object], indent: int | None, as_ascii: bool) -> None:
    text = json.dumps({"k": items}, indent=indent, ensure_ascii=as_ascii).encode()
    found = parts(twin, text)
    assert found is not None
    assert [json.loads(part) for part in found] == items


@same_module
@given(text=st.text('{}[]",:\\k \n1', max_size=30), items=listed, at=st.integers(0, 200), gone=st.integers(0, 3))
def test_broken_texts_get_the_same_answer_of_both(
    twin: ModuleType, text: str, items: list[object], at: int, gone: int
) -> None:
    whole = json.dumps({"k": items})
    broken = (whole[:at] + text + whole[at + gone :]).encode()
    assert parts(twin, broken) == parts(objects, broken)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b'{"k":[]}', []),
        (b' \t\n\r{ "k" : [ {} , {"a":"}"} ] } ', [b"{}", b'{"a":"}"}']),
        (rb'{"k":[{"a":"\"}\\"},{}]}', [rb'{"a":"\"}\\"}', b"{}"]),
        (b'{"k":[{"a":[{"b":[]}]}]}', [b'{"a":[{"b":[]}]}']),
        (b'{"k":[{]]}', [b"{]"]),  # no JSON; whoever decodes the part says so
    ],
)
def test_what_has_the_shape(twin: ModuleType, text: bytes, found: list[bytes]) -> None:
    assert parts(twin, text) == found


@pytest.mark.parametrize(
    "text",
    [
        b"", b"{", b"[]", b"null", b'{"k"}', b'{"k":1}', b'{"l":[]}', b'{"kk":[]}', b'{"\\u006b":[]}', b'{"k":[1]}',
        b'{"k":[[]]}', b'{"k":[{},]}', b'{"k":[,{}]}', b'{"k":[{}{}]}', b'{"k":[{}],}', b'{"k":[{}],"l":1}',
        b'{"k":[{}],"k":[]}', b'{"k":[{}]}x', b'{"k":[{}]}\0', b'{"k":[{}]', b'{"k":[{}', b'{"k":[{', b'{"k":[{"a',
        b'{"k":[{"a\\', b'{"k":[{"a\\"', b'{"k":[{}, 1]}', b'\xef\xbb\xbf{"k":[]}', b'{"k":[\0{}]}',
    ],
    ids=repr,
)  # fmt: skip
def test_what_has_another_shape(twin: ModuleType, text: bytes) -> None:
    assert parts(twin, text) is None
