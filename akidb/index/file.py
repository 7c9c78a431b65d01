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

from akidb import _native
from akidb._native import crc32c
from akidb.errors import CorruptionError, InvalidInputError
from akidb.index.arguments import IdArray, MetricWord
from akidb.index.mapped_file import MappedFile
from akidb.index.space import DTYPES, Rows, Space
from akidb.types import VectorArray

MAGIC = b"AkiIndex"
FLOAT32_VERSION, VERSION = 1, 2
ALIGNMENT = 4096
# Version 2 is version 1 with a dtype: float32 is written as version 1, which every AkiDB reads.
_FIELDS = "<8sIIQQ" + "QQI4x" * 4
_HEADERS = {FLOAT32_VERSION: struct.Struct(_FIELDS + "I"), VERSION: struct.Struct(_FIELDS + "II")}
_METRICS: tuple[MetricWord, ...] = ("cosine", "l2", "ip", "hamming")
SECTIONS = ("ids", "vectors", "norms", "graph")
_BLOCK_BYTES = 1 << 24


@dataclass(frozen=True, slots=True)
class Contents:
    """An opened file; the arrays are views of the mapping. ids int64 (n,), vectors (n, width) as space has them,
    inverse_norms float32 (n,) or, but for cosine, None, graph uint8 (bytes,). `file` is what they lie in, if it is one.
    """

    space: Space
    ids: IdArray
    vectors: Rows
    inverse_norms: VectorArray | None
    graph: npt.NDArray[np.uint8]
    file: MappedFile | None = None

    def parts(self) -> dict[str, npt.NDArray[Any]]:
        """The sections by name, as `write` takes them."""
        norms = np.empty(0, np.float32) if self.inverse_norms is None else self.inverse_norms
        return {"ids": self.ids, "vectors": self.vectors, "norms": norms, "graph": self.graph}

    def graph_index(self, *, map_vectors: bool = False) -> _native.GraphIndex:
        """Raises CorruptionError where the graph is damaged or of other vectors."""
        space = self.space
        file = None if self.file is None or map_vectors else (self.file, self.file.place_of(self.vectors))
        return _native.GraphIndex(
            self.vectors, self.graph, space.native_metric, self.inverse_norms, self.ids, dtype=space.dtype,
            file=file,
        )  # fmt: skip


def write(path: str | os.PathLike[str], space: Space, parts: dict[str, npt.NDArray[Any]]) -> None:
    """Replaces the file at once: a reader, and a crash, sees the old one whole or the new one whole. A link to a file
    is followed. Raises OSError, and InvalidInputError for what is there and is no file, such as a folder or a device.
    """
    with _replacing(path) as out:
        sections: list[int] = []
        out.seek(ALIGNMENT)
        for name in SECTIONS:
            start = out.seek(-out.tell() % ALIGNMENT, os.SEEK_CUR)
            crc = 0
            for block in _blocks(parts[name]):
                crc = crc32c(block, crc)
                out.write(block.data)
            sections += [start, out.tell() - start, crc]
        version = FLOAT32_VERSION if space.dtype == "float32" else VERSION
        fields = [_METRICS.index(space.metric), space.dim, len(parts["ids"]), *sections]
        if version == VERSION:
            fields.append(DTYPES.index(space.dtype))
        head = _HEADERS[version].pack(MAGIC, version, *fields, 0)[:-4]
        out.seek(0)
        out.write(head + struct.pack("<I", crc32c(head)))


def read(path: str | os.PathLike[str], *, verify: bool) -> Contents:
    """Maps the file. Without `verify` only the header is read, so the time doesn't depend on the file's size.

    Raises CorruptionError where the file is no index, is truncated or fails a checksum; OSError where it can't be read.
    """
    return parse(MappedFile(path), verify=verify)


def parse(file: MappedFile, *, verify: bool) -> Contents:
    """What a mapped file holds, which may have changed since it was mapped. Raises CorruptionError."""

    def bad(what: str) -> CorruptionError:
        return CorruptionError(f"index file {file.path}: {what}")

    data = np.frombuffer(file.data, np.uint8)
    if os.fstat(file.fileno()).st_size < len(data):  # reading the mapping past its end would end the process
        raise bad("it was cut short since it was opened")
    if len(data) < _HEADERS[VERSION].size:
        raise bad(f"{len(data)} bytes are too few for a header")
    magic, version = struct.unpack_from("<8sI", data[:12].tobytes())
    if magic != MAGIC:
        raise bad("it does not begin with AkiIndex")
    if version not in _HEADERS:
        raise bad(f"its format version is {version}, this AkiDB reads {' and '.join(map(str, _HEADERS))}")
    head = data[: _HEADERS[version].size].tobytes()
    _, _, metric, dim, count, *fields, head_crc = _HEADERS[version].unpack(head)
    if crc32c(head[:-4]) != head_crc:
        raise bad("the header fails its checksum")
    dtype = 0 if version == FLOAT32_VERSION else fields[-1]
    if metric >= len(_METRICS) or dtype >= len(DTYPES) or dim < 1:
        raise bad("its header has a metric, dtype or dim that there is not")
    space = Space(dim, _METRICS[metric], DTYPES[dtype])
    table = list(zip(*[iter(fields[: 3 * len(SECTIONS)])] * 3, strict=True))
    if fault := _fault_of_places(table, len(head), data):
        raise bad(fault)
    for name, (start, size, crc) in zip(SECTIONS, table, strict=True):
        if verify and crc32c(data[start : start + size]) != crc:
            raise bad(f"the checksum of its {name} does not match")
    ids, vectors, norms, graph = (data[start : start + size] for start, size, _ in table)
    has_norms = space.metric == "cosine"
    sizes = (count * 8, count * space.bytes_per_vector, count * 4 if has_norms else 0)
    if (len(ids), len(vectors), len(norms)) != sizes:
        raise bad("the sizes in its header contradict each other")
    if verify and (fault := _fault_of_ids(ids.view(np.int64))):
        raise bad(fault)
    return Contents(
        space,
        ids.view(np.int64),
        vectors.view(space.stored).reshape(count, space.width),
        norms.view(np.float32) if has_norms else None,
        graph,
        file,
    )


def _fault_of_places(table: list[tuple[int, int, int]], end: int, data: npt.NDArray[np.uint8]) -> str | None:
    """What is in no section has no checksum, so there is nothing but the zeros up to where the next one begins."""
    for name, (start, size, _) in zip(SECTIONS, table, strict=True):
        expected = end + -end % ALIGNMENT
        if start != expected:
            return f"its {name} begin at {start}, expected {expected}"
        if start + size > len(data):
            return f"it has {len(data)} bytes, its {name} should end at {start + size}"
        between = data[end:start]
        if between.any():
            at = int(np.argmax(between != 0))
            return f"byte {end + at} is {between[at]}, expected 0: it lies between the sections"
        end = start + size
    return None if end == len(data) else f"it has {len(data)} bytes, expected {end}: its last section ends there"


def _fault_of_ids(ids: IdArray) -> str | None:
    """Checksums tell of a damaged disk; a program that writes such a file may be wrong as well."""
    if len(ids) and ids.min() < 0:
        return f"it has the id {ids.min()}, which is negative"
    ascending = np.sort(ids)
    twice = ascending[1:] == ascending[:-1]
    return f"it has the id {ascending[1:][twice][0]} twice" if twice.any() else None


def _blocks(array: npt.NDArray[Any]) -> Iterator[npt.NDArray[np.uint8]]:
    """The array's bytes in C order, a part at a time: rows padded in memory lie close in the file."""
    row_bytes = array.itemsize * (array.shape[1] if array.ndim == 2 else 1)
    step = max(1, _BLOCK_BYTES // row_bytes)
    for start in range(0, len(array), step):
        yield np.ascontiguousarray(array[start : start + step]).view(np.uint8).reshape(-1)


@contextlib.contextmanager
def _replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    target = Path(os.path.realpath(os.fsdecode(path)))
    if target.is_dir():
        raise InvalidInputError(f"{target} is a folder, expected the name of a file")
    if target.exists() and not target.is_file():  # os.replace would put a file in the place of /dev/null
        raise InvalidInputError(f"{target} is a device, pipe or socket, expected the name of a file")
    # Of a long name a part: with more a file system's limit of 255 bytes would be passed.
    temporary = target.with_name(f".{target.name[:50]}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        with open(temporary, "xb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        os.replace(temporary, target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError):  # which names the temporary file, if any
            raise OSError(error.errno, error.strerror, os.fsdecode(path)) from error
        raise
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
