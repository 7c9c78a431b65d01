"""The native core. Nothing else imports akidb._core: import-linter sees this module, but not into a compiled one."""

from __future__ import annotations

from pathlib import Path

try:
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
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"{Path(__file__).parent} is AkiDB's source without the native core, and hides an AkiDB that is installed: "
        "start Python in another folder, or build the core with `make develop`",
        name=error.name,
    ) from error

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
