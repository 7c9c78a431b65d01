"""What the operating system tells of processor and clock."""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys
from pathlib import Path

FEATURES_OF_KERNELS = (
    "asimd", "asimdhp", "asimddp", "asimdfhm", "i8mm", "bf16", "sve", "sve2", "svei8mm", "svebf16",
    "FEAT_DotProd", "FEAT_FP16", "FEAT_FHM", "FEAT_BF16", "FEAT_I8MM",
    "fma", "f16c", "avx2", "avx512f", "avx512bw", "avx512dq", "avx512vl",
    "avx512_vnni", "avx512_bf16", "avx512_vpopcntdq",
)  # fmt: skip
"""Those that vectors are compared with, on one architecture or another."""

# Bits of AT_HWCAP and AT_HWCAP2: Linux, arch/arm64/include/uapi/asm/hwcap.h.
_AT_HWCAP, _AT_HWCAP2 = 16, 26
_HWCAP = {0: "fp", 1: "asimd", 10: "asimdhp", 20: "asimddp", 22: "sve", 23: "asimdfhm"}
_HWCAP2 = {1: "sve2", 9: "svei8mm", 12: "svebf16", 13: "i8mm", 14: "bf16"}
_PR_SVE_GET_VL, _SVE_LENGTH_MASK = 51, 0xFFFF  # Linux, include/uapi/linux/prctl.h
SVE_BITS = 256
"""The one length that there are kernels for: at 128 NEON is as good, longer ones wait for a machine that has them."""

# What each level needs beyond those before it, by csrc/cpu/simd_level.cc; a feature by Linux's name and Apple's.
_NEEDS_ARM: dict[str, tuple[tuple[str, ...], ...]] = {
    "neon": (),
    "neon_dotprod": (("asimddp", "FEAT_DotProd"),),
    "neon_fhm": (("asimdfhm", "FEAT_FHM"),),
    "neon_bf16": (("bf16", "FEAT_BF16"),),
    "neon_i8mm": (("i8mm", "FEAT_I8MM"),),
    "sve256": (("sve",), ("svei8mm",)),
}
_NEEDS_X86: dict[str, tuple[tuple[str, ...], ...]] = {
    "scalar": (),
    "avx2": (("avx2",), ("fma",), ("f16c",), ("popcnt",)),
    "avx512": (("avx512f",), ("avx512bw",), ("avx512dq",), ("avx512vl",)),
    "avx512_vnni": (("avx512_vnni",),),
    "avx512_vpopcntdq": (("avx512_vpopcntdq",),),
}


def features() -> list[str]:
    """Of the processor, by the names of Linux's /proc/cpuinfo or Apple's sysctl.

    On ARM Linux those that concern arithmetic, from the auxiliary vector: it is the process's own under emulation too,
    where /proc/cpuinfo is the machine's.
    """
    if sys.platform == "darwin":
        ran = subprocess.run(["/usr/sbin/sysctl", "hw.optional"], capture_output=True, text=True, check=False)
        return of_sysctl(ran.stdout)
    if platform.machine() == "aarch64":
        getauxval = ctypes.CDLL(None).getauxval
        getauxval.argtypes, getauxval.restype = [ctypes.c_ulong], ctypes.c_ulong
        return of_hwcap(getauxval(_AT_HWCAP), getauxval(_AT_HWCAP2))
    try:
        return of_cpuinfo(Path("/proc/cpuinfo").read_text())
    except OSError:
        return []


def sve_bits() -> int | None:
    """Length of the registers of SVE that this process has; None without SVE, or where the system does not tell."""
    if platform.machine() != "aarch64" or sys.platform != "linux":
        return None
    length = ctypes.CDLL(None).prctl(_PR_SVE_GET_VL, 0, 0, 0, 0)
    return (length & _SVE_LENGTH_MASK) * 8 if length > 0 else None


def held_back(level: str, told: list[str], bits: int | None) -> tuple[str, list[str]] | None:
    """The level above, and what it needs that is not `told` of the processor, whose SVE has so many bits; None where
    there is no level above.
    """
    needs = _NEEDS_ARM if level in _NEEDS_ARM else _NEEDS_X86
    levels = list(needs)
    if level == levels[-1]:
        return None
    above = levels[levels.index(level) + 1]
    missing = [names for names in needs[above] if not set(names) & set(told)]
    words = [names[-1] if sys.platform == "darwin" else names[0] for names in missing]
    if above == "sve256" and not missing and bits != SVE_BITS:
        words.append(f"registers of {SVE_BITS} bits")
    return above, words


def of_hwcap(hwcap: int, hwcap2: int) -> list[str]:
    """Names of the bits that are set in the two words."""
    words = ((hwcap, _HWCAP), (hwcap2, _HWCAP2))
    return [name for word, names in words for bit, name in names.items() if word >> bit & 1]


def of_cpuinfo(text: str) -> list[str]:
    """Of the first processor."""
    pairs = (line.partition(":") for line in text.splitlines())
    return next((words.split() for key, _, words in pairs if key.strip() == "flags"), [])


def of_sysctl(text: str) -> list[str]:
    """Lines such as "hw.optional.arm.FEAT_DotProd: 1"."""
    pairs = (line.partition(": ") for line in text.splitlines())
    return [key.rpartition(".")[2] for key, _, value in pairs if value.strip() == "1"]


class _Timex(ctypes.Structure):
    """Linux, include/uapi/linux/timex.h, up to the field that is read, and room for the rest."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


_STA_UNSYNC = 0x40


def synchronised() -> bool | None:
    """Whether something keeps the clock to others' time; None where the system does not tell."""
    if sys.platform != "linux":
        return None
    timex = _Timex()  # modes 0: nothing is changed
    if ctypes.CDLL(None).adjtimex(ctypes.byref(timex)) < 0:
        return None
    return not timex.status & _STA_UNSYNC
