"""The table of codes against the source: a code that is raised is explained, and one that is explained is raised."""

import re
from pathlib import Path

import akidb
from akidb.api.app import ROUTES
from akidb.api.codes import CODES
from akidb.api.errors import STATUS_OF_CODE, STATUS_OF_KIND

DOCUMENT = Path(__file__).parents[3] / "docs/rest.md"
ROOT = Path(akidb.__file__).parent
ENGINE = ("api", "collection", "database", "filter", "manifest", "query", "segment", "storage", "wal")


def raised_in(folder: Path) -> set[str]:
    found: set[str] = set()
    for file in folder.rglob("*.py"):
        text = file.read_text("utf-8")
        found.update(re.findall(r'\bcode="([a-z_]+)"', text))
        found.update(re.findall(r'\brefuse\(\s*"([a-z_]+)"', text))
    return found


def test_every_code_that_a_request_can_meet_is_explained():
    raised = set().union(*(raised_in(ROOT / folder) for folder in ENGINE))
    # Refusals of Python arguments, of our own keys and at the start, which no request can bring about.
    elsewhere = {"count_mismatch", "invalid_distance", "invalid_limit", "store_not_found"}
    elsewhere |= {"bad_key", "bad_location", "bad_range", "no_conditional_writes", "not_a_store"}
    assert raised - set(CODES) - elsewhere == set()


def test_every_explained_code_is_somewhere_in_the_source():
    source = "".join(file.read_text("utf-8") for file in ROOT.rglob("*.py") if file.name != "codes.py")
    assert {code for code in CODES if f'"{code}"' not in source} == set()


def test_explanations_are_sentences():
    assert all(text.endswith(".") for text in CODES.values())


def test_the_document_holds_the_table_as_it_is():
    rows = [f"| `{code}` | {text} |" for code, text in CODES.items()]
    assert DOCUMENT.read_text("utf-8").endswith("\n".join(["| code | meaning |", "|---|---|", *rows]) + "\n")


def test_the_document_names_every_route_and_no_other():
    named = set(re.findall(r"`((?:GET|POST|PATCH|DELETE) /[^`?]*)`", DOCUMENT.read_text("utf-8")))
    assert named == {f"{route.method} {route.path}" for route in ROUTES}


def test_the_document_names_every_status():
    statuses = {status for _, status in STATUS_OF_KIND} | set(STATUS_OF_CODE.values()) | {405, 500}
    statuses -= {403}  # akidb-api never opens its store read-only
    listed = {int(status) for status in re.findall(r"^\| (\d{3}) \|", DOCUMENT.read_text("utf-8"), re.MULTILINE)}
    assert listed == statuses
