"""From an RFC 9457 problem back to the error that the server raised."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from akidb.errors import (
    AkiDBError,
    ConfigurationError,
    ConflictError,
    CorruptionError,
    DeadlineExceededError,
    Fault,
    InvalidInputError,
    NotFoundError,
    PartialWriteError,
    ReadOnlyError,
    StorageFullError,
    UnavailableError,
)

RETRY_AFTER_SECS_DEFAULT = 1.0

_BY_CODE: dict[str, type[AkiDBError]] = {kind.code: kind for kind in (CorruptionError, ReadOnlyError)}
_BY_STATUS: dict[int, type[AkiDBError]] = {
    400: InvalidInputError,
    401: ConfigurationError,
    403: ConfigurationError,
    404: NotFoundError,
    408: UnavailableError,
    409: ConflictError,
    412: ConflictError,
    413: InvalidInputError,
    415: InvalidInputError,
    422: InvalidInputError,
    429: UnavailableError,
    502: UnavailableError,
    503: UnavailableError,
    504: DeadlineExceededError,
    507: StorageFullError,
}


class _Entry(msgspec.Struct):
    msg: str = ""
    loc: list[str | int] = []


class _Shard(msgspec.Struct):
    shard: int
    status: int
    lsn: int = 0
    code: str | None = None
    detail: str = ""


class _Problem(msgspec.Struct):
    title: str = ""
    detail: str = ""
    code: str | None = None
    errors: list[_Entry] = []
    limit_bytes: int | None = None
    shards: list[_Shard] = []


def error_of(status: int, body: bytes, *, call: str, retry_after: str | None) -> AkiDBError:
    """The error a refusal stands for: its kind by code and status, its message and places from the body.

    A body that is no problem document (a proxy's page) still gives the kind of its status, naming `call`.
    """
    try:
        problem = msgspec.json.decode(body, type=_Problem)
    except msgspec.DecodeError:
        problem = _Problem()
    message = problem.detail or problem.title or f"{call} was answered with status {status}"
    faults = [Fault(tuple(entry.loc), entry.msg) for entry in problem.errors]
    if problem.code == PartialWriteError.code:
        return _partial(problem.shards, message, faults, retry_after)
    kind = _kind(status, problem.code)
    if kind is InvalidInputError:
        return InvalidInputError(message, code=problem.code, faults=faults, limit_bytes=problem.limit_bytes)
    if kind is UnavailableError:
        return UnavailableError(message, code=problem.code, retry_after_secs=_seconds(retry_after))
    return kind(message, code=problem.code, faults=faults)


def code_of(body: bytes) -> str | None:
    """The code that a problem document tells; None where it tells none, or is none."""
    try:
        return msgspec.json.decode(body, type=_Problem).code
    except msgspec.DecodeError:
        return None


def _kind(status: int, code: str | None) -> type[AkiDBError]:
    return _BY_CODE.get(code or "") or _BY_STATUS.get(status, AkiDBError)


def _partial(
    shards: Sequence[_Shard], message: str, faults: Sequence[Fault], retry_after: str | None
) -> PartialWriteError:
    failures: dict[int, AkiDBError] = {}
    for part in shards:
        if part.status < 300:
            continue
        kind = _kind(part.status, part.code)
        if kind is UnavailableError:
            pause = _seconds(retry_after)
            failures[part.shard] = UnavailableError(part.detail, code=part.code, retry_after_secs=pause)
        else:
            failures[part.shard] = kind(part.detail, code=part.code)
    written = {part.shard: part.lsn for part in shards if part.status < 300}
    partial = PartialWriteError(failures, written, message)
    partial.faults = tuple(faults)
    return partial


def _seconds(retry_after: str | None) -> float:
    # The header may also hold a date, which nothing of ours sends.
    try:
        return max(float(retry_after or ""), 0.0)
    except ValueError:
        return RETRY_AFTER_SECS_DEFAULT
