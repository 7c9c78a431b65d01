"""Rows of a text format, gathered one by one into batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from akidb.ingest.batch import Batch, Reject
from akidb.ingest.checks import id_fault


class Rows:
    """Good rows and rejects since the last batch. `dim` None: most vectors of the first batch tell."""

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
        fault = id_fault(id) or (None if vector else "the vector is empty")
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
        lengths = [len(vector) for vector in self._vectors]
        if self._dim is None and lengths:
            self._dim = Counter(lengths).most_common(1)[0][0]
        good = [row for row, length in enumerate(lengths) if length == self._dim]
        for row, length in enumerate(lengths):
            if length != self._dim:
                self.refuse(self._lines[row], f"the vector has {length} dimensions, expected {self._dim}")
        with np.errstate(over="ignore"):  # a number beyond float32 becomes infinite, and a reject later
            vectors = np.array([self._vectors[row] for row in good], np.float32).reshape(len(good), self._dim or 0)
        made = Batch(
            [self._ids[row] for row in good],
            vectors,
            [self._payloads[row] for row in good],
            [self._lines[row] for row in good],
            end,
            sorted(self._rejects, key=lambda reject: reject.line),
        )
        self._clear()
        return made
