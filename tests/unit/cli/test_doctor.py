"""akidb doctor: what it finds on a machine that is well, and that a fault is marked and hides nothing else."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import akidb
from akidb.cli import doctor as module
from akidb.cli.akidb import main
from akidb.storage.memory import MemoryStore
from akidb.storage.object_store import Body, Reply


def _run(*arguments: str, **variables: str) -> Result:
    clean = dict.fromkeys(name for name in os.environ if name.startswith("AKIDB_"))
    return CliRunner().invoke(main, ["doctor", *arguments], env=clean | variables)


def test_a_machine_that_is_well_is_described(tmp_path: Path) -> None:
    akidb.connect(tmp_path / "data").close()
    ran = _run(AKIDB_DATA_DIR=str(tmp_path / "data"))
    assert ran.exit_code == 0, ran.output
    lines = ran.output.splitlines()
    assert [line.split(":")[0] for line in lines] == [f"ok   {name}" for name in module.LOOKS]
    assert f"kernels at {akidb.simd_info()['level']}" in lines[0]
    assert "pages of" in lines[2]
    assert str(tmp_path / "data") in lines[3]
    assert "keeps conditional writes" in lines[4]


def test_json_has_the_figures_and_nothing_is_left_behind(tmp_path: Path) -> None:
    told = json.loads(_run("--json", AKIDB_DATA_DIR=str(tmp_path / "data")).stdout)
    assert told["ok"] is True
    assert told["version"] == akidb.__version__
    assert told["processor"]["available"][0] == "scalar"
    assert told["memory"]["page_bytes"] in (4096, 16384, 65536)
    assert told["disk"]["fsync_ms_median"] >= 0
    assert told["disk"]["folder"] == str(tmp_path)
    assert told["store"]["location"] is None
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_ignores_conditions_fails_beside_what_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    class Careless(MemoryStore):
        async def put_if_absent(self, key: str, body: Body) -> Reply:
            return await self.put(key, body)

    monkeypatch.setattr(module, "open_store", lambda settings: Careless())
    ran = _run(AKIDB_USE_MEMORY_BACKEND="true")
    assert ran.exit_code == 1
    assert [line[:4] for line in ran.output.splitlines()] == ["ok  "] * 4 + ["FAIL"]
    assert "does not keep conditional writes" in ran.output


def test_a_kernel_that_is_wrong_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    search = akidb.FlatIndex.search

    def off_by_one(self: akidb.FlatIndex, *arguments: object) -> object:
        found = search(self, *arguments)  # type: ignore[arg-type]
        return type(found)(found.ids, found.distances + 1)

    monkeypatch.setattr(akidb.FlatIndex, "search", off_by_one)
    ran = _run(AKIDB_USE_MEMORY_BACKEND="true")
    assert ran.exit_code == 1
    assert "FAIL kernels: wrong distances at dimensions [1, 7, 64, 100, 768]" in ran.output


def test_a_refused_configuration_exits_2(tmp_path: Path) -> None:
    ran = _run("--config", str(tmp_path / "none.yaml"))
    assert ran.exit_code == 2
    assert "none.yaml" in ran.output


if sys.platform == "linux":

    def test_features_are_those_of_the_processor() -> None:
        told = json.loads(_run("--json", AKIDB_USE_MEMORY_BACKEND="true").stdout)
        assert {"fpu", "fp"} & set(told["processor"]["features"])
