"""Batches that wait for a slot, and how they share one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from akidb.codec.frame import Buffer
from akidb.errors import DeadlineExceededError, UnavailableError
from akidb.telemetry.metrics import METRICS
from akidb.types import Lsn
from akidb.wal.record import Batch, Revert, Seal
from akidb.wal.slot import SLOT_BYTES_TARGET

GROUP_BATCHES_MAX = 1000
QUEUE_BYTES_MAX = 256 << 20


Check: TypeAlias = Callable[[], Awaitable[None] | None]
"""Raises what refuses a batch on the state as it is; what takes long it returns, to be awaited."""


@dataclass(eq=False, slots=True)
class Request:
    """One caller's batch on its way. `proposed` while some put may carry it to a slot that is not decided."""

    batch: Batch
    encoded: list[list[Buffer]]
    size: int
    deadline: float
    check: Check | None
    exact: bool
    done: asyncio.Future[Lsn]
    queued: bool = False
    proposed: bool = False
    abandoned: bool = False

    @property
    def ends_slot(self) -> bool:
        """Whether nothing may come after it in its slot: what came after a seal would be acknowledged and never
        applied, and nodes apply a slot that reverts in one piece."""
        return any(isinstance(operation, Seal | Revert) for operation in self.batch.operations)

    @property
    def ids(self) -> Iterator[str]:
        """The points that it writes."""
        return (id_ for operation in self.batch.operations for id_ in getattr(operation, "ids", ()))

    def settle(self, answer: Lsn | BaseException) -> None:
        """Answers the caller, if there still is one and it has no answer yet."""
        if self.abandoned or self.done.done():
            return
        if isinstance(answer, BaseException):
            self.done.set_exception(answer)
        else:
            self.done.set_result(answer)


@dataclass(eq=False, slots=True)
class Group:
    """Requests that share a slot. `ambiguous`: an answer about it was lost; `losses`: slots that others took;
    `current`: the state holds all that was acknowledged before the requests came."""

    requests: list[Request]
    current: bool = False
    ambiguous: bool = False
    losses: int = 0

    @property
    def size(self) -> int:
        return sum(request.size for request in self.requests)

    def mark(self, *, proposed: bool) -> None:
        for request in self.requests:
            request.proposed = proposed

    def lose(self) -> None:
        """Another's slot is where this group was put: nothing of it is in the log, so it may be put again."""
        self.losses += 1
        self.ambiguous = False
        self.mark(proposed=False)

    def settle(self, answer: Lsn | BaseException) -> None:
        for request in self.requests:
            request.settle(answer)


class Queue:
    """Requests in order of arrival. `behind_unknown` while they wait for a slot whose caller was told `unknown`;
    `refusal` is raised to all who come while the slot before them can't be decided."""

    def __init__(self) -> None:
        self.behind_unknown = False
        self.refusal: UnavailableError | None = None
        self.closed = False
        self._waiting: deque[Request] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Request]:
        return iter(self._waiting)

    def add(self, request: Request) -> None:
        """Raises UnavailableError for more than may wait: QUEUE_BYTES_MAX, but one group behind an unknown outcome,
        and nothing while there is a `refusal`."""
        if self.closed:
            raise UnavailableError("the log is being closed", code="closing")
        if self.refusal is not None:
            raise self.refusal
        limit = SLOT_BYTES_TARGET if self.behind_unknown else QUEUE_BYTES_MAX
        crowded = self.behind_unknown and len(self._waiting) >= GROUP_BATCHES_MAX
        if self._waiting and (crowded or self._bytes + request.size > limit):
            METRICS.wal_operations.labels("append", "shed").inc()
            raise UnavailableError(
                f"{len(self._waiting)} batches ({self._bytes:,} bytes) wait for the store already; nothing was written",
                code="overloaded",
            )
        self._waiting.append(request)
        self._bytes += request.size
        request.queued = True

    def refuse(self, refusal: UnavailableError) -> None:
        """Answers all who wait, and until `refusal` is taken back all who come, that the store is not asked now."""
        self.refusal = refusal
        while self._waiting:
            request = self._waiting.popleft()
            self._forget(request)
            request.settle(refusal)

    def discard(self, request: Request) -> None:
        """Takes a request out whose caller is gone, if no group has it yet."""
        if request.queued:
            self._waiting.remove(request)
            self._forget(request)

    def take(self) -> Group:
        """The next group: up to SLOT_BYTES_TARGET, unless the first request alone is larger.

        No point is written by two of them: what a check saw of a point is what its batch finds, and the LSN that is a
        point's version names one content. An exact request begins a group, so that nothing at all comes before it.
        """
        taken: list[Request] = []
        written: set[str] = set()
        size = 0
        while self._waiting and len(taken) < GROUP_BATCHES_MAX:
            request = self._waiting[0]
            if taken and (request.exact or size + request.size > SLOT_BYTES_TARGET):
                break
            if not written.isdisjoint(request.ids):
                break
            if len(self._waiting) > 1:
                written.update(request.ids)
            taken.append(self._waiting.popleft())
            self._forget(request)
            size += request.size
            if request.ends_slot:
                break
        return Group(taken)

    def _forget(self, request: Request) -> None:
        request.queued = False
        self._bytes -= request.size


def too_late() -> DeadlineExceededError:
    return DeadlineExceededError("the deadline passed before the write could begin; nothing was written")


def outcome_unknown() -> DeadlineExceededError:
    return DeadlineExceededError(
        "the store did not answer in time: the write may or may not have happened; read to find out",
        code="outcome_unknown",
    )
