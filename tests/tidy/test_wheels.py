"""The wheels: which ones are built, and that their modules load under any size of pages."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VERSIONS = ("cp311", "cp312", "cp313", "cp314", "cp314t")


@pytest.mark.parametrize(
    ("platform", "arch", "systems"),
    [
        ("linux", "aarch64", ("manylinux_aarch64", "musllinux_aarch64")),
        ("linux", "x86_64", ("manylinux_x86_64", "musllinux_x86_64")),
        ("macos", "arm64", ("macosx_arm64",)),
    ],
)
def test_a_wheel_is_built_for_every_board_and_python(platform: str, arch: str, systems: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "cibuildwheel", "--print-build-identifiers", "--platform", platform]
    told = subprocess.run(
        [*command, "--archs", arch, str(ROOT)], check=True, capture_output=True, text=True, env={**os.environ, "CI": ""}
    ).stdout
    assert set(told.split()) == {f"{version}-{system}" for version in VERSIONS for system in systems}


@pytest.mark.skipif(sys.platform != "linux", reason="macOS aligns to 16 KiB by itself, and has one size of pages")
@pytest.mark.parametrize("name", ["akidb._core", "akidb.codec._objects", "akidb.codec._strings"])
def test_a_module_loads_under_pages_of_64_kib(name: str) -> None:
    path = import_module(name).__file__
    assert path is not None
    elf = Path(path).read_bytes()
    assert elf[:5] == b"\x7fELF\x02"
    (offset,) = struct.unpack_from("<Q", elf, 32)
    size, count = struct.unpack_from("<HH", elf, 54)
    headers = [struct.unpack_from("<IIQQQQQQ", elf, offset + i * size) for i in range(count)]
    loads = [header for header in headers if header[0] == 1]
    assert loads
    for _, _, at, address, _, _, _, alignment in loads:
        assert alignment >= 65536
        assert at % 65536 == address % 65536
