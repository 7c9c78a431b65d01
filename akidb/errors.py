"""Every error AkiDB raises on purpose.

A new kind exists only where a caller would act differently; what differs in detail is the `code`, a stable word that
programs may compare (the message may change, the code may not). The REST layer maps each kind to one status.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """One place in the input that was refused: `loc` is the path to it, such as ("vectors", 3, "vector")."""

    loc: tuple[str | int, ...]
    msg: str


class AkiDBError(Exception):
    """Root of all. `retryable` says whether the same call may succeed later without being changed; `faults` are the
    places in the input that led to it, if any."""

    code = "internal_error"
    retryable = False

    def __init__(self, message: str, *, code: str | None = None, faults: Sequence[Fault] = ()) -> None:
        super().__init__(message)
        self.faults = tuple(faults)
        if code is not None:
            self.code = code


class InvalidInputError(AkiDBError, ValueError):
    """The caller's values were refused and nothing was changed (REST: 422, or 400 where the JSON itself is broken).

    `limit_bytes` is how much may be sent at a time, where that was the reason.
    """

    code = "invalid_input"

    def __init__(
        self, message: str, *, code: str | None = None, faults: Sequence[Fault] = (), limit_bytes: int | None = None
    ) -> None:
        super().__init__(message, code=code, faults=faults)
        self.limit_bytes = limit_bytes


def relocated(
    error: InvalidInputError, prefix: tuple[str | int, ...], becomes: tuple[str | int, ...]
) -> InvalidInputError:
    """The same refusal, with places told as they are in what the caller gave instead of in the engine's arguments."""
    for fault in error.faults:
        if fault.loc[: len(prefix)] == prefix:
            loc = becomes + fault.loc[len(prefix) :]
            message = f"{'.'.join(map(str, loc))}: {fault.msg}" if loc else fault.msg
            return InvalidInputError(message, code=error.code, faults=[Fault(loc, fault.msg)])
    return error


class NotFoundError(AkiDBError, LookupError):
    """The named collection or point does not exist (REST: 404)."""

    code = "not_found"


class ConflictError(AkiDBError):
    """What was to be created exists already (REST: 409), or a point has another version than the caller named (REST:
    412). Nothing was changed."""

    code = "conflict"


class PartialWriteError(AkiDBError):
    """The parts of a write, one for each shard, ended differently (REST: the gravest status of those that failed).

    `failures` says why by the number of the shard, `written` at which log position the others are. Sent again under the
    same idempotency key, what was written is not written twice. `retryable` if none of the failures is for good.
    """

    code = "partially_written"

    def __init__(
        self,
        failures: Mapping[int, AkiDBError],
        written: Mapping[int, int],
        message: str | None = None,
        *,
        told: str = "write their part of the batch",
    ) -> None:
        why = "; ".join(f"shard {number}: {error}" for number, error in sorted(failures.items()))
        why = f"{len(failures)} of {len(failures) + len(written)} shards did not {told}: {why}"
        faults = [fault for _, error in sorted(failures.items()) for fault in error.faults]
        super().__init__(message or why, faults=faults)
        self.failures, self.written = dict(failures), dict(written)
        self.retryable = all(error.retryable for error in failures.values())


class DeadlineExceededError(AkiDBError, TimeoutError):
    """Time ran out (REST: 504). With code `outcome_unknown` a write may or may not have happened; read to find out."""

    code = "deadline_exceeded"
    retryable = True


class UnavailableError(AkiDBError):
    """The store is away or this node is overloaded (REST: 503 with Retry-After)."""

    code = "storage_unavailable"
    retryable = True

    def __init__(self, message: str, *, code: str | None = None, retry_after_secs: float = 1.0) -> None:
        super().__init__(message, code=code)
        self.retry_after_secs = retry_after_secs


class StorageFullError(AkiDBError):
    """The disk or the bucket's quota is full: nothing was written, reads go on (REST: 507)."""

    code = "storage_full"


class CorruptionError(AkiDBError):
    """Bytes in the store fail their checks (REST: 503 `data_corruption`).

    `key` is the object's, which the message begins with; None where it is not known or the bytes are of no object.
    """

    code = "data_corruption"

    def __init__(
        self, message: str, *, key: str | None = None, code: str | None = None, faults: Sequence[Fault] = ()
    ) -> None:
        super().__init__(message if key is None else f"object {key}: {message}", code=code, faults=faults)
        self.key = key


class ReadOnlyError(AkiDBError):
    """A write through a handle that was opened read-only."""

    code = "read_only"


class ConfigurationError(AkiDBError):
    """A setting is unknown, of the wrong type or out of range; or the store refuses the conditions AkiDB needs."""

    code = "configuration"
