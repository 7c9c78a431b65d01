"""What the databases and collections for asyncio share, whether they are in this process or on a server."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from akidb.errors import ConflictError, Fault, InvalidInputError, NotFoundError
from akidb.types import IndexParams, Metric

SEARCH_OPTIONS: Mapping[str, tuple[type | tuple[type, ...], str]] = {
    "filter": (object, "a filter"),  # judged by whoever parses it
    "ef_search": ((Integral, type(None)), "an integer"),
    "target_recall": ((Real, type(None)), "a number"),
    "exact": (bool, "True or False"),
    "with_vector": (bool, "True or False"),
    "with_payload": (bool, "True or False"),
    "score_threshold": ((Real, type(None)), "a number"),
}
"""Names, types and words for them of what `search` and `search_batch` take beside vector, top_k, timeout and
consistency."""


PAGE_MAX = 1000
"""Most points of one page of `scroll`, as REST has it."""


def refuse(loc: str, msg: str, code: str) -> InvalidInputError:
    return InvalidInputError(f"{loc}: {msg}", code=code, faults=[Fault((loc,), msg)])


def check_options(options: Mapping[str, Any], call: Callable[..., object]) -> None:
    """Raises InvalidInputError naming an option of a search that there is not, or that has a value of another type.
    `call` takes them beside keywords of its own.
    """
    for name, value in options.items():
        if name not in SEARCH_OPTIONS:
            own = [each.name for each in inspect.signature(call).parameters.values() if each.kind is each.KEYWORD_ONLY]
            known = ", ".join([*SEARCH_OPTIONS, *own])
            raise refuse(name, f"is no option of a search, expected {known}", "unknown_option")
        kind, words = SEARCH_OPTIONS[name]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool and kind is not object):
            raise refuse(name, f"is {value!r:.60}, expected {words}", "invalid_option")


def check_target(vector: object, id: object) -> None:
    """Raises InvalidInputError unless one of the two says what a search is to be near to."""
    if (vector is None) == (id is None):
        raise refuse("vector", "expected one of vector and id", "invalid_option")


def check_timeout(timeout_ms: float) -> None:
    """Raises InvalidInputError for what is no time."""
    if isinstance(timeout_ms, bool) or not isinstance(timeout_ms, Real) or not timeout_ms > 0:
        raise refuse("timeout_ms", f"is {timeout_ms!r:.60}, expected a number of milliseconds", "invalid_option")


def check_page(limit: int) -> None:
    """Raises InvalidInputError for a page of no points or of more than REST gives."""
    if isinstance(limit, bool) or not isinstance(limit, Integral) or not 1 <= limit <= PAGE_MAX:
        raise refuse("limit", f"is {limit!r:.60}, expected an integer from 1 to {PAGE_MAX}", "invalid_limit")


class _Collection(Protocol):
    @property
    def dim(self) -> int: ...

    @property
    def metric(self) -> Metric: ...


C = TypeVar("C", bound=_Collection)


class AsyncDatabase(ABC, Generic[C]):
    """Calls made of the others. Use it in an `async with` statement, or await `close`."""

    @abstractmethod
    async def create_collection(
        self,
        name: str,
        dim: int,
        *,
        metric: str | Metric = Metric.COSINE,
        index: IndexParams | Mapping[str, Any] | None = None,
        payload_schema: Mapping[str, Any] | None = None,
        shard_count: int = 1,
        idempotency_key: str | None = None,
    ) -> C:
        """A new collection of `dim`-dimensional vectors under "cosine", "euclidean" or "dot".

        Args:
            index: IndexParams, or what REST takes: {"type", "m", "ef_construction", "ef_search", "quantization"}, each
                optional.
            shard_count: 1 to 256 logs, over which the points are spread by their ids. Each commits for itself: a batch
                is all or nothing in each, not in all together.
            idempotency_key: a name for this request: sent again under it, whichever node it reaches, it is not done
                again, and answered as before.

        Raises:
            ConflictError: a collection of that name exists.
            InvalidInputError: bad name, dimension or index parameters.
        """

    @abstractmethod
    async def clone_collection(
        self, source: str, name: str, *, as_of: str | None = None, idempotency_key: str | None = None
    ) -> C:
        """A new collection `name` with the points, versions and index parameters of `source`; nothing is copied. From
        then on the two have nothing to do with each other: either may be written to and dropped.

        Args:
            as_of: a snapshot of `source`, or a time as of Consistency, whose points are taken instead of the present.
            idempotency_key: as of `create_collection`.

        Raises:
            ConflictError: a collection `name` exists; or `too_many_snapshots`: clones count as snapshots of `source`
                until they have objects of their own. Nothing was created.
            NotFoundError: there is no collection `source`, or no snapshot `as_of` of it.
            InvalidInputError: bad name.
        """

    @abstractmethod
    async def collection(self, name: str) -> C:
        """An existing collection. Raises NotFoundError."""

    @abstractmethod
    async def close(self) -> None:
        """Waits for writes under way and lets go of files and sockets. What was acknowledged is durable without it."""

    async def get_or_create_collection(
        self,
        name: str,
        dim: int,
        *,
        metric: str | Metric | None = None,
        index: IndexParams | Mapping[str, Any] | None = None,
        payload_schema: Mapping[str, Any] | None = None,
        shard_count: int = 1,
    ) -> C:
        """The collection of that name, made if need be; `metric` None: whatever it has, Cosine for a new one. `index`,
        `payload_schema` and `shard_count` are of a new one.

        Raises:
            ConflictError: it has another dimension or metric.
        """
        wanted = None if metric is None else Metric.parse(metric)
        try:
            found = await self.collection(name)
        except NotFoundError:
            try:
                return await self.create_collection(
                    name,
                    dim,
                    metric=wanted or Metric.COSINE,
                    index=index,
                    payload_schema=payload_schema,
                    shard_count=shard_count,
                )
            except ConflictError:  # somebody else made it between the two calls
                found = await self.collection(name)
        if (found.dim, found.metric) != (dim, wanted or found.metric):
            raise ConflictError(
                f"collection {name!r} exists with {found.dim} dimensions under {found.metric.value}, "
                f"asked for {dim} under {(wanted or found.metric).value}",
                code="collection_exists",
            )
        return found

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
