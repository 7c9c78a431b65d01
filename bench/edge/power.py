"""Joules that the machine took while something ran, where it tells: RAPL (x86-64), INA3221 rails (Jetson), powermetrics
(macOS, as root). Nothing is estimated: a machine that does not tell gives None."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

RAPL = Path("/sys/class/powercap")
RAILS = Path("/sys/bus/i2c/drivers/ina3221")
PERIOD_SECS = 0.05


@dataclass
class Energy:
    """`joules` is None where the machine does not tell; `source` says who told."""

    source: str | None = None
    joules: float | None = None


@contextmanager
def metered() -> Iterator[Energy]:
    """Fills the Energy it gives when its block ends."""
    energy = Energy()
    counters, watts, source = _rapl(), None, "rapl"
    if not counters:
        watts, source = _power_source()
    if counters:
        before = [_read(counter) for counter in counters]
        yield energy
        energy.source = source
        energy.joules = sum(_passed(counter, was) for counter, was in zip(counters, before, strict=True)) / 1e6
    elif watts is not None:
        with _integrated(watts) as joules:
            yield energy
        energy.source, energy.joules = source, joules[0]
    else:
        yield energy


def _rapl() -> list[Path]:
    """Counters of whole packages in microjoules; readable by root alone on most systems."""
    return [path for path in sorted(RAPL.glob("intel-rapl:?/energy_uj")) if os.access(path, os.R_OK)]


def _read(path: Path) -> int:
    return int(path.read_text())


def _passed(counter: Path, before: int) -> int:
    now = _read(counter)
    return now - before if now >= before else now - before + _read(counter.parent / "max_energy_range_uj")


def _power_source() -> tuple[Callable[[], float] | None, str | None]:
    rails = sorted(RAILS.glob("*/hwmon/hwmon*/in[0-9]_input"))
    total = [rail for rail in rails if "VDD_IN" in _label(rail)]
    if total:
        return (lambda: sum(_rail_watts(rail) for rail in total)), "ina3221 VDD_IN"
    if sys.platform == "darwin" and os.geteuid() == 0 and shutil.which("powermetrics"):
        try:
            _powermetrics_watts()
        except (ValueError, subprocess.CalledProcessError):  # a Mac that tells nothing, such as a virtual one
            return None, None
        return _powermetrics_watts, "powermetrics"
    return None, None


def _label(rail: Path) -> str:
    label = rail.with_name(rail.name.replace("_input", "_label"))
    return label.read_text() if label.exists() else ""


def _rail_watts(rail: Path) -> float:
    """Millivolts times milliamperes."""
    current = rail.with_name(rail.name.replace("in", "curr", 1))
    return _read(rail) * _read(current) / 1e6


def _powermetrics_watts() -> float:
    command = ["powermetrics", "--samplers", "cpu_power", "-n", "1", "-i", "200"]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return powermetrics_watts(told)


def powermetrics_watts(told: str) -> float:
    """Of processor and graphics together. Raises ValueError where the report has no such line."""
    found = re.search(r"Combined Power.*?: (\d+) mW", told)
    if found is None:
        raise ValueError("powermetrics tells no combined power")
    return int(found[1]) / 1000


@contextmanager
def _integrated(watts: Callable[[], float]) -> Iterator[list[float]]:
    """Joules by the trapezoidal rule over samples of a thread."""
    joules, stop = [0.0], threading.Event()

    def sample() -> None:
        at, power, stopped = time.perf_counter(), watts(), False
        while not stopped:
            stopped = stop.wait(PERIOD_SECS)  # what is left when it stops counts as well
            now, next_power = time.perf_counter(), watts()
            joules[0] += (power + next_power) / 2 * (now - at)
            at, power = now, next_power

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield joules
    finally:
        stop.set()
        thread.join()
