"""What the operating system tells of the board: its name, its cores of every kind, its huge pages."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")
"""Where /sys and /proc are."""

# Of MIDR_EL1, bits 31 to 24 and 15 to 4: Linux, arch/arm64/include/asm/cputype.h.
_PARTS = {
    (0x41, 0xD03): "Cortex-A53",
    (0x41, 0xD05): "Cortex-A55",
    (0x41, 0xD07): "Cortex-A57",
    (0x41, 0xD08): "Cortex-A72",
    (0x41, 0xD09): "Cortex-A73",
    (0x41, 0xD0A): "Cortex-A75",
    (0x41, 0xD0B): "Cortex-A76",
    (0x41, 0xD0C): "Neoverse N1",
    (0x41, 0xD0D): "Cortex-A77",
    (0x41, 0xD40): "Neoverse V1",
    (0x41, 0xD41): "Cortex-A78",
    (0x41, 0xD42): "Cortex-A78AE",
    (0x41, 0xD44): "Cortex-X1",
    (0x41, 0xD46): "Cortex-A510",
    (0x41, 0xD47): "Cortex-A710",
    (0x41, 0xD48): "Cortex-X2",
    (0x41, 0xD49): "Neoverse N2",
    (0x41, 0xD4B): "Cortex-A78C",
    (0x41, 0xD4D): "Cortex-A715",
    (0x41, 0xD4E): "Cortex-X3",
    (0x41, 0xD4F): "Neoverse V2",
    (0x41, 0xD80): "Cortex-A520",
    (0x41, 0xD81): "Cortex-A720",
    (0x41, 0xD82): "Cortex-X4",
    (0x41, 0xD84): "Neoverse V3",
    (0x41, 0xD8E): "Neoverse N3",
    (0x4E, 0x003): "Denver 2",
    (0x4E, 0x004): "Carmel",
    (0xC0, 0xAC3): "AmpereOne",
}


@dataclass(frozen=True, slots=True)
class Cores:
    """Processors that the system tells the same of; None: it does not tell. `capacity` is 1024 for the fastest."""

    count: int
    part: str | None = None
    max_mhz: int | None = None
    capacity: int | None = None
    governor: str | None = None

    def __str__(self) -> str:
        speed = f" at {self.max_mhz} MHz" if self.max_mhz else ""
        told = [f"capacity {self.capacity}"] if self.capacity not in (None, 1024) else []
        told += [f"governor {self.governor}"] if self.governor else []
        return f"{self.count} x {self.part or 'core'}{speed}" + (f" ({', '.join(told)})" if told else "")


@dataclass(frozen=True, slots=True)
class HugePages:
    """`transparent` is always, madvise or never; None where there are none. Sizes in bytes, ascending."""

    transparent: str | None
    transparent_bytes: int | None
    sizes_bytes: tuple[int, ...]


def model() -> str | None:
    """Of the board, by its device tree, its firmware (DMI) or macOS."""
    if sys.platform == "darwin":
        return model_of_sysctl(_sysctl())
    if name := _read("proc/device-tree/model"):
        return name
    vendor, product = (_read(f"sys/devices/virtual/dmi/id/{name}") for name in ("sys_vendor", "product_name"))
    return " ".join(word for word in (vendor, product) if word) or None


def cores() -> list[Cores]:
    """Those that are on, a kind each, the fastest first."""
    if sys.platform == "darwin":
        return cores_of_sysctl(_sysctl())
    folders = (ROOT / "sys/devices/system/cpu").glob("cpu[0-9]*")
    kinds = Counter(_core(folder) for folder in folders if _read_of(folder / "online") != "0")
    found = [Cores(count, *kind) for kind, count in kinds.items()]
    return sorted(found, key=lambda kind: (kind.capacity or 0, kind.max_mhz or 0, kind.part or ""), reverse=True)


def _core(folder: Path) -> tuple[str | None, int | None, int | None, str | None]:
    midr, khz, capacity, governor = (
        _read_of(folder / name)
        for name in (
            "regs/identification/midr_el1",
            "cpufreq/cpuinfo_max_freq",
            "cpu_capacity",
            "cpufreq/scaling_governor",
        )
    )
    number, speed = _number(midr, 16), _number(khz)
    return (
        _name_of_x86() if number is None else part_of_midr(number),
        None if speed is None else speed // 1000,
        _number(capacity),
        governor,
    )


def _number(text: str | None, base: int = 10) -> int | None:
    """What a file of the kernel holds, None where it is none: some say "<unknown>"."""
    try:
        return None if text is None else int(text, base)
    except ValueError:
        return None


def _name_of_x86() -> str | None:
    if platform.machine() == "aarch64":  # under an emulator the file is that of the machine below
        return None
    name = re.search(r"^model name\s*: (.+)$", _read("proc/cpuinfo") or "", re.MULTILINE)
    return name[1] if name else None


def part_of_midr(midr: int) -> str:
    implementer, part = midr >> 24 & 0xFF, midr >> 4 & 0xFFF
    return _PARTS.get((implementer, part), f"part {part:#x} of implementer {implementer:#x}")


def huge_pages() -> HugePages:
    folder = ROOT / "sys/kernel/mm"
    mode = re.search(r"\[(\w+)\]", _read_of(folder / "transparent_hugepage/enabled") or "")
    size = _read_of(folder / "transparent_hugepage/hpage_pmd_size")
    named = (re.fullmatch(r"hugepages-(\d+)kB", path.name) for path in (folder / "hugepages").glob("*"))
    return HugePages(
        mode[1] if mode else None,
        _number(size) if mode else None,
        tuple(sorted(int(name[1]) * 1024 for name in named if name and int(name[1]))),
    )


def model_of_sysctl(text: str) -> str | None:
    """Such as "Apple M2 (Mac14,2)"."""
    told = _pairs(text)
    name, code = told.get("machdep.cpu.brand_string"), told.get("hw.model")
    return f"{name} ({code})" if name and code else name or code


def cores_of_sysctl(text: str) -> list[Cores]:
    """Levels of performance, of which macOS tells neither speed nor governor."""
    told = _pairs(text)
    levels = [f"hw.perflevel{number}" for number in range(_number(told.get("hw.nperflevels")) or 0)]
    counts = {level: _number(told.get(f"{level}.logicalcpu")) for level in levels}
    found = [Cores(count, f"{told.get(f'{level}.name', level)} core") for level, count in counts.items() if count]
    count = _number(told.get("hw.logicalcpu"))
    return found or ([Cores(count)] if count else [])


def _pairs(text: str) -> dict[str, str]:
    return {key: value for key, colon, value in (line.partition(": ") for line in text.splitlines()) if colon}


def _sysctl() -> str:
    ran = subprocess.run(
        ["/usr/sbin/sysctl", "hw", "machdep.cpu.brand_string"], capture_output=True, text=True, check=False
    )
    return ran.stdout


def _read(name: str) -> str | None:
    return _read_of(ROOT / name)


def _read_of(path: Path) -> str | None:
    """What stands in a file of the kernel, None where it is not there, not ours to read, or empty."""
    try:
        return path.read_text(errors="replace").strip("\0\n ") or None
    except OSError:
        return None
