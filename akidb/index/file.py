"""The file of a saved HnswIndex: ids, vectors and graph, each where it can be used by mmap. docs/formats/index.md
describes it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from akidb._native import crc32c
from akidb.errors import CorruptionError, InvalidInputError
from akidb.index.arguments import IdArray, MetricWord
from akidb.types import VectorArray

MAGIC = b"AkiIndex"
VERSION = 1
ALIGNMENT = 4096
_HEADER = struct.Struct("<8sIIQQ" + "QQI4x" * 4 + "I")
_METRICS: tuple[MetricWord, ...] = ("cosine", "l2", "ip")
SECTIONS = ("ids", "vectors", "norms", "graph")
_BLOCK_BYTES = 1 << 24


@dataclass(frozen=True, slots=True)
class Contents:
    """An opened file; the arrays are views of the mapping. ids int64 (n,), vectors float32 (n, dim), inverse_norms
    float32 (n,) or,
    but for cosine, None, graph uint8 (bytes,)."""

    metric: MetricWord
    ids: IdArray
    vectors: VectorArray
    inverse_norms: VectorArray | None
    graph: npt.NDArray[np.uint8]

    def parts(self) -> dict[str, npt.NDArray[Any]]:
        """The sections by name, as `write` takes them."""
        norms = np.empty(0, np.float32) if self.inverse_norms is None else self.inverse_norms
        return {"ids": self.ids, "vectors": self.vectors, "norms": norms, "graph": self.graph}


def write(path: str | os.PathLike[str], metric: MetricWord, parts: dict[str, npt.NDArray[Any]]) -> None:
    """Replaces the file at once: a reader, and a crash, sees the old one whole or the new one whole. Raises OSError."""
    target = Path(path)
    with _replacing(target) as out:
        sections: list[int] = []
        out.seek(ALIGNMENT)
        for name in SECTIONS:
            start = out.seek(-out.tell() % ALIGNMENT, os.SEEK_CUR)
            crc = 0
            for block in _blocks(parts[name]):
                crc = crc32c(block, crc)
                out.write(block.data)
            sections += [start, out.tell() - start, crc]
        count, dim = parts["vectors"].shape
        head = _HEADER.pack(MAGIC, VERSION, _METRICS.index(metric), dim, count, *sections, 0)[:-4]
        out.seek(0)
        out.write(head + struct.pack("<I", crc32c(head)))


def read(path: str | os.PathLike[str], *, verify: bool) -> Contents:
    """Maps the file. Without `verify` only the header is read, so the time doesn't depend on the file's size.

    Raises CorruptionError where the file is no index, is truncated or fails a checksum; OSError where it can't be read.
    """

    def bad(what: str) -> CorruptionError:
        return CorruptionError(f"index file {os.fspath(path)}: {what}")

    if os.path.getsize(path) < _HEADER.size:
        raise bad(f"{os.path.getsize(path)} bytes are too few for a header")
    data = np.memmap(path, np.uint8, "r")
    head = data[: _HEADER.size].tobytes()
    magic, version, metric, dim, count, *sections, head_crc = _HEADER.unpack(head)
    if magic != MAGIC:
        raise bad("it does not begin with AkiIndex")
    if version != VERSION:
        raise bad(f"its format version is {version}, this AkiDB reads {VERSION}")
    if crc32c(head[:-4]) != head_crc:
        raise bad("the header fails its checksum")
    views = []
    for name, (start, size, crc) in zip(SECTIONS, zip(*[iter(sections)] * 3, strict=True), strict=True):
        if start % ALIGNMENT or start + size > len(data):
            raise bad(f"the file has {len(data)} bytes, its {name} should end at {start + size}")
        views.append(data[start : start + size].view(np.ndarray))
        if verify and crc32c(views[-1]) != crc:
            raise bad(f"its {name} fail their checksum")
    ids, vectors, norms, graph = views
    has_norms = metric == _METRICS.index("cosine")
    sizes = (count * 8, count * dim * 4, count * 4 if has_norms else 0)
    if metric >= len(_METRICS) or dim < 1 or (len(ids), len(vectors), len(norms)) != sizes:
        raise bad("the sizes in its header contradict each other")
    return Contents(
        _METRICS[metric],
        ids.view(np.int64),
        vectors.view(np.float32).reshape(count, dim),
        norms.view(np.float32) if has_norms else None,
        graph,
    )


def _blocks(array: npt.NDArray[Any]) -> Iterator[npt.NDArray[np.uint8]]:
    """The array's bytes in C order, a part at a time: rows padded in memory lie close in the file."""
    row_bytes = array.itemsize * (array.shape[1] if array.ndim == 2 else 1)
    step = max(1, _BLOCK_BYTES // row_bytes)
    for start in range(0, len(array), step):
        yield np.ascontiguousarray(array[start : start + step]).view(np.uint8).reshape(-1)


@contextlib.contextmanager
def _replacing(target: Path) -> Iterator[BinaryIO]:
    if target.is_dir():
        raise InvalidInputError(f"{target} is a folder, expected the name of a file")
    temporary = target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        with open(temporary, "xb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
