"""From an RFC 9457 problem back to the error that the server raised."""

from __future__ import annotations

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


class _Problem(msgspec.Struct):
    title: str = ""
    detail: str = ""
    code: str | None = None
    errors: list[_Entry] = []
    limit_bytes: int | None = None


def error_of(status: int, body: bytes, *, call: str, retry_after: str | None) -> AkiDBError:
    """The error a refusal stands for: its kind by code and status, its message and places from the body.

    A body that is no problem document (a proxy's page) still gives the kind of its status, naming `call`.
    """
    try:
        problem = msgspec.json.decode(body, type=_Problem)
    except msgspec.DecodeError:
        problem = _Problem()
    message = problem.detail or problem.title or f"{call} was answered with status {status}"
    kind = _BY_CODE.get(problem.code or "") or _BY_STATUS.get(status, AkiDBError)
    faults = [Fault(tuple(entry.loc), entry.msg) for entry in problem.errors]
    if kind is InvalidInputError:
        return InvalidInputError(message, code=problem.code, faults=faults, limit_bytes=problem.limit_bytes)
    if kind is UnavailableError:
        return UnavailableError(message, code=problem.code, retry_after_secs=_seconds(retry_after))
    return kind(message, code=problem.code, faults=faults)


def _seconds(retry_after: str | None) -> float:
    # The header may also hold a date, which nothing of ours sends.
    try:
        return max(float(retry_after or ""), 0.0)
    except ValueError:
        return RETRY_AFTER_SECS_DEFAULT
