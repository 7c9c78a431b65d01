"""The one importer of the native core."""

from __future__ import annotations

import importlib
import sys

import pytest


def test_a_source_folder_without_the_core_says_that_it_is_in_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "akidb._core", None)  # how Python remembers that there is none
    monkeypatch.delitem(sys.modules, "akidb._native", raising=False)
    with pytest.raises(ModuleNotFoundError, match="akidb is AkiDB's source without the native core, and hid") as told:
        importlib.import_module("akidb._native")
    assert told.value.name == "akidb._core"
