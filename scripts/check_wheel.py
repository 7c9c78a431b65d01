"""Whether wheels are fit for every board, and what they need; exits 1 naming what is not.

    python scripts/check_wheel.py WHEEL…

Under 5 MB; modules, and libraries that auditwheel put beside them, loadable where a page has 64 KiB (RHEL, Jetson),
without debugging symbols, and for Linux with the oldest glibc that they start on.
"""

from __future__ import annotations

import io
import re
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection

WHEEL_BYTES_MAX = 5_000_000
PAGE_BYTES_MAX = 64 << 10
X86_PAGE_BYTES = 4 << 10


def faults(module: BinaryIO, *, is_ours: bool = True) -> Iterator[str]:
    """What is wrong with an ELF module, a line each. A library of others has the alignment of its architecture."""
    elf = ELFFile(module)
    page = X86_PAGE_BYTES if not is_ours and elf["e_machine"] == "EM_X86_64" else PAGE_BYTES_MAX
    loads = [segment for segment in elf.iter_segments() if segment["p_type"] == "PT_LOAD"]
    if not loads:
        yield "has nothing to load"
    for load in loads:
        at, address, alignment = load["p_offset"], load["p_vaddr"], load["p_align"]
        if alignment % page or (at - address) % page:
            yield f"the segment at {address:#x} is aligned to {alignment:#x}, pages have up to {page:#x}"
    for section in elf.iter_sections():
        if section.name == ".symtab" or section.name.startswith(".debug"):
            yield f"is not stripped, it has {section.name}"


def glibc(module: BinaryIO) -> tuple[int, ...]:
    """The oldest version with all the symbols that an ELF module takes from glibc; () if it takes none."""
    versions = [
        tuple(map(int, found[1].split(".")))
        for section in ELFFile(module).iter_sections()
        if isinstance(section, GNUVerNeedSection)
        for _, symbols in section.iter_versions()
        for symbol in symbols
        if (found := re.fullmatch(r"GLIBC_([\d.]+)", symbol.name))
    ]
    return max(versions, default=())


def is_ours(name: str) -> bool:
    return name.startswith("akidb/")


def check(wheel: Path) -> list[str]:
    """Prints what the wheel needs, returns what is wrong with it."""
    size = wheel.stat().st_size
    wrong = [] if size < WHEEL_BYTES_MAX else [f"has {size} bytes, may have {WHEEL_BYTES_MAX}"]
    needed: tuple[int, ...] = ()
    with zipfile.ZipFile(wheel) as archive:
        libraries = {
            name: archive.read(name) for name in archive.namelist() if re.search(r"\.so(\.\d+)*$", name)
        }  # auditwheel's: libstdc++-1f1a71be.so.6.0.33
    if not any(map(is_ours, libraries)):
        wrong.append("has no compiled module")
    for name, data in libraries.items():
        if data[:4] == b"\x7fELF":  # macOS aligns to its one size of pages by itself
            wrong += [f"{name} {fault}" for fault in faults(io.BytesIO(data), is_ours=is_ours(name))]
            needed = max(needed, glibc(io.BytesIO(data)))
    told = f", glibc {'.'.join(map(str, needed))}" if needed else ""
    print(f"check_wheel: {wheel.name}: {size} bytes{told}")
    return [f"{wheel.name}: {fault}" for fault in wrong]


def main() -> int:
    wrong = [fault for wheel in sys.argv[1:] for fault in check(Path(wheel))]
    print("\n".join(f"check_wheel: {fault}" for fault in wrong), file=sys.stderr, end="\n" if wrong else "")
    return 1 if wrong or len(sys.argv) == 1 else 0


if __name__ == "__main__":
    sys.exit(main())
