"""Indexes over vectors: numpy in, numpy out, the work in native code without the GIL."""

from __future__ import annotations

from akidb._native import simd_info
from akidb.index.graph import GraphIndex, build_graph, inverse_norms, scan

__all__ = ["GraphIndex", "build_graph", "inverse_norms", "scan", "simd_info"]
