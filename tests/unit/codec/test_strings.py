"""Packed strings, in Python and in Cython: the same cases, the same answers."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from types import ModuleType

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from akidb.codec import strings
from akidb.errors import CorruptionError

same_module = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(params=["python", "cython"])
def twin(request: pytest.FixtureRequest) -> ModuleType:
    if request.param == "python":
        return strings
    try:
        return importlib.import_module("akidb.codec._strings")
    except ImportError:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip("akidb.codec._strings is not built")


@same_module
@given(items=st.lists(st.none() | st.binary(max_size=40), max_size=30))
def test_bytes_come_back(twin: ModuleType, items: list[bytes | None]) -> None:
    offsets, blob = twin.pack(items)
    assert offsets.dtype == np.uint64
    assert offsets.shape == (len(items) + 1,)
    assert twin.unpack(offsets, blob) == [item or b"" for item in items]
    assert twin.unpack(offsets, memoryview(blob)) == [item or b"" for item in items]


@same_module
@given(items=st.lists(st.text(max_size=20), max_size=30))
def test_texts_come_back(twin: ModuleType, items: list[str]) -> None:
    offsets, blob = twin.pack_text(items)
    assert blob == "".join(items).encode()
    assert twin.unpack_text(offsets, blob) == items


@same_module
@given(items=st.lists(st.none() | st.binary(max_size=9), max_size=9))
def test_offsets_equal_those_of_the_python_twin(twin: ModuleType, items: list[bytes | None]) -> None:
    offsets, blob = twin.pack(items)
    expected, joined = strings.pack(items)
    np.testing.assert_array_equal(offsets, expected)
    assert blob == joined


@pytest.mark.parametrize("sequence", [list, tuple])
def test_any_sequence_is_taken(twin: ModuleType, sequence: type) -> None:
    assert twin.pack(sequence([b"a", None]))[1] == b"a"
    assert twin.pack_text(sequence(["é", ""]))[1] == "é".encode()


def test_lone_surrogates_are_refused(twin: ModuleType) -> None:
    with pytest.raises(UnicodeEncodeError):
        twin.pack_text(["fine", "\ud800"])


@pytest.mark.parametrize("offsets", [[], [0, 9], [0, 3, 2], [5, 1], [0, 2**64 - 1], [2**64 - 1, 2**64 - 1]], ids=str)
@pytest.mark.parametrize("unpack", ["unpack", "unpack_text"])
def test_offsets_outside_the_blob_are_refused(twin: ModuleType, offsets: list[int], unpack: str) -> None:
    with pytest.raises(CorruptionError, match="offsets"):
        getattr(twin, unpack)(np.array(offsets, np.uint64), b"abcd")


def test_bytes_that_are_not_utf8_are_refused(twin: ModuleType) -> None:
    with pytest.raises(CorruptionError, match="packed strings"):
        twin.unpack_text(np.array([0, 1], np.uint64), b"\xff")


def test_offsets_need_not_be_aligned(twin: ModuleType) -> None:
    raw = b"\0" + np.array([0, 1, 3], np.uint64).tobytes()
    assert twin.unpack(np.frombuffer(raw, np.uint64, offset=1), b"abc") == [b"a", b"bc"]


def test_items_of_another_type_are_refused(twin: ModuleType) -> None:
    with pytest.raises((TypeError, AttributeError)):
        twin.pack_text([b"bytes"])
    with pytest.raises(TypeError):
        twin.pack(["text"])


@pytest.mark.parametrize(("value", "module"), [("1", "akidb.codec.strings"), ("0", "akidb.codec._strings")])
def test_the_switch_chooses_the_twin(value: str, module: str) -> None:
    if value == "0":
        pytest.importorskip("akidb.codec._strings")
    code = "import akidb.codec as c; print(getattr(c.pack, '__module__', None) or c.pack.__self__.__name__)"
    environment = {**os.environ, "AKIDB_PURE_PYTHON": value}
    answer = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == module
