"""Rows of a text format, gathered one by one into batches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from akidb.ingest.batch import Batch, Reject
from akidb.ingest.checks import id_fault


class Rows:
    """Good rows and rejects since the last batch. `dim` None: the first vector tells."""

    def __init__(self, dim: int | None) -> None:
        self._dim = dim
        self._clear()

    def _clear(self) -> None:
        self._ids: list[str] = []
        self._vectors: list[Sequence[float]] = []
        self._payloads: list[bytes | None] = []
        self._lines: list[int] = []
        self._rejects: list[Reject] = []

    def __len__(self) -> int:
        return len(self._ids) + len(self._rejects)

    def add(self, line: int, id: object, vector: Sequence[float], payload: bytes | None) -> None:
        fault = id_fault(id)
        if fault is None and not vector:
            fault = "the vector is empty"
        if fault is None and self._dim is None:
            self._dim = len(vector)
        if fault is None and len(vector) != self._dim:
            fault = f"the vector has {len(vector)} dimensions, expected {self._dim}"
        if fault is not None:
            self.refuse(line, fault)
            return
        self._ids.append(str(id))
        self._vectors.append(vector)
        self._payloads.append(payload)
        self._lines.append(line)

    def refuse(self, line: int, reason: str) -> None:
        self._rejects.append(Reject(line, reason))

    def batch(self, end: int) -> Batch:
        """What was gathered; empties this."""
        with np.errstate(over="ignore"):  # a number beyond float32 becomes infinite, and a reject later
            vectors = np.array(self._vectors, np.float32).reshape(len(self._vectors), self._dim or 0)
        made = Batch(self._ids, vectors, self._payloads, self._lines, end, self._rejects)
        self._clear()
        return made
