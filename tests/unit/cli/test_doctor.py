"""akidb doctor: what it finds on a machine that is well, and that a fault is marked and hides nothing else."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from datetime import datetime, tzinfo
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import akidb
from akidb.cli import doctor as module
from akidb.cli import system
from akidb.cli.akidb import main
from akidb.storage import probe
from akidb.storage.keys import FORMAT_KEY
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
    assert f"kernels at {akidb.simd_info()['level']}" in lines[1]
    assert "pages of" in lines[3]
    assert str(tmp_path / "data") in lines[4]
    assert " UTC, " in lines[5]
    assert "is an AkiDB store of format 1 and keeps conditional writes" in lines[6]


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
    monkeypatch.setattr(probe, "_probed", set())  # a process tries each place once
    ran = _run(AKIDB_USE_MEMORY_BACKEND="true")
    assert ran.exit_code == 1
    assert [line[:4] for line in ran.output.splitlines()] == ["ok  "] * 6 + ["FAIL"]
    assert "does not keep conditional writes" in ran.output


@pytest.mark.parametrize(
    ("key", "says"), [(FORMAT_KEY, "object format: 8 bytes are too few"), ("photos/cat.jpg", "other objects, such as")]
)
def test_a_store_that_a_start_would_refuse_fails(monkeypatch: pytest.MonkeyPatch, key: str, says: str) -> None:
    store = MemoryStore()
    asyncio.run(store.put(key, b"whatever"))
    monkeypatch.setattr(module, "open_store", lambda settings: store)
    ran = _run(AKIDB_USE_MEMORY_BACKEND="true")
    assert ran.exit_code == 1
    assert "FAIL store: " in ran.output
    assert says in ran.output


def test_a_kernel_that_is_wrong_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    search = akidb.FlatIndex.search

    def off_by_one(self: akidb.FlatIndex, *arguments: object) -> object:
        found = search(self, *arguments)  # type: ignore[arg-type]
        return type(found)(found.ids, found.distances + 1)

    monkeypatch.setattr(akidb.FlatIndex, "search", off_by_one)
    ran = _run(AKIDB_USE_MEMORY_BACKEND="true")
    assert ran.exit_code == 1
    assert "FAIL kernels: wrong distances of float32 l2 at 8 dimensions, float32 l2 at 56" in ran.output
    assert "binary hamming at 768 dimensions: report this machine" in ran.output


def test_a_refused_configuration_exits_2(tmp_path: Path) -> None:
    ran = _run("--config", str(tmp_path / "none.yaml"))
    assert ran.exit_code == 2
    assert "none.yaml" in ran.output


NEEDED = {
    "scalar": set(),
    "avx2": {"avx2", "fma", "f16c"},
    "avx512": {"avx512f", "avx512bw", "avx512dq", "avx512vl"},
    "avx512_vnni": {"avx512_vnni"},
    "avx512_vpopcntdq": {"avx512_vpopcntdq"},
    "neon": set() if sys.platform == "darwin" else {"asimd"},
    "neon_dotprod": {"FEAT_DotProd" if sys.platform == "darwin" else "asimddp"},
    "neon_fhm": {"FEAT_FHM" if sys.platform == "darwin" else "asimdfhm"},
    "neon_bf16": {"FEAT_BF16" if sys.platform == "darwin" else "bf16"},
    "neon_i8mm": {"FEAT_I8MM" if sys.platform == "darwin" else "i8mm"},
    "sve256": {"sve", "svei8mm"},
}


def test_features_are_those_of_the_levels() -> None:
    """Told by two witnesses: the native core asks the system by itself."""
    processor = json.loads(_run("--json", AKIDB_USE_MEMORY_BACKEND="true").stdout)["processor"]
    told, known = set(processor["features"]), list(NEEDED)
    for level in processor["available"]:
        assert NEEDED[level] <= told, level
    if processor["detected"] in ("neon", "neon_dotprod", "avx2"):
        above = known[known.index(processor["detected"]) + 1]
        assert not NEEDED[above] <= told
        assert processor["next_level"]["level"] == above
        assert processor["next_level"]["missing"]


@pytest.mark.parametrize(
    ("told", "bits", "detected", "says"),
    [
        (["asimd", "asimddp"], None, "neon_dotprod", "kernels at neon_dotprod (neon_fhm needs asimdfhm), "),
        (
            ["asimd", "sve", "svei8mm"],
            128,
            "neon_i8mm",
            "SVE of 128 bits (not used: NEON does as much at that length); ",
        ),
        (
            ["asimd", "sve", "svei8mm"],
            512,
            "neon_i8mm",
            "SVE of 512 bits (not used: there are kernels for 256 alone); ",
        ),
        (["asimd", "sve", "svei8mm"], 256, "sve256", "svei8mm, registers of SVE of 256 bits; "),
    ],
    ids=["orin", "graviton4", "a64fx", "graviton3"],
)
def test_the_level_is_explained(
    monkeypatch: pytest.MonkeyPatch, told: list[str], bits: int | None, detected: str, says: str
) -> None:
    info = {"level": detected, "detected": detected, "available": [], "threads": 4}
    monkeypatch.setattr(akidb, "simd_info", lambda: info)
    monkeypatch.setattr(module, "features", lambda: told)
    monkeypatch.setattr(system.sys, "platform", "linux")
    monkeypatch.setattr(module, "sve_bits", lambda: bits)
    assert says in str(module.look_at_machine()["text"])


def test_features_are_named_as_each_system_tells_them() -> None:
    cortex_a76 = (1 << 0 | 1 << 1 | 1 << 10 | 1 << 20, 0)
    assert system.of_hwcap(*cortex_a76) == ["fp", "asimd", "asimdhp", "asimddp"]
    graviton3 = (1 << 1 | 1 << 20 | 1 << 22, 1 << 9 | 1 << 13 | 1 << 14)
    assert system.of_hwcap(*graviton3) == ["asimd", "asimddp", "sve", "svei8mm", "i8mm", "bf16"]
    cpuinfo = "processor\t: 0\nflags\t\t: fpu fma avx2\n\nprocessor\t: 1\nflags\t\t: fpu\n"
    assert system.of_cpuinfo(cpuinfo) == ["fpu", "fma", "avx2"]
    sysctl = "hw.optional.arm.FEAT_DotProd: 1\nhw.optional.arm.FEAT_SME: 0\nhw.optional.neon: 1\n"
    assert system.of_sysctl(sysctl) == ["FEAT_DotProd", "neon"]


def test_a_clock_that_is_in_the_past_is_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    class WithoutBattery(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> WithoutBattery:
            return cls(1970, 1, 1, tzinfo=tz)

    monkeypatch.setattr(module, "datetime", WithoutBattery)
    monkeypatch.setattr(module, "synchronised", lambda: False)
    ran = _run(AKIDB_USE_MEMORY_BACKEND="true")
    assert ran.exit_code == 1
    assert "FAIL clock: 1970-01-01 00:00:00 UTC, not kept by NTP: this is the past" in ran.output
