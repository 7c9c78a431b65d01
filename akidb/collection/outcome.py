"""What became of a request in each of the shards that it went to, told as one answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from akidb.collection.requests import Written
from akidb.errors import AkiDBError, NotFoundError, PartialWriteError
from akidb.types import Lsn

T = TypeVar("T")


async def together(work: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """The results of all, which run side by side; the first error is raised and the others go on unheard."""
    if len(work) == 1:  # a task would cost a turn of the event loop, on every read of most collections
        return [await work[0]]
    return list(await asyncio.gather(*work))


async def write_all(work: Mapping[int, Coroutine[Any, Any, Written]]) -> Written:
    """Does the parts of one write, given by the number of their shard, side by side. Errors as of `in_each`."""
    written = await in_each(work, lambda each: each.lsn, "write their part of the batch")
    return Written(max(each.lsn for each in written.values()), sum(each.points for each in written.values()))


async def in_each(
    work: Mapping[int, Coroutine[Any, Any, T]],
    lsn_of: Callable[[T], Lsn],
    told: str,
    *,
    done: Mapping[int, T] | None = None,
) -> dict[int, T]:
    """Does the parts of one request, given by the number of their shard, side by side; returns them with those that are
    `done` already.

    Args:
        told: what a shard does, for the message about those that did not.

    Raises:
        NotFoundError: a shard is sealed: the collection was dropped, with what other shards may have taken before.
        PartialWriteError: some parts were done and others not, or they failed for different reasons.
        AkiDBError: why no part was done, or why that is not known of any.
    """
    if len(work) == 1 and not done:
        ((number, only),) = work.items()
        return {number: await only}
    results = await asyncio.gather(*work.values(), return_exceptions=True)
    outcomes, failures = dict(done or {}), dict[int, AkiDBError]()
    for number, each in zip(work, results, strict=True):
        if isinstance(each, AkiDBError):
            failures[number] = each
        elif isinstance(each, BaseException):
            raise each
        else:
            outcomes[number] = each
    if not failures:
        return outcomes
    for failure in failures.values():
        if isinstance(failure, NotFoundError) and failure.code == "collection_not_found":
            raise failure
    if outcomes or len({failure.code for failure in failures.values()}) > 1:
        raise PartialWriteError(failures, {number: lsn_of(each) for number, each in outcomes.items()}, told=told)
    first = next(iter(failures.values()))
    first.faults = tuple(fault for each in failures.values() for fault in each.faults)
    raise first
