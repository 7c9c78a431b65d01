"""bench.edge: energy as boards tell it, and two results side by side."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

import akidb
from akidb.cli import board
from bench.edge import __main__ as edge
from bench.edge import power
from bench.edge.__main__ import comparison, read, report
from bench.edge.measure import VERSION, measure


def test_a_counter_that_wraps_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counter = tmp_path / "intel-rapl:0" / "energy_uj"
    counter.parent.mkdir()
    counter.write_text("9000000")
    (counter.parent / "max_energy_range_uj").write_text("10000000")
    monkeypatch.setattr(power, "RAPL", tmp_path)
    with power.metered() as energy:
        counter.write_text("500000")
    assert (energy.source, energy.joules) == ("rapl", 1.5)


def test_a_rail_is_volts_times_amperes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rail = tmp_path / "1-0040/hwmon/hwmon3"
    rail.mkdir(parents=True)
    for name, value in (("in1_label", "VDD_IN"), ("in1_input", "5000"), ("curr1_input", "2000")):
        (rail / name).write_text(value)
    monkeypatch.setattr(power, "RAPL", tmp_path / "none")
    monkeypatch.setattr(power, "RAILS", tmp_path)
    watts, source = power._power_source()
    assert watts is not None
    assert (watts(), source) == (10.0, "ina3221 VDD_IN")


def test_a_machine_that_does_not_tell_gives_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAPL", "RAILS"):
        monkeypatch.setattr(power, name, tmp_path)
    monkeypatch.setattr(power.sys, "platform", "linux")
    with power.metered() as energy:
        pass
    assert energy == power.Energy(None, None)


def test_powermetrics_without_a_figure_is_no_zero() -> None:
    assert power.powermetrics_watts("CPU Power: 900 mW\nCombined Power (CPU + GPU + ANE): 1234 mW\n") == 1.234
    with pytest.raises(ValueError, match="no combined power"):
        power.powermetrics_watts("**** Processor usage ****\n")


def result(queries_per_sec: float, joules_per_query: float | None = None) -> dict[str, Any]:
    search = {"ef": 16, "recall_at_10": 0.9, "queries_per_sec": queries_per_sec, "joules_per_query": joules_per_query}
    graph = {"rows": 10, "dim": 4, "build_secs": 1.0, "seal_secs": 0.5, "build_joules": None, "resident_bytes": 1 << 20}
    machine = {"model": f"board {queries_per_sec:.0f}", "text": f"board {queries_per_sec:.0f}; 4 x Cortex-A76"}
    scans: list[Any] = []
    graphs = [{**graph, "searches": [search]}]
    facts = {"version": VERSION, "machine": machine, "load_before": 0.1}
    return {**facts, "bandwidth_gb_per_sec": 10.0, "scans": scans, "graphs": graphs}


def line(shown: str, name: str) -> list[str]:
    (found,) = [line for line in shown.splitlines() if name in line]
    return found.split(name)[1].split()


def test_two_results_are_put_side_by_side() -> None:
    shown = comparison(result(1000.0), result(1500.0, joules_per_query=0.002))
    assert "old: board 1000; 4 x Cortex-A76" in shown
    assert "new: board 1500; 4 x Cortex-A76" in shown
    assert line(shown, "queries per second") == ["1,000", "1,500", "1.50"]
    assert line(shown, "millijoules per query") == ["not", "told", "2"]


def test_a_run_beside_others_is_marked() -> None:
    busy = {**result(1500.0), "load_before": 3.26}
    old, new = comparison(result(1000.0), busy).splitlines()[:2]
    assert old.endswith("Cortex-A76")
    assert new.endswith("Cortex-A76; NOT ALONE, at a load of 3.3 before it began")


def test_a_figure_that_one_of_them_lacks_is_shown() -> None:
    old, new = result(1000.0), result(1000.0)
    new["scans"] = [{"dim": 128, "threads": 1, "rows_in": "L2", "gb_per_sec": 20.0, "of_bandwidth": None}]
    assert line(comparison(old, new), "scan of 128 dimensions in L2, one thread, GB/s") == ["not", "told", "20"]
    assert line(comparison(new, old), "scan of 128 dimensions in L2, one thread, GB/s") == ["20", "not", "told"]


@pytest.mark.parametrize(
    ("text", "why"),
    [("", "JSONDecodeError"), ("[]", "TypeError"), ("{}", "KeyError"), ('{"version": 1}', "version 1, expected 3")],
)
def test_a_file_that_is_no_result_is_refused(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "edge.json").write_text(text)
    with pytest.raises(SystemExit, match=why):
        read(tmp_path / "edge.json")


def test_a_graph_of_a_few_rows_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["bench.edge", "--rows", "5"])
    monkeypatch.setattr(edge, "measure", lambda *_: pytest.fail("measured"))
    with pytest.raises(SystemExit, match="2"):
        edge.main()
    assert "--rows is 5, expected at least 1000" in capsys.readouterr().err


def test_a_small_board_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it, at a size that says nothing of speed, and on Linux without programs, which a small image lacks."""
    if sys.platform == "linux":
        monkeypatch.setenv("PATH", "")
    measured = measure(rows=1500, dims=(24,), seconds=0.01, memory_bytes=1 << 20)
    shown = report(measured)
    assert {each["threads"] for each in measured["scans"]} == {0, 1}
    assert measured["graphs"][0]["searches"][-1]["recall_at_10"] > 0.95
    assert shown.startswith(board.model() or "no name told")
    assert f"kernels at {akidb.simd_info()['level']}" in shown
    assert "millijoules per query" in shown
