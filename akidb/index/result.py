"""What a search returns, and what every kind of index shares."""

from __future__ import annotations

from typing import NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt

from akidb.errors import InvalidInputError, NotFoundError
from akidb.index.arguments import Filter, IdArray, Mask, as_filter
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


def allowed_rows(ids: IdArray, filter: Filter | None) -> Mask | None:
    """bool (n,): which rows have an id that a user's filter allows; None without a filter.

    Raises NotFoundError for an allowed id that no row has, InvalidInputError for a mask that is shorter than ids reach.
    """
    allowed_ids, mask = as_filter(filter)
    if allowed_ids is not None:
        allowed = np.isin(ids, allowed_ids)
        if np.count_nonzero(allowed) < len(allowed_ids):  # an id that is named twice, or is not there
            known = np.isin(allowed_ids, ids)
            if not known.all():
                at = int(np.argmin(known))
                raise NotFoundError(f"filter: id {allowed_ids[at]} at position {at} does not exist")
        return allowed
    if mask is None:
        return None
    largest = int(ids.max(initial=-1))
    if largest >= len(mask):
        raise InvalidInputError(
            f"filter is a mask over {len(mask)} ids, expected {largest + 1} or more: the index holds id {largest}"
        )
    return mask[ids]


def ids_of_rows(ids: IdArray, rows: IdArray) -> IdArray:
    """The ids of row numbers, -1 staying -1."""
    return rows if len(ids) == 0 else np.where(rows >= 0, ids[rows], -1)


def refuse_pickle(index: object) -> NoReturn:
    way = "save(path), then load(path) or view(path)" if hasattr(index, "save") else "get(ids), and add to another"
    raise TypeError(f"{type(index).__name__} can't be pickled or copied: use {way}")
