"""A refusal comes back as the kind of error that the server raised."""

import json

import pytest

from akidb.client.problems import error_of
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


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "invalid_json", InvalidInputError),
        (401, "unauthorized", ConfigurationError),
        (403, "read_only", ReadOnlyError),
        (404, "collection_not_found", NotFoundError),
        (409, "collection_exists", ConflictError),
        (408, "request_timeout", UnavailableError),
        (413, "body_too_large", InvalidInputError),
        (422, "dimension_mismatch", InvalidInputError),
        (429, "overloaded", UnavailableError),
        (500, "internal_error", AkiDBError),
        (503, "storage_unavailable", UnavailableError),
        (503, "data_corruption", CorruptionError),
        (504, "outcome_unknown", DeadlineExceededError),
        (507, "storage_full", StorageFullError),
    ],
)
def test_kind_follows_code_then_status(status: int, code: str, kind: type[AkiDBError]) -> None:
    body = json.dumps({"title": "No", "detail": "why not", "status": status, "code": code}).encode()
    error = error_of(status, body, call="POST /x", retry_after=None)
    assert type(error) is kind
    assert (str(error), error.code) == ("why not", code)


def test_places_of_a_refusal_are_kept() -> None:
    body = json.dumps({"detail": "no", "errors": [{"loc": ["vectors", 3, "vector"], "msg": "is empty"}]}).encode()
    error = error_of(422, body, call="POST /x", retry_after=None)
    assert isinstance(error, InvalidInputError)
    assert error.faults == (Fault(("vectors", 3, "vector"), "is empty"),)


def test_retry_after_is_read_and_a_broken_one_is_a_second() -> None:
    for header, seconds in (("7", 7.0), ("0", 0.0), ("soon", 1.0), (None, 1.0), ("-3", 0.0)):
        error = error_of(503, b"", call="POST /x", retry_after=header)
        assert isinstance(error, UnavailableError)
        assert error.retry_after_secs == seconds


def test_a_proxys_page_still_names_the_call() -> None:
    error = error_of(502, b"<html>Bad Gateway</html>", call="POST http://db/x", retry_after=None)
    assert isinstance(error, UnavailableError)
    assert str(error) == "POST http://db/x was answered with status 502"
