"""bench.edge: energy as boards tell it, and two results side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.edge import power
from bench.edge.__main__ import comparison


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


def test_two_results_are_put_side_by_side() -> None:
    def result(queries_per_sec: float) -> dict[str, Any]:
        search = {"ef": 16, "recall_at_10": 0.9, "queries_per_sec": queries_per_sec, "joules_per_query": None}
        graph = {"rows": 10, "dim": 4, "build_secs": 1.0, "build_joules": None, "resident_bytes": 1 << 20}
        return {"bandwidth_gb_per_sec": 10.0, "scans": [], "graphs": [{**graph, "searches": [search]}]}

    shown = comparison(result(1000.0), result(1500.0))
    (line,) = [line for line in shown.splitlines() if "queries per second" in line]
    assert line.split()[-3:] == ["1,000", "1,500", "1.50"]
    assert "not told" in shown
