"""Where ids lie among those of an index that does not change."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from akidb import _native
from akidb.errors import CorruptionError, InvalidInputError, NotFoundError
from akidb.index.arguments import Filter, IdArray, Mask, as_filter


class Places:
    """`ids`: int64 (n,), each once. `rows` is the map of these, or of more of which they are the first; without one the
    first question by ids makes it, of 6 to 12 bytes an id.
    """

    def __init__(self, ids: IdArray, rows: _native.IdRows | None = None) -> None:
        self._ids = ids
        self._given = rows

    @cached_property
    def _rows(self) -> _native.IdRows:
        return self._given or _native.IdRows(self._ids)

    @cached_property
    def _ends(self) -> tuple[int, int]:
        """The least id and the largest, 0 and -1 where there are none."""
        return (int(self._ids.min()), int(self._ids.max())) if len(self._ids) else (0, -1)

    def of(self, wanted: IdArray, what: str = "") -> IdArray:
        """The places of ids, (n,). Raises NotFoundError, which begins with `what`, for the first that is not there."""
        places = self._rows.rows(wanted)
        known = self._hold(places)
        if not known.all():
            at = int(np.argmin(known))
            raise NotFoundError(f"{what}id {wanted[at]} at position {at} does not exist")
        return places

    def known(self, ids: IdArray) -> Mask:
        """bool (n,): which of the ids are there."""
        return self._hold(self._rows.rows(ids))

    def _hold(self, places: IdArray) -> Mask:
        return (places >= 0) & (places < len(self._ids))

    def has(self, id: int) -> bool:
        return 0 <= id <= np.iinfo(np.int64).max and bool(self.known(np.array([id], np.int64))[0])

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
        least, largest = self._ends
        if least < 0:
            raise CorruptionError(f"the file holds id {least}, which no index has")
        if largest >= len(mask):
            raise InvalidInputError(
                f"filter is a mask over {len(mask)} ids, expected {largest + 1} or more: the index holds id {largest}"
            )
        return mask[self._ids]
