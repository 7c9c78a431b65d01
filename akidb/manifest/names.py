"""Keys of the objects that a HEAD names: the garbage epoch that their makers knew of stands in each."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from uuid import UUID, uuid4

from akidb.errors import CorruptionError
from akidb.types import Lsn

SEGMENTS, DELETES, REQUESTS, MANIFESTS = FOLDERS = ("seg", "del", "req", "man")
"""Folders of immutable objects below a shard's prefix."""

_OBJECT = re.compile(rf"/(?:{'|'.join(FOLDERS)})/([0-9]+)-[0-9a-f]{{32}}\Z")

EPOCHS_OPEN = 1
"""By how many epochs HEAD may be ahead of the key of an object that it is to name for the first time. Collectors delete
only what is older still, so nothing is named that one of them may have seen without a name."""


def object_key(prefix: str, folder: str, epoch: int, uuid: UUID) -> str:
    return f"{prefix}/{folder}/{epoch}-{uuid.hex}"


def is_object(key: str) -> bool:
    """Whether `object_key` makes such a key."""
    return _OBJECT.search(key) is not None


def epoch_of(key: str) -> int:
    """The epoch in the key of an object. Raises CorruptionError for a key that no AkiDB makes."""
    named = _OBJECT.search(key)
    if named is None:
        raise CorruptionError("AkiDB did not put it there: its name is not an epoch and a uuid", key=key)
    return int(named[1])


def part_of(whole: UUID) -> UUID:
    """A new uuid for a part of `whole` in one shard: the parts have the first half in common."""
    return UUID(bytes=whole.bytes[:8] + uuid4().bytes[8:])


def before_revert(lsn: Lsn, batch: UUID, shards: int) -> str:
    """Name of the snapshot that keeps what the revert in slot `lsn` by `batch` found; several shards have only the
    batch in common."""
    return f"{AUTOMATIC}{lsn}" if shards == 1 else f"{AUTOMATIC}{batch.hex[:16]}"


AUTOMATIC = "before-revert-"
"""Names of snapshots of what reverts found begin so, and no others."""

REGULAR = re.compile(r"at-\d{8}T\d{6}Z")
"""Names of snapshots that are made at regular times, and no others."""


def regular(now: float) -> str:
    """Name of the snapshot that is made at this time of the store's clock, in seconds."""
    return datetime.fromtimestamp(now, UTC).strftime("at-%Y%m%dT%H%M%SZ")
