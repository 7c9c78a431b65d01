"""Rows that a collection would refuse, set aside before they take their whole batch with them."""

from __future__ import annotations

import numpy as np

from akidb.ingest.batch import Batch
from akidb.types import POINT_ID_BYTES_MAX, Metric


def id_fault(value: object) -> str | None:
    """Why this cannot be a point's id, or None."""
    if isinstance(value, int) and not isinstance(value, bool):
        return None
    if value is None or value == "":
        return "there is no id"
    if not isinstance(value, str):
        return f"the id is {type(value).__name__}, expected text or an integer"
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        return "the id is not UTF-8"
    return (
        None if size <= POINT_ID_BYTES_MAX else f"the id has {size} UTF-8 bytes, expected at most {POINT_ID_BYTES_MAX}"
    )


def storable(batch: Batch, metric: Metric) -> Batch:
    """The rows that a collection under `metric` takes, each id once.

    Rejected: values that are not finite in float32, and zero vectors under cosine. Of rows with the same id only the
    last is kept and the others are no rejects: file order wins.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.einsum("ij,ij->i", batch.vectors, batch.vectors)
    short = squares < metric.square_min
    bad = short | ~(squares <= metric.square_max)  # of NaN as well
    if bad.any():
        zero, unbounded = (
            "the vector is zero (or too short for float32), which has no direction to compare by cosine",
            "the vector holds a value that is not finite, or its square (or that of a distance) overflows float32",
        )
        batch = batch.without({int(row): zero if short[row] else unbounded for row in np.flatnonzero(bad)})
    last = {name: row for row, name in enumerate(batch.ids)}
    return batch if len(last) == len(batch.ids) else batch.only(sorted(last.values()))
