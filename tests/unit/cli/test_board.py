"""What doctor tells of boards, of which the trees under /sys and /proc are laid here as their systems lay them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from akidb.cli import board, system
from akidb.cli.akidb import main
from akidb.cli.board import Cores, HugePages


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(board, "ROOT", tmp_path)
    monkeypatch.setattr(board.sys, "platform", "linux")
    return tmp_path


def lay(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def lay_core(root: Path, number: int, midr: int, max_mhz: int, capacity: int, governor: str) -> None:
    files = {
        "regs/identification/midr_el1": f"{midr:#018x}\n",
        "cpufreq/cpuinfo_max_freq": f"{max_mhz * 1000}\n",
        "cpufreq/scaling_governor": f"{governor}\n",
        "cpu_capacity": f"{capacity}\n",
    }
    lay(root, {f"sys/devices/system/cpu/cpu{number}/{name}": text for name, text in files.items()})


def lay_rock5(root: Path) -> None:
    """An RK3588, one of whose fast cores is off; a core that can't be switched off has no file `online`."""
    lay(root, {"proc/device-tree/model": "Radxa ROCK 5B\0"})
    for number in range(8):
        little = number < 4
        lay_core(
            root,
            number,
            0x412FD050 if little else 0x414FD0B0,
            1800 if little else 2400,
            530 if little else 1024,
            "ondemand",
        )
    lay(root, {"sys/devices/system/cpu/cpu4/online": "0\n", "sys/devices/system/cpu/cpu5/online": "1\n"})
    lay(root, {"sys/devices/system/cpu/cpufreq/policy0/x": "", "sys/devices/system/cpu/cpuidle/x": ""})


def test_big_and_little_cores_are_told_apart(root: Path) -> None:
    lay_rock5(root)
    assert board.model() == "Radxa ROCK 5B"
    assert board.cores() == [
        Cores(3, "Cortex-A76", 2400, 1024, "ondemand"),
        Cores(4, "Cortex-A55", 1800, 530, "ondemand"),
    ]
    assert [str(kind) for kind in board.cores()] == [
        "3 x Cortex-A76 at 2400 MHz (governor ondemand)",
        "4 x Cortex-A55 at 1800 MHz (capacity 530, governor ondemand)",
    ]


def test_a_machine_without_a_device_tree_is_named_by_its_firmware(root: Path) -> None:
    lay(root, {"sys/devices/virtual/dmi/id/sys_vendor": "Amazon EC2\n"})
    lay(root, {"sys/devices/virtual/dmi/id/product_name": "c7g.large\n"})
    lay(root, {"sys/devices/system/cpu/cpu0/regs/identification/midr_el1": "0x00000000411fd401\n"})
    assert board.model() == "Amazon EC2 c7g.large"
    assert board.cores() == [Cores(1, "Neoverse V1")]


def test_a_part_without_a_name_keeps_its_number() -> None:
    assert board.part_of_midr(0x410FD423) == "Cortex-A78AE"  # Jetson Orin
    assert board.part_of_midr(0x610F0220) == "part 0x22 of implementer 0x61"


def test_x86_names_its_cores_by_cpuinfo(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay(root, {"proc/cpuinfo": "vendor_id\t: X\nmodel\t\t: 1\nmodel name\t: Some EPYC 7B13\nflags\t\t: fma\n"})
    lay(root, {"sys/devices/system/cpu/cpu0/online": "1", "sys/devices/system/cpu/cpu1/online": "1"})
    monkeypatch.setattr(board.platform, "machine", lambda: "x86_64")
    assert board.cores() == [Cores(2, "Some EPYC 7B13")]
    monkeypatch.setattr(board.platform, "machine", lambda: "aarch64")  # emulated
    assert board.cores() == [Cores(2)]


def test_a_system_that_tells_nothing_is_no_error() -> None:
    assert (board.model(), board.cores(), board.huge_pages()) == (None, [], HugePages(None, None, ()))


def test_what_is_no_number_is_not_told(root: Path) -> None:
    core = "sys/devices/system/cpu/cpu0"
    lay(root, {f"{core}/cpufreq/cpuinfo_max_freq": "<unknown>\n", f"{core}/cpu_capacity": "much\n"})
    lay(root, {f"{core}/regs/identification/midr_el1": "none\n"})
    lay(root, {"sys/kernel/mm/hugepages/hugepages-0kB/nr_hugepages": "0\n"})
    assert board.cores() == [Cores(1)]
    assert board.huge_pages() == HugePages(None, None, ())
    assert board.cores_of_sysctl("hw.nperflevels: \nhw.logicalcpu: 8\n") == [Cores(8)]
    assert board.cores_of_sysctl("hw.nperflevels: 1\nhw.logicalcpu: 4\n") == [Cores(4)]


def test_macos_tells_levels_of_performance() -> None:
    text = (
        "hw.model: Mac14,2\nhw.nperflevels: 2\nhw.perflevel0.logicalcpu: 4\nhw.perflevel0.name: Performance\n"
        "hw.perflevel1.logicalcpu: 4\nhw.perflevel1.name: Efficiency\nmachdep.cpu.brand_string: Apple M2\n"
    )
    assert board.model_of_sysctl(text) == "Apple M2 (Mac14,2)"
    assert board.cores_of_sysctl(text) == [Cores(4, "Performance core"), Cores(4, "Efficiency core")]
    assert board.cores_of_sysctl("hw.logicalcpu: 8\n") == [Cores(8)]
    assert (board.model_of_sysctl(""), board.cores_of_sysctl("")) == (None, [])


def test_doctor_tells_the_board_and_its_pages_in_words_and_json(root: Path) -> None:
    lay_rock5(root)
    pages = "sys/kernel/mm"
    lay(root, {f"{pages}/transparent_hugepage/enabled": "always madvise [never]\n"})
    lay(root, {f"{pages}/transparent_hugepage/hpage_pmd_size": "2097152\n"})
    lay(root, {f"{pages}/hugepages/hugepages-{kib}kB/nr_hugepages": "0\n" for kib in (1048576, 64, 2048)})
    variables = dict.fromkeys(name for name in os.environ if name.startswith("AKIDB_"))
    variables |= {"AKIDB_USE_MEMORY_BACKEND": "true"}
    ran = CliRunner().invoke(main, ["doctor"], env=variables)
    assert ran.exit_code == 0, ran.output
    assert (
        "ok   board: Radxa ROCK 5B; 3 x Cortex-A76 at 2400 MHz (governor ondemand), 4 x Cortex-A55 at 1800 MHz "
        "(capacity 530, governor ondemand)\n"
    ) in ran.output
    assert (
        "huge ones of 64 KiB and 2 MiB and 1 GiB, transparent ones (2 MiB): never, which slows large indexes down: "
        "set madvise, "
    ) in ran.output
    told = json.loads(CliRunner().invoke(main, ["doctor", "--json"], env=variables).stdout)
    assert told["board"]["model"] == "Radxa ROCK 5B"
    assert told["board"]["cores"][1] == {
        "count": 4, "part": "Cortex-A55", "max_mhz": 1800, "capacity": 530, "governor": "ondemand",
    }  # fmt: skip
    sizes = [64 << 10, 2 << 20, 1 << 30]
    assert told["memory"]["huge_pages"] == {"transparent": "never", "transparent_bytes": 2 << 20, "sizes_bytes": sizes}


ORIN = ["asimd", "asimdhp", "asimddp"]
GRAVITON4 = [*ORIN, "asimdfhm", "bf16", "i8mm", "sve", "sve2", "svei8mm", "svebf16"]


@pytest.mark.parametrize(
    ("level", "told", "bits", "above"),
    [
        ("neon", ["asimd"], None, ("neon_dotprod", ["asimddp"])),
        ("neon_dotprod", ORIN, None, ("neon_fhm", ["asimdfhm"])),
        ("neon_i8mm", GRAVITON4, 128, ("sve256", ["registers of 256 bits"])),
        ("neon_i8mm", [*ORIN, "asimdfhm", "bf16", "i8mm"], None, ("sve256", ["sve", "svei8mm"])),
        ("sve256", GRAVITON4, 256, None),
        ("avx2", ["fma", "f16c", "avx2", "avx512f"], None, ("avx512", ["avx512bw", "avx512dq", "avx512vl"])),
        ("avx512_vpopcntdq", [], None, None),
    ],
)
def test_what_keeps_a_machine_from_the_level_above(
    level: str, told: list[str], bits: int | None, above: tuple[str, list[str]] | None
) -> None:
    assert system.held_back(level, told, bits) == above


def test_macos_names_what_is_missing_as_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system.sys, "platform", "darwin")
    assert system.held_back("neon_fhm", ["FEAT_DotProd", "FEAT_FHM"], None) == ("neon_bf16", ["FEAT_BF16"])
