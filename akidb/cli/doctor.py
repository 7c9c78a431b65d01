"""akidb doctor: is this machine fit for AkiDB, and what will it use of it?"""

from __future__ import annotations

import asyncio
import json
import mmap
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import click
import numpy as np

import akidb
from akidb.cli import board
from akidb.cli.system import FEATURES_OF_KERNELS, SVE_BITS, features, held_back, sve_bits, synchronised
from akidb.config import Settings, load
from akidb.database.format import look_at
from akidb.errors import AkiDBError, ConfigurationError
from akidb.index.arguments import MetricWord
from akidb.index.space import DTYPES, DTypeWord
from akidb.storage import as_found, as_judged, open_store, require_conditional_puts
from akidb.telemetry import logging as logs

EXIT_UNFIT = 1
CLOCK_SKEW_SECS_MAX = 60.0
_YEAR_MIN = 2026
_WRITE_BYTES = 64 << 20
_SYNCS = 20
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, whether it is well, the words for a person and the figures for a program."""

    name: str
    ok: bool
    text: str
    data: dict[str, object]


@click.command(
    short_help="Is this machine fit, and what is used of it?",
    epilog="Exit status: 0 all is well; 1 something is not, and is marked FAIL; 2 wrong arguments or configuration.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs and bug reports.")
@click.option("--config", metavar="FILE", help="YAML file with settings, as for akidb-api.")
def doctor(as_json: bool, config: str | None) -> None:
    """Look at this machine and the configured store: board, processor, kernels, memory, disk, clock, store.

    Writes 64 MiB to the folder of the store, or of temporary files where the store is remote, and removes them.
    """
    logs.configure("error", "text", stream=sys.stderr)
    try:
        settings = load(config=config).settings
    except AkiDBError as error:
        click.echo(f"akidb doctor: {error}", err=True)
        sys.exit(2)
    findings = [_tried(name, look, settings) for name, look in LOOKS.items()]
    fit = all(finding.ok for finding in findings)
    if as_json:
        looked = {finding.name: {"ok": finding.ok, "text": finding.text, **finding.data} for finding in findings}
        click.echo(json.dumps({"version": akidb.__version__, "ok": fit, **looked}, indent=2))
    else:
        for finding in findings:
            click.echo(f"{'ok  ' if finding.ok else 'FAIL'} {finding.name}: {finding.text}")
    sys.exit(0 if fit else EXIT_UNFIT)


def _tried(name: str, look: Callable[[Settings], Finding], settings: Settings) -> Finding:
    """A fault of one look must not hide the others."""
    try:
        return look(settings)
    except (AkiDBError, OSError) as error:
        return Finding(name, False, str(error), {"error": str(error)})


def _board(_: Settings) -> Finding:
    """Which board this is, and its cores of every kind: benchmarks of others are only comparable with both."""
    name, kinds = board.model(), board.cores()
    data: dict[str, object] = {"model": name, "cores": [asdict(kind) for kind in kinds]}
    return Finding("board", True, f"{name or 'no name told'}; {_cores(kinds)}", data)


def _cores(kinds: list[board.Cores]) -> str:
    return ", ".join(str(kind) for kind in kinds) or "no cores told"


def _processor(_: Settings) -> Finding:
    info = akidb.simd_info()
    told, bits = features(), sve_bits()
    above = held_back(info["detected"], told, bits)
    data: dict[str, object] = {"machine": platform.machine(), "system": platform.platform(), **info}
    data |= {"python": platform.python_version(), "features": told, "sve_bits": bits}
    data["next_level"] = None if above is None else {"level": above[0], "missing": above[1]}
    used = ", ".join(name for name in FEATURES_OF_KERNELS if name in told) or "no vector instructions that it tells of"
    text = (
        f"{platform.machine()} with {used}{_sve(bits)}; {info['threads']} threads, kernels at {info['level']}"
        f"{_why_not_more(info['level'], info['detected'], above)}, {platform.platform()}"
    )
    return Finding("processor", True, text, data)


def _sve(bits: int | None) -> str:
    if bits is None:
        return ""
    if bits == SVE_BITS:
        return f", registers of SVE of {bits} bits"
    why = "NEON does as much at that length" if bits < SVE_BITS else f"there are kernels for {SVE_BITS} alone"
    return f", registers of SVE of {bits} bits (not used: {why})"


def _why_not_more(level: str, detected: str, above: tuple[str, list[str]] | None) -> str:
    if level != detected:
        return f" (lowered from {detected} by AKIDB_SIMD_LEVEL)"
    if above is None or not above[1]:
        return ""
    return f" ({above[0]} needs {' and '.join(above[1])})"


def look_at_machine() -> dict[str, object]:
    """What doctor tells of board, processor and memory, without touching disk or store; for benchmarks."""
    looks = [look(Settings()) for look in (_board, _processor, _memory)]
    data = {key: value for look in looks for key, value in look.data.items()}
    return {"text": "; ".join(look.text for look in looks), "akidb": akidb.__version__, **data}


def _kernels(_: Settings) -> Finding:
    """Whole numbers, whose distances are exact, so that the kernels must agree with NumPy to the last bit."""
    wrong = [
        {"dtype": dtype, "metric": metric, "dim": dim}
        for dtype, metric in _COMPARED
        for dim in (8, 56, 64, 104, 768)  # bits come in eights; 104 and 56 leave a rest at every width of registers
        if not _is_exact(dtype, metric, dim)
    ]
    names = ", ".join(f"{each['dtype']} {each['metric']} at {each['dim']} dimensions" for each in wrong)
    text = f"wrong distances of {names}: report this machine" if wrong else "distances of every type are exact"
    return Finding("kernels", not wrong, text, {"wrong": wrong})


_COMPARED: tuple[tuple[DTypeWord, MetricWord], ...] = (
    *((dtype, metric) for dtype in DTYPES if dtype != "binary" for metric in ("l2", "ip")),
    ("binary", "hamming"),
)


def _is_exact(dtype: DTypeWord, metric: MetricWord, dim: int) -> bool:
    smallest, largest = {"binary": (0, 1), "uint8": (0, 8)}.get(dtype, (-8, 8))
    numbers = np.random.default_rng(dim).integers(smallest, largest, (200, dim), endpoint=True)
    rows = numbers.astype({"binary": np.bool_, "bfloat16": np.float32}.get(dtype, dtype))
    index = akidb.FlatIndex(dim, metric, dtype=dtype)
    index.add(rows)
    found = index.search(rows[:20], 10)
    exact = -(numbers[:20] @ numbers.T)
    if metric != "ip":  # of bits the squared distance is the number that differ
        squares = (numbers**2).sum(axis=1)
        exact = squares[:20, None] + squares + 2 * exact
    return np.array_equal(found.distances, np.sort(exact, axis=1)[:, :10].astype(np.float32))


def _memory(_: Settings) -> Finding:
    page = mmap.PAGESIZE
    total = os.sysconf("SC_PHYS_PAGES") * page
    huge = board.huge_pages()
    data: dict[str, object] = {"page_bytes": page, "total_bytes": total, "huge_pages": asdict(huge)}
    text = f"{total // _MIB} MiB, pages of {page // 1024} KiB{_huge(huge)}"
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * page
    except ValueError:  # macOS does not tell
        return Finding("memory", True, text, data)
    return Finding("memory", True, f"{text}, {free // _MIB} MiB unused", {**data, "unused_bytes": free})


def _huge(pages: board.HugePages) -> str:
    """Large arrays ask for transparent ones; reserved ones are not used."""
    sizes = " and ".join(_size(size) for size in pages.sizes_bytes)
    text = f", huge ones of {sizes}" if sizes else ""
    if pages.transparent is None:
        return text
    size = f" ({_size(pages.transparent_bytes)})" if pages.transparent_bytes else ""
    advice = ", which slows large indexes down: set madvise" if pages.transparent == "never" else ""
    return f"{text}, transparent ones{size}: {pages.transparent}{advice}"


def _size(size: int) -> str:
    power, unit = next((power, unit) for power, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")) if size >> power)
    return f"{size >> power} {unit}"


def _disk(settings: Settings) -> Finding:
    """Speed of writing and syncing where durable writes go: a local commit costs a sync."""
    folder = _folder(settings)
    with tempfile.NamedTemporaryFile(dir=folder, prefix="akidb-doctor-") as file:
        block = os.urandom(_MIB)
        began = time.perf_counter()
        for _ in range(_WRITE_BYTES // _MIB):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
        write_mib_per_sec = _WRITE_BYTES / _MIB / (time.perf_counter() - began)
        syncs = []
        for _ in range(_SYNCS):
            began = time.perf_counter()
            file.write(block[:4096])
            file.flush()
            os.fsync(file.fileno())
            syncs.append((time.perf_counter() - began) * 1000)
    free = os.statvfs(folder)
    free_bytes = free.f_bavail * free.f_frsize
    data = {"folder": str(folder), "write_mib_per_sec": round(write_mib_per_sec, 1)}
    data |= {"fsync_ms_median": round(float(np.median(syncs)), 3), "fsync_ms_max": round(max(syncs), 3)}
    text = f"{folder}: writes {write_mib_per_sec:.0f} MiB/s, fsync {np.median(syncs):.2f} ms (at most {max(syncs):.2f})"
    return Finding("disk", True, f"{text}, {free_bytes // _MIB} MiB free", {**data, "free_bytes": free_bytes})


def _folder(settings: Settings) -> Path:
    """Of the local store, or the nearest folder above it that is there; of temporary files for a remote store."""
    if settings.storage.s3_endpoint or settings.storage.use_memory_backend:
        return Path(tempfile.gettempdir())
    folder = Path(settings.storage.data_dir).absolute()
    while not folder.is_dir():
        folder = folder.parent
    return folder


def _clock(_: Settings) -> Finding:
    """Stores refuse requests signed with a clock that is a quarter of an hour off, and authorities' certificates; no
    answer of AkiDB depends on it. Boards without a battery start in 1970.
    """
    now = datetime.now(UTC)
    data: dict[str, object] = {"utc": now.isoformat(timespec="seconds"), "synchronised": synchronised()}
    words = {True: "kept by NTP", False: "not kept by NTP", None: "whether NTP keeps it is not told"}
    ok = now.year >= _YEAR_MIN
    text = f"{now:%Y-%m-%d %H:%M:%S} UTC, {words[synchronised()]}"
    return Finding("clock", ok, text if ok else f"{text}: this is the past, set it by NTP", data)


def _store(settings: Settings) -> Finding:
    """What a start would find there, and three conditional puts on a key of its own; also tells the store's clock from
    ours."""
    folder = Path(settings.storage.data_dir)
    if not settings.storage.s3_endpoint and not settings.storage.use_memory_backend and not folder.exists():
        return Finding(
            "store", True, f"{folder.absolute()} is not there yet; the first start makes it", {"location": None}
        )
    try:
        return asyncio.run(_probe(settings))
    except ConfigurationError as failed:
        if failed.code != "no_such_bucket" or not settings.storage.create_bucket:
            raise
        text = f"there is no bucket {settings.storage.s3_bucket!r} yet; the first start makes it, if its keys may"
        return Finding("store", True, text, {"location": None})


async def _probe(settings: Settings) -> Finding:
    store = open_store(as_judged(as_found(settings)))
    try:
        found = await look_at(store)
        began = time.perf_counter()
        await require_conditional_puts(store)
        took_ms = (time.perf_counter() - began) * 1000
        dated = (await store.get("probe/doctor")).date
    finally:
        await store.close()
    data: dict[str, object] = {"location": store.location, "probe_ms": round(took_ms, 1), "is_new": found is None}
    what = "is empty" if found is None else f"is an AkiDB store of format {found.min_writer}"
    kept = f"keeps conditional writes (probe {took_ms:.0f} ms; `akidb store check` tries all rules)"
    text = f"{store.location} {what} and {kept}"
    if dated is None:
        return Finding("store", True, text, data)
    skew = time.time() - dated
    data["clock_skew_secs"] = round(skew, 1)
    if abs(skew) > CLOCK_SKEW_SECS_MAX:
        return Finding("store", False, f"{text}; our clock is {skew:+.0f} s off the store's: set it by NTP", data)
    return Finding("store", True, f"{text}; clocks agree within {abs(skew) + 1:.0f} s", data)


LOOKS: dict[str, Callable[[Settings], Finding]] = {
    "board": _board,
    "processor": _processor,
    "kernels": _kernels,
    "memory": _memory,
    "disk": _disk,
    "clock": _clock,
    "store": _store,
}
