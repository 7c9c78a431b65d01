"""What one request asks of one shard, and the batch that does it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import uuid4

from akidb.collection.conditions import Conditions
from akidb.collection.requests import Request
from akidb.wal import Batch, Operation


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """Operations that are done as a whole, if the conditions hold, and once."""

    operations: Sequence[Operation]
    conditions: Conditions | None = None
    request: Request | None = None

    def batch(self) -> Batch:
        """The batch, under the request's uuid or a new one."""
        if self.request is None:
            return Batch(uuid4(), self.operations)
        return Batch(self.request.uuid, [self.request.once, *self.operations])
