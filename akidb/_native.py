"""The native core. The only importer of akidb._core: import-linter can't see into compiled modules, but it sees this one."""

from __future__ import annotations

from akidb._core import GraphIndex, HnswIndex, build_graph, crc32c, inverse_norms, scan, simd_info

__all__ = ["GraphIndex", "HnswIndex", "build_graph", "crc32c", "inverse_norms", "scan", "simd_info"]
