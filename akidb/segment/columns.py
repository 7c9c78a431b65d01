"""What a search part offers, whether it lies in a file or in memory: the same columns, addressed by row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from akidb.types import VectorArray

if TYPE_CHECKING:
    from akidb.filter import FieldSource
    from akidb.index import GraphIndex

Rows: TypeAlias = npt.NDArray[np.int64]
Mask: TypeAlias = npt.NDArray[np.bool_]


class Columns(Protocol):
    """Rows 0 to `rows` - 1, immutable and safe to read from any thread. A row is one version of one point.

    `live` marks the rows that were the newest of their point when the columns were made; None means all of them. A
    segment file cannot know what happened later, so its own `live` is None and the mask comes from its `Part`.
    """

    def check(self) -> None:
        """Raises CorruptionError where the bytes are known to be damaged: nothing else may be asked then."""
        ...

    @property
    def lost_ids(self) -> bool:
        """Whether the damage is such that even the number of live rows is not known."""
        ...

    @property
    def rows(self) -> int: ...

    @property
    def live(self) -> Mask | None:
        """bool (rows,), or None when all rows are live."""
        ...

    @property
    def vectors(self) -> VectorArray:
        """float32 (rows, dim), C order, as they were sent."""
        ...

    @property
    def inverse_norms(self) -> VectorArray | None:
        """float32 (rows,) under the cosine metric, else None."""
        ...

    @property
    def lsns(self) -> npt.NDArray[np.uint64]:
        """uint64 (rows,): the slot that wrote each row."""
        ...

    @property
    def fields(self) -> FieldSource:
        """The payload fields' index; its rows are these rows."""
        ...

    @property
    def graph(self) -> GraphIndex | None:
        """The graph over `vectors`, or None when there is none: then search scans."""
        ...

    def find(self, ids: Sequence[str]) -> Rows:
        """int64 (len(ids),): the row of each id, -1 where the id is not here."""
        ...

    def id_at(self, rows: npt.ArrayLike) -> list[str]:
        """The ids of `rows`, in their order."""
        ...

    def payloads(self, rows: npt.ArrayLike) -> list[bytes | None]:
        """The payloads' JSON text of `rows`, in their order."""
        ...

    def following(self, after: str | None, limit: int, mask: Mask | None) -> Rows:
        """The first `limit` rows in id order (code points) after the id `after`, of those in `mask` (None: all)."""
        ...
