"""Writes the table of docs/arm.md: cycles of the ARM kernels' inner loops beside the limit of loads and arithmetic.

    scripts/report_arm_kernels.py [--check] [build folder, default build/arm]

The loops are those of the objects that scripts/test-arm.sh builds, disassembled; the cycles are llvm-mca's (LLVM 21 or
newer, whose models of Neoverse N1, V1 and V2 come from Arm's guides: older ones let a sum on V1 wait for its last
product twice as long as the guide says), with every load a hit in L1, or those of decoding if they are more. Estimates,
not measurements. --check writes nothing and fails where a loop is over 1.15 times its limit, or where one of the table
is not found.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs/arm.md"
BEGIN, END = "<!-- kernels: scripts/report_arm_kernels.py -->", "<!-- kernels end -->"
# The cores that have the level's instructions.
UNITS = {
    "neon": ("n1", "v1", "v2"),
    "neon_dotprod": ("n1", "v1", "v2"),
    "neon_fhm": ("v1", "v2"),
    "neon_bf16": ("v1", "v2"),
    "neon_i8mm": ("v1", "v2"),
    "sve256": ("v1",),
}
# Per cycle: loads, and vector arithmetic, of 128 bits and of 256 (SVE on V1). As LLVM's models have them.
LIMITS = {"n1": (2, 2), "v1": (3, 4), "v2": (3, 4)}
LIMITS_SVE256 = {"v1": (2, 2)}
# What half of the pipes take: multiplications of integers one half, shifts and pairwise sums the other.
MULTIPLY = r"[su]ml[as]l2?|[su]mull2?|mul|mla"
SHIFT = r"[su]shll?2?|[su]xtl2?|[su]shr|lsr|[su]adalp"
# Of float16 to float32, four at a time: one pipe, every other cycle on N1.
CONVERT = r"fcvtl2?"
CONVERSIONS = {"n1": 0.5, "v1": 1, "v2": 1}
TURNS_OF_CONVERT = 2  # of a pipe
# Per cycle, by Arm's guides (Dispatch constraints): instructions decoded, and what of them is sent to the pipes. The
# second is given to llvm-mca, whose own figure is what compilers do best with.
DECODED = {"n1": 4, "v1": 8, "v2": 8}
DISPATCHED = {"n1": 8, "v1": 16, "v2": 16}
FLOATS = {"BFloat": "bfloat16", "Half": "float16"}
WORST = 1.15


@dataclass(frozen=True)
class Loop:
    kernel: str
    lines: list[str]

    def count(self, wanted: str) -> int:
        return sum(1 for line in self.lines if re.match(wanted, line))

    @property
    def loads(self) -> int:
        one, two, four = r"(ldr|ldur)\s+[dq]|ld1(rq)?[bhw]\b|ldr\s+z", r"ldp\s+[dq]", r"ld1\s+\{v\d+\.16b-v"
        return self.count(one) + 2 * self.count(two) + 4 * self.count(four)

    @property
    def arithmetic(self) -> int:
        return len(self._vector())

    def _vector(self, wanted: str = r"\w+") -> list[str]:
        names = [line.split()[0] for line in self.lines if re.search(r"\b[vz]\d", line)]
        return [name for name in names if not re.match(r"ld|mov|st", name) and re.fullmatch(wanted, name)]

    def limit(self, core: str) -> float:
        is_sve = any(re.search(r"\bz\d", line) for line in self.lines)
        loads, pipes = (LIMITS_SVE256 if is_sve else LIMITS)[core]
        return max(
            self.loads / loads,
            (self.arithmetic + (TURNS_OF_CONVERT - 1) * len(self._vector(CONVERT))) / pipes,
            len(self._vector(MULTIPLY)) / (pipes / 2),
            len(self._vector(SHIFT)) / (pipes / 2),
            len(self._vector(CONVERT)) / CONVERSIONS[core],
        )


def functions(unit: Path) -> dict[str, list[str]]:
    shown = subprocess.run(
        ["aarch64-linux-gnu-objdump", "-dC", "--no-show-raw-insn", unit], check=True, capture_output=True, text=True
    ).stdout
    out: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in shown.splitlines():
        if line.endswith(">:"):
            lines = out.setdefault(name_of(line), [])
        elif re.match(r" +[0-9a-f]+:\t", line):
            lines.append(line.strip())
    return out


def name_of(symbol: str) -> str:
    """l2, dot_batch4, l2_tile_float16, dot_u8 … of a demangled name."""
    plain = symbol.replace("akidb::(anonymous namespace)::", "")
    if floats := re.search(r"FloatKernel<(\w+), (SquaredL2|Dot)>::(\w+)", plain):
        dtype = next((word for end, word in FLOATS.items() if floats[1].endswith(end)), "")
        return _name({"SquaredL2": "l2", "Dot": "dot"}[floats[2]], floats[3], dtype)
    if whole := re.search(r"ByteKernel<(\w+)(?:<\w+>)?>::(\w+)", plain):
        dtype = "binary" if "Bits" in whole[1] else "uint8" if "Uint8" in whole[1] else "int8"
        return _name("dot" if "Products" in whole[1] else "l2", whole[2], dtype)
    if "Panels<" in plain:
        return "dot_u8_panel" if "CodePanels<" in plain else "panel"
    found = re.search(r"(\w+)<", plain)
    return found[1] if found else plain


def _name(operation: str, form: str, dtype: str) -> str:
    return "_".join(word for word in (operation, "" if form == "single" else form, dtype) if word)


def main_loop(kernel: str, lines: list[str]) -> Loop | None:
    """Of the innermost loops that load, the one with most vector arithmetic."""
    addresses = [int(line.split(":")[0], 16) for line in lines]
    found: list[Loop] = []
    for end, line in enumerate(lines):
        branch = re.search(r"\t(?:b\.\w+|cbn?z|tbn?z)\t(?:.*, )?([0-9a-f]+) <", line)
        if not branch or int(branch[1], 16) > addresses[end] or int(branch[1], 16) not in addresses:
            continue
        begin = addresses.index(int(branch[1], 16))
        body = [
            re.sub(r"\s*(//|<).*", "", text.split("\t", 1)[1]).replace("\t", " ") for text in lines[begin : end + 1]
        ]
        loop = Loop(kernel, body)
        if loop.loads and not any(re.match(r"b\.|cbn?z|tbn?z|ret", text) for text in body[:-1]):
            found.append(loop)
    return max(found, key=lambda loop: loop.arithmetic, default=None)


def cycles(loop: Loop, core: str, mca: str) -> float:
    body = re.sub(r"[0-9a-f]+$", "loop", loop.lines[-1])
    text = "loop:\n" + "\n".join([*loop.lines[:-1], body]) + "\n"
    target = ["-mtriple=aarch64-linux-gnu", f"-mcpu=neoverse-{core}", "-mattr=+sve,+i8mm,+dotprod,+fp16fml,+bf16"]

    def total(iterations: int) -> int:
        told = subprocess.run(
            [mca, *target, f"-dispatch={DISPATCHED[core]}", f"-iterations={iterations}"],
            input=text,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        found = re.search(r"Total Cycles:\s+(\d+)", told)
        assert found, told
        return int(found[1])

    # A difference, since the first pass has to fill the pipes and the last one to empty them.
    return max((total(600) - total(100)) / 500, len(loop.lines) / DECODED[core])


def find_mca() -> str:
    for name in ("llvm-mca-23", "llvm-mca-22", "llvm-mca-21"):
        if shutil.which(name):
            return name
    sys.exit("report_arm_kernels: llvm-mca of LLVM 21 or newer is missing (apt: llvm-21)")


def rows(build: Path, mca: str) -> tuple[list[str], list[str]]:
    """Lines of the table, and the loops that are over the limit."""
    table, over = [], []
    for unit, cores in UNITS.items():
        made = build / f"csrc/distance/CMakeFiles/akidb_kernels_{unit}.dir/kernels/{unit}.cc.o"
        for kernel, lines in functions(made).items():
            loop = main_loop(kernel, lines)
            if loop is None:
                continue
            cells = []
            for core in ("n1", "v1", "v2"):
                if core not in cores:
                    cells.append("")
                    continue
                took, limit = cycles(loop, core, mca), loop.limit(core)
                cells.append(f"{took:.1f} / {limit:.1f} = {took / limit:.2f}")
                if took / limit > WORST:
                    over.append(f"{unit} {loop.kernel} on {core}: {took / limit:.2f}")
            table.append(f"| {unit} | {loop.kernel} | {loop.loads} | {loop.arithmetic} | {' | '.join(cells)} |")
    return table, over


def kernels(table: list[str]) -> set[str]:
    """Level and kernel of each line of the table."""
    cells = [line.split(" | ") for line in table if line.startswith("| ") and not line.startswith("| level")]
    return {f"{level.removeprefix('| ')} {kernel}" for level, kernel, *_ in cells}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, fail where a loop is over the limit")
    parser.add_argument("build", nargs="?", type=Path, default=ROOT / "build/arm")
    arguments = parser.parse_args()
    table, over = rows(arguments.build, find_mca())
    before, rest = DOCUMENT.read_text().split(BEGIN)
    told, after = rest.split(END)
    if arguments.check:
        faults = over + [f"{name}: no loop was found" for name in sorted(kernels(told.splitlines()) - kernels(table))]
        print("\n".join(faults) or "report_arm_kernels: every loop is within its limit")
        return 1 if faults else 0
    head = [
        "| level | kernel | loads | arithmetic | Neoverse N1 | Neoverse V1 | Neoverse V2 |",
        "|---|---|---|---|---|---|---|",
    ]
    DOCUMENT.write_text("\n".join([before + BEGIN, *head, *table, END + after]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
