"""Indexes over vectors: numpy in, numpy out, the work in native code without the GIL.

HnswIndex and FlatIndex own their vectors; GraphIndex, build_graph and scan work on vectors that lie elsewhere, such as
in a segment.
"""

from __future__ import annotations

from akidb._native import simd_info
from akidb.index.flat import FlatIndex
from akidb.index.graph import GraphIndex, GraphPart, build_graph, inverse_norms, scan
from akidb.index.hnsw import HnswIndex
from akidb.index.kmeans import Grid, chained, clusters
from akidb.index.mapped_file import MappedFile
from akidb.index.result import SearchResult
from akidb.index.view import HnswView

__all__ = [
    "FlatIndex",
    "GraphIndex",
    "GraphPart",
    "Grid",
    "HnswIndex",
    "HnswView",
    "MappedFile",
    "SearchResult",
    "build_graph",
    "chained",
    "clusters",
    "inverse_norms",
    "scan",
    "simd_info",
]
