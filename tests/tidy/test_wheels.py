"""The wheels: which ones are built, what makes one unfit, and that the workflows that build them can run."""

from __future__ import annotations

import ast
import io
import os
import re
import struct
import subprocess
import sys
import zipfile
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

from akidb.segment import format
from scripts import check_wheel

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


MODULES = ("akidb._core", "akidb.codec._objects", "akidb.codec._strings")
on_linux = pytest.mark.skipif(
    sys.platform != "linux", reason="macOS has one size of pages, and modules of its own kind"
)


def module(name: str) -> bytes:
    path = import_module(name).__file__
    assert path is not None
    return Path(path).read_bytes()


def faults(elf: bytes) -> list[str]:
    return list(check_wheel.faults(io.BytesIO(elf)))


@on_linux
@pytest.mark.parametrize("name", MODULES)
def test_a_module_loads_under_pages_of_64_kib_and_is_stripped(name: str) -> None:
    elf = module(name)
    assert faults(elf) == []
    assert check_wheel.glibc(io.BytesIO(elf))[:1] in ((2,), ())  # none with musl


def aligned_to_4_kib() -> bytearray:
    elf = bytearray(module(MODULES[1]))
    (headers,) = struct.unpack_from("<Q", elf, 32)
    assert struct.unpack_from("<I", elf, headers) == (1,), "the first is a segment to load"
    struct.pack_into("<Q", elf, headers + 48, 4096)
    return elf


@on_linux
def test_a_module_aligned_to_pages_of_x86_is_refused() -> None:
    (fault,) = faults(bytes(aligned_to_4_kib()))
    assert "aligned to 0x1000, pages have up to 0x10000" in fault


@on_linux
@pytest.mark.parametrize(("machine", "is_fit"), [(183, False), (62, True)], ids=["aarch64", "x86-64"])
def test_a_library_beside_the_modules_is_judged_by_its_own_pages(tmp_path: Path, machine: int, is_fit: bool) -> None:
    """auditwheel puts libstdc++ into wheels for musl, under a name that ends with its version."""
    library = aligned_to_4_kib()
    struct.pack_into("<H", library, 18, machine)
    wheel = tmp_path / "akidb-1-cp311-cp311-musllinux_1_2_any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("akidb/_core.so", module(MODULES[0]))
        archive.writestr("akidb.libs/libstdc++-1f1a71be.so.6.0.33", bytes(library))
    wrong = check_wheel.check(wheel)
    assert wrong == [] if is_fit else "libstdc++-1f1a71be.so.6.0.33 the segment at 0x0 is aligned to 0x1000" in wrong[0]


@on_linux
def test_a_wheel_with_libraries_alone_is_refused(tmp_path: Path) -> None:
    wheel = tmp_path / "akidb-1-cp311-cp311-musllinux_1_2_any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("akidb.libs/libstdc++-1f1a71be.so.6.0.33", module(MODULES[0]))
    assert check_wheel.check(wheel) == [f"{wheel.name}: has no compiled module"]


@on_linux
def test_a_module_with_symbols_is_refused(tmp_path: Path) -> None:
    source, built = tmp_path / "m.c", tmp_path / "m.so"
    source.write_text("int answer(void) { return 42; }")
    command = [os.environ.get("CC", "cc"), "-g", "-shared", "-fPIC", "-Wl,-z,max-page-size=65536", "-o", built, source]
    subprocess.run(command, check=True)
    assert {"is not stripped, it has .symtab", "is not stripped, it has .debug_info"} <= set(faults(built.read_bytes()))


def test_a_wheel_of_5_mb_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wheel = tmp_path / "akidb-1-cp311-cp311-macosx_11_0_arm64.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("akidb/_core.so", bytes(5_000_000))
    (fault,) = check_wheel.check(wheel)
    assert fault.startswith(f"{wheel.name}: has 5000")
    assert wheel.name in capsys.readouterr().out


def test_nothing_depends_on_the_size_of_a_page() -> None:
    """Pages of ARM kernels have 4, 16 or 64 KiB: an offset of a mapping that is right on one is refused on another."""
    core = {path: path.read_text() for path in (ROOT / "csrc").rglob("*.*")}
    asking = re.compile(r"\b(mmap|mprotect|mlock|getpagesize|sysconf)\s*\(")
    assert [path.name for path, text in core.items() if asking.search(text)] == []
    assert [path.name for path, text in core.items() if "madvise(" in text] == ["aligned_buffer.h"]
    (size,) = re.findall(r"kHugePageBytes = std::size_t\{(\d+)\} << 20", core[ROOT / "csrc/common/aligned_buffer.h"])
    assert (int(size) << 20) % check_wheel.PAGE_BYTES_MAX == 0
    assert format.ALIGNMENT % check_wheel.PAGE_BYTES_MAX == 0
    mapped = [
        (path.name, call)
        for path in (ROOT / "akidb").rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call) and ast.unparse(call.func) in ("mmap.mmap", "np.memmap")
    ]
    assert {name for name, _ in mapped} == {"mapped_file.py", "format.py"}, "where files are mapped"
    for name, call in mapped:
        assert "offset" not in {keyword.arg for keyword in call.keywords}, name
        assert len(call.args) < 4, f"{name}: the fourth of np.memmap is an offset"
    asking = re.compile(r"PAGESIZE|PAGE_SIZE")
    named = {path.name for path in (ROOT / "akidb").rglob("*.py") if asking.search(path.read_text())}
    assert named == {"doctor.py"}, "who tells it"


WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def steps(workflow: Path) -> list[dict[str, Any]]:
    jobs = yaml.safe_load(workflow.read_text())["jobs"].values()
    return [step for job in jobs for step in job["steps"]]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_pin_what_they_use_by_its_digest(workflow: Path) -> None:
    """A tag can be moved to other code; the version stands beside the digest for who reads it."""
    used = [line.strip() for line in workflow.read_text().splitlines() if "uses:" in line]
    assert len(used) == sum("uses" in step for step in steps(workflow)) > 0
    for line in used:
        assert re.fullmatch(r"- uses: [\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_run_what_is_there(workflow: Path) -> None:
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for step in steps(workflow):
        for command in step.get("run", "").splitlines():
            for target in re.findall(r"\bmake ([a-z0-9-]+)", command):
                assert target in targets, command
            for path in re.findall(r"(?:\./|\s|^)((?:scripts|tests|bench|\.ci)/[\w./-]+)", command):
                assert (ROOT / path).exists(), command


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_run_on_macos_what_runs_there(workflow: Path) -> None:
    """GitHub's runners set CI=true, by which `make test` asks for libFuzzer and cross compilers."""
    for job in yaml.safe_load(workflow.read_text())["jobs"].values():
        if "macos" in f"{job['runs-on']} {job.get('strategy')}":
            assert not any(re.search(r"make test(-ci)?$|\.ci/run", step.get("run", "")) for step in job["steps"])
