"""Instructions that a call of each ARM kernel executes, counted under emulation and compared with what is recorded.

    scripts/count_instructions.py [--record] [build folder, default build/arm]

The build is one of scripts/test-arm.sh. A kernel that takes over 3 % more than bench/kernels/instructions.json says, or
is not in it, fails; --record writes the file anew. Counts are exact and repeatable, and say nothing of time: a
processor may execute more instructions faster. They belong to a compiler: those of another are shown, not compared,
which where CI=true is a failure.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RECORD = ROOT / "bench/kernels/instructions.json"
PLUGIN_SOURCE = ROOT / "bench/kernels/count_instructions.c"
PROCESSOR = "max,sve-default-vector-length=32"  # has every level
DIMS = (128, 768)
TOLERANCE = 0.03
COMPILER = "aarch64-linux-gnu-g++"


class Counter:
    def __init__(self, program: Path, plugin: Path) -> None:
        self._program = program
        self._command = ["qemu-aarch64", "-cpu", PROCESSOR, "-plugin", str(plugin), str(program)]

    def kernels(self) -> list[str]:
        listed = subprocess.run(
            [*self._command[:3], str(self._program)], check=True, capture_output=True, text=True
        ).stdout
        return listed.splitlines()

    def per_call(self, kernel: str, dim: int) -> int:
        """The difference of two runs, so that what comes before the calls does not count."""
        return round((self._run(kernel, dim, 200) - self._run(kernel, dim, 100)) / 100)

    def _run(self, kernel: str, dim: int, calls: int) -> int:
        told = subprocess.run(
            [*self._command, *kernel.split(), str(dim), str(calls)], check=True, capture_output=True, text=True
        ).stderr
        return int(told.split()[-1])


def count(build: Path) -> dict[str, int]:
    with tempfile.TemporaryDirectory() as folder:
        plugin = Path(folder, "count_instructions.so")
        compiler = os.environ.get("CC", "cc")
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", plugin, PLUGIN_SOURCE], check=True)
        counter = Counter(build / "bench/kernels/count_kernels", plugin)
        calls = [(kernel, dim) for kernel in counter.kernels() if not kernel.startswith("scalar ") for dim in DIMS]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            counts = pool.map(lambda call: counter.per_call(*call), calls)
            return {f"{kernel} {dim}": n for (kernel, dim), n in zip(calls, counts, strict=True)}


def compiler_version() -> str:
    """Of Debian's package at will, but for its revision: patches of a distribution do not move loops about."""
    version = subprocess.run([COMPILER, "-dumpfullversion"], check=True, capture_output=True, text=True).stdout.strip()
    return f"{COMPILER} {version}"


def compare(recorded: dict[str, int], counted: dict[str, int]) -> list[str]:
    """What is wrong, a line each."""
    wrong = [f"{name}: {n}, and nothing is recorded" for name, n in counted.items() if name not in recorded]
    wrong += [f"{name}: recorded, but there is no such kernel" for name in recorded if name not in counted]
    for name, n in counted.items():
        if name in recorded and n > recorded[name] * (1 + TOLERANCE):
            wrong.append(f"{name}: {n}, {n / recorded[name] - 1:+.1%} against the {recorded[name]} recorded")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true", help="write the counts down in place of comparing them")
    parser.add_argument("build", nargs="?", type=Path, default=ROOT / "build/arm")
    arguments = parser.parse_args()
    counted, compiler = count(arguments.build), compiler_version()
    if arguments.record:
        RECORD.write_text(json.dumps({"compiler": compiler, "instructions_per_call": counted}, indent=2) + "\n")
        print(f"count_instructions: {len(counted)} counts recorded")
        return 0
    recorded = json.loads(RECORD.read_text())
    if recorded["compiler"] != compiler:
        print(f"count_instructions: NOT COMPARED, recorded with {recorded['compiler']}, this is {compiler}")
        print("\n".join(f"  {name}: {n}" for name, n in counted.items()))
        return 1 if os.environ.get("CI") == "true" else 0
    wrong = compare(recorded["instructions_per_call"], counted)
    for line in wrong:
        print(f"count_instructions: {line}", file=sys.stderr)
    if wrong:
        print("count_instructions: meant? then run it with --record and say why in the commit", file=sys.stderr)
        return 1
    print(f"count_instructions: {len(counted)} kernels take no more instructions than recorded")
    return 0


if __name__ == "__main__":
    sys.exit(main())
