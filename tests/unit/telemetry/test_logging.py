import io
import json
import logging

import pytest

from akidb.telemetry.logging import configure, request_id


@pytest.fixture
def stream():
    return io.StringIO()


def test_json_lines_carry_level_message_extras_and_request_id(stream):
    configure("info", "json", stream=stream)
    token = request_id.set("r-1")
    logging.getLogger("akidb.api").info("served %d", 3, extra={"endpoint": "/search"})
    request_id.reset(token)
    line = json.loads(stream.getvalue())
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "level": "info",
        "logger": "akidb.api",
        "message": "served 3",
        "request_id": "r-1",
        "endpoint": "/search",
    }


def test_auto_is_json_where_no_terminal_is(stream):
    configure("info", "auto", stream=stream)
    logging.getLogger("akidb").info("hello")
    assert json.loads(stream.getvalue())["message"] == "hello"


def test_exceptions_are_one_json_line(stream):
    configure("info", "json", stream=stream)
    try:
        raise ValueError("no")
    except ValueError:
        logging.getLogger("akidb").exception("failed")
    (line,) = stream.getvalue().splitlines()
    assert "ValueError: no" in json.loads(line)["exception"]


def test_text_cannot_be_forged_by_a_line_break(stream):
    configure("info", "text", stream=stream)
    logging.getLogger("akidb").warning("name is %s", "a\n12:00 INFO forged")
    assert len(stream.getvalue().splitlines()) == 1
    assert "WARNING name is a\\n12:00 INFO forged" in stream.getvalue()


@pytest.mark.parametrize(
    ("level", "shown"), [("error", []), ("warn", ["w"]), ("info", ["w", "i"]), ("debug", ["w", "i", "d"])]
)
def test_levels(stream, level, shown):
    configure(level, "json", stream=stream)
    log = logging.getLogger("akidb.x")
    log.warning("w")
    log.info("i")
    log.debug("d")
    assert [json.loads(line)["message"] for line in stream.getvalue().splitlines()] == shown


def test_signed_headers_of_the_s3_library_are_never_logged(stream):
    configure("trace", "json", stream=stream)
    logging.getLogger("botocore.auth").debug("Authorization: hush")
    assert stream.getvalue() == ""
