"""akidb store check: what it prints and how it exits."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import akidb
from akidb.cli import store as module
from akidb.cli.akidb import main
from akidb.config import Settings
from akidb.storage import open_location
from akidb.storage.conformance import RULES
from akidb.storage.memory import MemoryStore
from akidb.storage.object_store import Body, Reply
from tests.servers import free_port


def _run(*arguments: str, **variables: str) -> Result:
    clean = dict.fromkeys(name for name in os.environ if name.startswith("AKIDB_"))
    return CliRunner().invoke(main, ["store", "check", "--rounds", "1", *arguments], env=clean | variables)


class _Careless(MemoryStore):
    async def put_if_absent(self, key: str, body: Body) -> Reply:
        return await self.put(key, body)


def test_a_folder_keeps_every_rule_and_can_be_used_afterwards(tmp_path: Path) -> None:
    ran = _run("--store", str(tmp_path / "data"))
    assert ran.exit_code == 0, ran.output
    assert ran.output.splitlines()[0] == f"store: {tmp_path / 'data'}"
    assert [line[:4] for line in ran.output.splitlines()[1:-1]] == ["ok  "] * len(RULES)
    open_location(tmp_path / "data", Settings())


def test_a_broken_rule_is_named_and_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "open_location", lambda where, settings: _Careless())
    ran = _run("--store", ":memory:")
    assert ran.exit_code == 1
    assert "FAIL create once: If-None-Match: * for an existing object answers ok" in ran.output
    assert "FAIL create race: in round 1 of 32 racers with 4 bytes each 32 won, expected 1" in ran.output
    assert "2 of 12 rules do not hold" in ran.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(("--store", "gs://b"), "is no store"), ((), "cannot be reached"), (("--config", "/no/such"), "cannot be read")],
)
def test_what_cannot_be_asked_is_no_verdict(arguments: tuple[str, ...], says: str) -> None:
    there = {"AKIDB_S3_ENDPOINT": f"http://127.0.0.1:{free_port()}", "AKIDB_STORAGE_RETRY_MAX_ATTEMPTS": "1"}
    keys = {"AKIDB_S3_ACCESS_KEY": "a", "AKIDB_S3_SECRET_KEY": "hush-hush"}
    ran = _run(*arguments, **there, **keys)
    assert ran.exit_code == 2
    assert says in ran.output
    assert "hush-hush" not in ran.output


def test_gc_tells_what_it_deleted(tmp_path: Path) -> None:
    where = str(tmp_path / "data")
    with akidb.connect(where) as database:
        database.create_collection("books", 2)
    clean = dict.fromkeys(name for name in os.environ if name.startswith("AKIDB_"))
    ran = CliRunner().invoke(main, ["store", "gc", "--store", where], env=clean)
    assert (ran.exit_code, ran.output.splitlines()) == (0, [f"store: {where}", "books: deleted 0 objects, 0 bytes"])


def test_gc_of_no_store_fails(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("x")
    clean = dict.fromkeys(name for name in os.environ if name.startswith("AKIDB_"))
    ran = CliRunner().invoke(main, ["store", "gc", "--store", str(tmp_path)], env=clean)
    assert ran.exit_code == module.EXIT_NOT_ASKED
    assert (tmp_path / "other").read_text() == "x"
