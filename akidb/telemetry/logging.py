"""Log lines on stdout: one JSON object per line for machines, short text for a terminal; both with the request's id."""

from __future__ import annotations

import json
import logging
import sys
import time
from contextvars import ContextVar
from typing import Any, Literal, TextIO

TRACE = 5
"""Below DEBUG; `trace` is a word of RUST_LOG users."""

LEVELS = {
    "trace": TRACE,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}

request_id: ContextVar[str | None] = ContextVar("akidb_request_id", default=None)
"""The id of the request being served, for log lines and error documents."""

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def configure(level: str, shape: Literal["auto", "json", "text"], *, stream: TextIO | None = None) -> None:
    """Sends everything that is logged to `stream` (stdout), replacing what was configured before."""
    out = sys.stdout if stream is None else stream
    handler = logging.StreamHandler(out)
    as_text = shape == "text" or (shape == "auto" and out.isatty())
    handler.setFormatter(TextFormatter() if as_text else JsonFormatter())
    logging.addLevelName(TRACE, "TRACE")
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("akidb").setLevel(LEVELS[level])
    if LEVELS[level] <= logging.DEBUG:
        root.setLevel(LEVELS[level])
    # aiohttp tells of every request that is no HTTP with a traceback; any port scan would fill the log.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    # botocore's debug lines hold signed headers: never, at any level.
    for name in ("botocore", "aiobotocore", "urllib3"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _extras(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}


def _stamp(record: logging.LogRecord) -> str:
    """RFC 3339 in UTC with milliseconds."""
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{whole}.{int(record.msecs):03d}Z"


class JsonFormatter(logging.Formatter):
    """{"timestamp", "level", "logger", "message", "request_id"?, extras…, "exception"?}"""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "timestamp": _stamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        current = request_id.get()
        if current is not None:
            line["request_id"] = current
        line.update(_extras(record))
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class TextFormatter(logging.Formatter):
    """12:30:01.250 INFO  message  key=value request_id=…"""

    def format(self, record: logging.LogRecord) -> str:
        extras = _extras(record)
        current = request_id.get()
        if current is not None:
            extras["request_id"] = current
        tail = "".join(f" {key}={value}" for key, value in extras.items())
        # A line break in a message would let a client forge log lines.
        message = record.getMessage().replace("\n", "\\n").replace("\r", "\\r")
        line = f"{_stamp(record)[11:23]} {record.levelname:<7} {message}{' ' if tail else ''}{tail}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line
