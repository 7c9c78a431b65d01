"""A refusal comes back as the kind of error that the server raised."""

import json

import pytest

from akidb.api.errors import response, status_of
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
    PartialWriteError,
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


def test_what_became_of_each_part_of_a_batch_is_kept() -> None:
    failures: dict[int, AkiDBError] = {
        2: UnavailableError("the store is away", code="storage_unavailable", retry_after_secs=3),
        0: ConflictError("it is there", code="point_exists", faults=[Fault(("if_absent",), "point 'a' is there")]),
    }
    sent = PartialWriteError(failures, {1: 7})
    answer = response(sent, instance="/x", request_id="r")
    assert (answer.status, answer.headers["Retry-After"]) == (503, "3")
    assert isinstance(answer.body, bytes)
    error = error_of(answer.status, answer.body, call="POST /x", retry_after=answer.headers["Retry-After"])
    assert isinstance(error, PartialWriteError)
    assert (str(error), error.code, error.faults) == (str(sent), "partially_written", sent.faults)
    assert error.written == {1: 7}
    told = {number: (type(each), str(each), each.code) for number, each in error.failures.items()}
    assert told == {number: (type(each), str(each), each.code) for number, each in failures.items()}
    assert not error.retryable
    assert PartialWriteError({2: failures[2]}, {}).retryable


@pytest.mark.parametrize(
    ("failures", "status"),
    [
        ([ConflictError("", code="version_mismatch"), DeadlineExceededError("", code="outcome_unknown")], 504),
        ([StorageFullError(""), UnavailableError("")], 503),
        ([ConflictError("", code="version_mismatch"), StorageFullError("")], 507),
        ([ConflictError("", code="version_mismatch"), ConflictError("", code="point_exists")], 412),
    ],
)
def test_a_partial_write_has_the_gravest_status(failures: list[AkiDBError], status: int) -> None:
    assert status_of(PartialWriteError(dict(enumerate(failures)), {9: 1})) == status
