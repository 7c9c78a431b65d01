"""What became of a request in each of the shards that it went to, told as one answer."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from akidb.collection.requests import Written
from akidb.errors import AkiDBError, NotFoundError, PartialWriteError

T = TypeVar("T")


async def together(work: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """The results of all, which run side by side; the first error is raised and the others go on unheard."""
    if len(work) == 1:  # a task would cost a turn of the event loop, on every read of most collections
        return [await work[0]]
    return list(await asyncio.gather(*work))


async def write_all(work: Mapping[int, Coroutine[Any, Any, Written]]) -> Written:
    """Does the parts of one write, given by the number of their shard, side by side.

    Raises:
        NotFoundError: a shard is sealed: the collection was dropped, with what other shards may have taken before.
        PartialWriteError: some parts were written and others not, or they failed for different reasons.
        AkiDBError: why no part was written, or why that is not known of any.
    """
    if len(work) == 1:
        (only,) = work.values()
        return await only
    results = await asyncio.gather(*work.values(), return_exceptions=True)
    outcomes = dict(zip(work, results, strict=True))
    written = {number: each for number, each in outcomes.items() if isinstance(each, Written)}
    failures: dict[int, AkiDBError] = {}
    for number, each in outcomes.items():
        if isinstance(each, AkiDBError):
            failures[number] = each
        elif isinstance(each, BaseException):
            raise each
    if not failures:
        return Written(max(each.lsn for each in written.values()), sum(each.points for each in written.values()))
    for each in failures.values():
        if isinstance(each, NotFoundError) and each.code == "collection_not_found":
            raise each
    if written or len({each.code for each in failures.values()}) > 1:
        raise PartialWriteError(failures, {number: each.lsn for number, each in written.items()})
    first = next(iter(failures.values()))
    first.faults = tuple(fault for each in failures.values() for fault in each.faults)
    raise first
