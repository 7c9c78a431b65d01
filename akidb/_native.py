"""The native core. Nothing else imports akidb._core: import-linter sees this module, but not into a compiled one."""

from __future__ import annotations

from akidb._core import (
    GraphIndex,
    HnswIndex,
    IdRows,
    build_graph,
    check_vectors,
    crc32c,
    inverse_norms,
    scan,
    simd_info,
)

__all__ = [
    "GraphIndex",
    "HnswIndex",
    "IdRows",
    "build_graph",
    "check_vectors",
    "crc32c",
    "inverse_norms",
    "scan",
    "simd_info",
]
