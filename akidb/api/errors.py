"""From an error to its RFC 9457 problem: one status per kind, one stable code per case."""

from __future__ import annotations

import http
import logging
import math

import msgspec
from aiohttp import web

from akidb.api.schemas import Problem, ProblemError, ProblemShard
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
    relocated,
)

log = logging.getLogger("akidb.api")

CONTENT_TYPE = "application/problem+json"

SERVER = "AkiDB"
"""The Server header: aiohttp would tell its own and Python's versions."""

STATUS_OF_KIND: tuple[tuple[type[AkiDBError], int], ...] = (
    (InvalidInputError, 422),
    (NotFoundError, 404),
    (ConflictError, 409),
    (DeadlineExceededError, 504),
    (UnavailableError, 503),
    (StorageFullError, 507),
    (CorruptionError, 503),
    (ReadOnlyError, 403),
    (ConfigurationError, 503),
)
STATUS_OF_CODE = {
    "malformed_json": 400,
    "http_error": 400,
    "unauthorized": 401,
    "request_timeout": 408,
    "version_mismatch": 412,
    "body_too_large": 413,
    "unsupported_media_type": 415,
}
"""Codes whose status differs from their kind's."""

GRAVEST_FIRST = (504, 503, 507)
"""Of parts of a batch that failed for several reasons: not known, for now, for want of room; else the first."""

CODES_OF_STATUS = {404: "route_not_found", 405: "method_not_allowed", 413: "body_too_large"}
"""Codes of what aiohttp itself refuses."""

INTERNAL = "Something went wrong inside AkiDB; the log has the details under this request_id."


def status_of(error: AkiDBError) -> int:
    """The HTTP status of an error."""
    if isinstance(error, PartialWriteError):
        statuses = [status_of(failure) for _, failure in sorted(error.failures.items())]
        return next((status for status in GRAVEST_FIRST if status in statuses), statuses[0])
    if error.code in STATUS_OF_CODE:
        return STATUS_OF_CODE[error.code]
    return next((status for kind, status in STATUS_OF_KIND if isinstance(error, kind)), 500)


def response(error: BaseException, *, instance: str, request_id: str) -> web.Response:
    """The problem document of any exception that left a handler. What nobody foresaw is logged and told as 500."""
    headers: dict[str, str] = {}
    faults: tuple[Fault, ...] = ()
    if isinstance(error, web.HTTPException):
        status, code, detail = error.status, CODES_OF_STATUS.get(error.status, "http_error"), _http_detail(error)
        headers = {name: value for name, value in error.headers.items() if name == "Allow"}
    elif isinstance(error, AkiDBError) and status_of(error) != 500:
        if isinstance(error, InvalidInputError):
            error = relocated(error, ("idempotency_key",), ("Idempotency-Key",))
        status, code, detail = status_of(error), error.code, str(error)
        headers = _headers(error)
        faults = error.faults
        if status == 503 and not isinstance(error, UnavailableError | PartialWriteError):
            log.error("request failed: %s", error)
    else:
        status, code, detail = 500, "internal_error", INTERNAL
        log.error("request failed unexpectedly", exc_info=error)
    problem = Problem(
        type=f"/docs#{code}",
        title=http.HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        instance=instance,
        code=code,
        request_id=request_id,
        errors=[ProblemError(list(fault.loc), fault.msg) for fault in faults] or msgspec.UNSET,
        limit_bytes=getattr(error, "limit_bytes", None) or msgspec.UNSET,
        shards=_shards(error) if isinstance(error, PartialWriteError) else msgspec.UNSET,
    )
    return web.Response(body=msgspec.json.encode(problem), status=status, content_type=CONTENT_TYPE, headers=headers)


def _shards(error: PartialWriteError) -> list[ProblemShard]:
    parts = [ProblemShard(number, 200, lsn=lsn) for number, lsn in error.written.items()]
    for number, failure in error.failures.items():
        parts.append(ProblemShard(number, status_of(failure), code=failure.code, detail=str(failure)))
    return sorted(parts, key=lambda part: part.shard)


def _headers(error: AkiDBError) -> dict[str, str]:
    if isinstance(error, PartialWriteError):
        # Of the parts that may be tried again at once the longest pause is what a client of all of them needs.
        pauses = [
            failure.retry_after_secs for failure in error.failures.values() if isinstance(failure, UnavailableError)
        ]
        return {"Retry-After": str(max(1, math.ceil(max(pauses))))} if pauses else {}
    if isinstance(error, UnavailableError):
        # RFC 9110: whole seconds, and 0 would ask for a retry at once.
        return {"Retry-After": str(max(1, math.ceil(error.retry_after_secs)))}
    if isinstance(error, CorruptionError | ConfigurationError):
        return {"Retry-After": "60"}
    if error.code == "unauthorized":
        return {"WWW-Authenticate": 'Bearer realm="AkiDB"'}
    return {}


def _http_detail(error: web.HTTPException) -> str:
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return error.text or "the body is too large"
    if isinstance(error, web.HTTPMethodNotAllowed):
        return f"{error.method} is not allowed here, expected {', '.join(sorted(error.allowed_methods))}"
    if error.status == 404:
        return "there is no such route; /docs lists them"
    return error.reason


def refuse(code: str, loc: tuple[str | int, ...], msg: str) -> InvalidInputError:
    """A refusal of one place in the request."""
    return InvalidInputError(f"{'.'.join(map(str, loc))}: {msg}" if loc else msg, code=code, faults=[Fault(loc, msg)])
