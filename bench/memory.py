"""What this process holds of the machine's memory."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import subprocess
from pathlib import Path


def resident_bytes() -> int:
    """Of this process, pages of mapped files included, freed memory not."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # glibc keeps freed memory, and has a call to return it
        ctypes.CDLL(None).malloc_trim(0)
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    shown = subprocess.run(["ps", "-o", "rss=", "-p", str(os.getpid())], capture_output=True, text=True, check=True)
    return int(shown.stdout) * 1024
