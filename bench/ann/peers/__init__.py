"""The rows of the table. A row's package is imported in the process that measures it, so one that is missing, or does
not work on a machine, is named and stops nobody else.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import Any

from bench.ann.peers.library import Job, Library


@dataclass(frozen=True)
class Row:
    """Class `kind` of bench.ann.peers.`module`, made with `options`; `package` is what is installed."""

    package: str
    module: str
    kind: str
    options: dict[str, Any] = field(default_factory=dict)

    def library(self, job: Job) -> Library:
        made: Library = getattr(importlib.import_module(f"bench.ann.peers.{self.module}"), self.kind)(
            job, **self.options
        )
        return made


def _vsag(base: str, *, reorder: bool = True) -> Row:
    return Row("pyvsag", "vsag", "Vsag", {"base": base, "reorder": reorder})


OWN = ("akidb", "akidb-mapped", "akidb-f32")
ROWS = {
    "akidb": Row("akidb", "own", "Sealed"),
    "akidb-mapped": Row("akidb", "own", "Sealed", {"map_vectors": True}),
    "akidb-f32": Row("akidb", "own", "Growing"),
    "hnswlib": Row("hnswlib", "hnsw", "Hnswlib"),
    "usearch": Row("usearch", "hnsw", "Usearch", {"dtype": "f32"}),
    "usearch-bf16": Row("usearch", "hnsw", "Usearch", {"dtype": "bf16"}),
    "usearch-i8": Row("usearch", "hnsw", "Usearch", {"dtype": "i8"}),
    "voyager": Row("voyager", "hnsw", "Voyager"),
    "faiss": Row("faiss-cpu", "faiss", "Hnsw"),
    "faiss-sq8": Row("faiss-cpu", "faiss", "HnswSq8"),
    "faiss-ivfpq": Row("faiss-cpu", "faiss", "IvfPq"),
    "vsag": _vsag("fp32", reorder=False),
    "vsag-sq8": _vsag("sq8_uniform"),
    "vsag-sq4": _vsag("sq4"),
    "vsag-rabitq": _vsag("rabitq"),
    "svs": Row("scalable-vs", "svs", "Vamana"),
    "zvec": Row("zvec", "zvec", "Zvec", {"int8": False}),
    "zvec-int8": Row("zvec", "zvec", "Zvec", {"int8": True}),
}
