"""Where ids lie among those of an index that does not change."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt

from akidb.errors import CorruptionError, InvalidInputError, NotFoundError
from akidb.index.arguments import Filter, IdArray, Mask, as_filter


class Places:
    """`ids`: int64 (n,), each once. Those that do not ascend are sorted at the first question, 16 bytes each."""

    def __init__(self, ids: IdArray) -> None:
        self._ids = ids

    @cached_property
    def _sorted(self) -> tuple[IdArray, npt.NDArray[np.intp] | None]:
        """The ids in ascending order, and the place of each; None where they lie so."""
        if (self._ids[1:] > self._ids[:-1]).all():
            return self._ids, None
        order = np.argsort(self._ids)
        return self._ids[order], order

    def of(self, wanted: IdArray, what: str = "") -> npt.NDArray[np.intp]:
        """The places of ids, (n,). Raises NotFoundError, which begins with `what`, for the first that is not there."""
        known, order = self._sorted
        places = np.searchsorted(known, wanted)
        found = places < len(known)
        found[found] = known[places[found]] == wanted[found]
        if not found.all():
            at = int(np.argmin(found))
            raise NotFoundError(f"{what}id {wanted[at]} at position {at} does not exist")
        return places if order is None else order[places]

    def has(self, id: int) -> bool:
        known, _ = self._sorted
        at = int(np.searchsorted(known, id))
        return at < len(known) and int(known[at]) == id

    def allowed(self, filter: Filter | None) -> Mask | None:
        """bool (n,): which places have an id that a user's filter allows; None without a filter.

        Raises NotFoundError for an allowed id that is not there, InvalidInputError for a mask that is shorter than ids
        reach, CorruptionError where the ids are those of a damaged file.
        """
        allowed_ids, mask = as_filter(filter)
        if allowed_ids is not None:
            allowed = np.zeros(len(self._ids), np.bool_)
            allowed[self.of(allowed_ids, "filter: ")] = True
            return allowed
        if mask is None:
            return None
        known, _ = self._sorted
        if len(known) and known[0] < 0:
            raise CorruptionError(f"the file holds id {known[0]}, which no index has")
        largest = int(known[-1]) if len(known) else -1
        if largest >= len(mask):
            raise InvalidInputError(
                f"filter is a mask over {len(mask)} ids, expected {largest + 1} or more: the index holds id {largest}"
            )
        return mask[self._ids]
