from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from typing_extensions import Buffer

_Bytes = Buffer | npt.NDArray[Any]
_Floats = npt.NDArray[np.float32]
_Rows = npt.NDArray[Any]  # of vectors of a dtype
_Ids = npt.NDArray[np.int64]
_Mask = npt.NDArray[np.bool_]
_Progress = Callable[[int, int], object] | None

class _File(Protocol):
    def fileno(self) -> int: ...

class _Event(Protocol):
    def is_set(self) -> bool: ...

def simd_info() -> dict[str, Any]: ...
def crc32c(bytes: _Bytes, crc: int = 0) -> int: ...
def check_vectors(vectors: _Rows, dim: int, metric: str, what: str, *, dtype: str = "float32") -> None: ...
def inverse_norms(vectors: _Rows, *, threads: int, dtype: str = "float32") -> _Floats: ...
def scan(
    vectors: _Rows,
    metric: str,
    queries: _Rows,
    k: int,
    *,
    allowed: _Mask | None = None,
    seconds: float | None = None,
    threads: int = 1,
    inverse_norms: _Floats | None = None,
    dtype: str = "float32",
) -> tuple[_Ids, _Floats]: ...
def build_graph(
    vectors: _Floats,
    metric: str,
    *,
    m: int,
    ef_construction: int,
    parts: list[tuple[Buffer | None, _Mask]],
    threads: int,
    seed: int,
    code_bits: int | None,
    progress: _Progress,
    stop: _Event | None,
) -> npt.NDArray[np.uint8]: ...

class GraphIndex:
    m: int
    ef_construction: int
    seed: int
    code_bits: int
    is_calibrated: bool
    def __init__(
        self,
        vectors: _Rows,
        graph: _Bytes,
        metric: str,
        inverse_norms: _Floats | None = None,
        ids: _Ids | None = None,
        dtype: str = "float32",
        file: tuple[_File, int] | None = None,
    ) -> None: ...
    def search(
        self,
        queries: _Rows,
        k: int,
        *,
        ef_search: int,
        allowed: _Mask | None = None,
        seconds: float | None = None,
        threads: int = 1,
    ) -> tuple[_Ids, _Floats]: ...
    def ef_for(self, k: int, recall: float) -> int: ...
    def calibration(self) -> dict[str, Any]: ...
    def validate(self) -> dict[str, int]: ...
    def __len__(self) -> int: ...

class IdRows:
    def __init__(self, ids: _Ids) -> None: ...
    bytes: int
    def extend(self, ids: _Ids, known: int) -> None: ...
    def rows(self, ids: _Ids) -> _Ids: ...

class HnswIndex:
    bytes: int
    def __init__(
        self, dim: int, metric: str, m: int, ef_construction: int, seed: int, dtype: str = "float32"
    ) -> None: ...
    def add(self, ids: _Ids | None, vectors: _Rows, threads: int, progress: _Progress) -> None: ...
    def update(self, ids: _Ids, vectors: _Rows, threads: int, progress: _Progress) -> None: ...
    def remove(self, ids: _Ids) -> None: ...
    def search(
        self,
        queries: _Rows,
        k: int,
        ef_search: int,
        allowed_ids: _Ids | None,
        id_mask: _Mask | None,
        seconds: float | None,
        threads: int,
    ) -> tuple[_Ids, _Floats]: ...
    def get(self, ids: _Ids) -> _Rows: ...
    def contains(self, id: int) -> bool: ...
    def ids(self) -> _Ids: ...
    def parts(self) -> dict[str, npt.NDArray[Any]]: ...
    def seal(self, code_bits: int | None) -> dict[str, Any]: ...
    def restore(self, ids: _Ids, vectors: _Rows, graph: _Bytes) -> None: ...
    def validate(self) -> dict[str, int]: ...
    def __len__(self) -> int: ...
