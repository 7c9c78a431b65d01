"""What a search returns, and what every kind of index shares."""

from __future__ import annotations

from typing import NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt

from akidb.index.arguments import IdArray
from akidb.types import VectorArray


class SearchResult(NamedTuple):
    """ids int64 and distances float32 of shape (n, k), or (k,) for one query given as (dim,); nearest first.

    Smaller is nearer for every metric: 1 - cosine, squared L2, -dot, bits that differ. Where there are fewer than k,
    id -1 and distance +inf pad.
    """

    ids: IdArray
    distances: VectorArray


def is_single(queries: npt.ArrayLike) -> bool:
    return (queries.ndim if isinstance(queries, np.ndarray) else np.ndim(queries)) == 1


def ids_of_rows(ids: IdArray, rows: IdArray) -> IdArray:
    """The ids of row numbers, -1 staying -1."""
    return rows if len(ids) == 0 else np.where(rows >= 0, ids[rows], -1)


def refuse_pickle(index: object) -> NoReturn:
    way = "save(path), then load(path) or view(path)" if hasattr(index, "save") else "get(ids), and add to another"
    raise TypeError(f"{type(index).__name__} can't be pickled or copied: use {way}")
