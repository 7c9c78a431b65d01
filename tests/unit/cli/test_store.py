"""akidb store check and gc: what they print and how they exit."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from uuid import uuid4

import pytest
from click.testing import CliRunner, Result

import akidb
from akidb.cli import store as module
from akidb.cli.akidb import main
from akidb.config import Settings
from akidb.database import Database
from akidb.manifest import object_key
from akidb.storage import open_location
from akidb.storage.conformance import RULES
from akidb.storage.memory import MemoryStore
from akidb.storage.object_store import Body, Reply
from akidb.types import CollectionSpec, Metric
from tests.servers import free_port


def _run(*arguments: str, **variables: str) -> Result:
    clean = dict.fromkeys(name for name in os.environ if name.startswith("AKIDB_"))
    return CliRunner().invoke(main, ["store", "check", "--rounds", "1", *arguments], env=clean | variables)


def _collected(*arguments: str) -> Result:
    clean = dict.fromkeys(name for name in os.environ if name.startswith("AKIDB_"))
    return CliRunner().invoke(main, ["store", "gc", *arguments], env=clean)


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
        database.create_collection("wide", 2, shard_count=2)
    ran = _collected("--store", where)
    nothing = "deleted 0 objects, 0 bytes"
    told = [f"store: {where}", f"books: {nothing}", f"wide, shard 0: {nothing}", f"wide, shard 1: {nothing}"]
    assert (ran.exit_code, ran.output.splitlines()) == (0, told)


def test_gc_tells_that_a_round_of_a_bucket_is_not_due(monkeypatch: pytest.MonkeyPatch) -> None:
    class Bucket(MemoryStore):
        can_delete = False

        async def close(self) -> None: ...

    store = Bucket()

    async def fill() -> None:
        database = await Database.open(store, Settings())
        await database.create_collection(CollectionSpec("books", 2, Metric.COSINE))
        await database.close()

    asyncio.run(fill())
    monkeypatch.setattr(module, "open_location", lambda where, settings: store)
    assert "books: deleted 0 objects, 0 bytes" in _collected("--store", ":memory:").output  # the first is due at once
    ran = _collected("--store", ":memory:")
    assert (ran.exit_code, ran.output.splitlines()[1:]) == (0, ["books: not due for 360 min, see --now"])
    assert "books: deleted 0 objects, 0 bytes" in _collected("--store", ":memory:", "--now").output

    async def leave() -> None:
        heads = [info.key async for info in store.list_from("") if info.key.endswith("/head")]
        await store.put(object_key(heads[0].removesuffix("/head"), "seg", 2, uuid4()), bytes(1000))

    asyncio.run(leave())
    told = [_collected("--store", ":memory:", "--now").output.splitlines()[1] for _ in range(2)]
    assert told[0] == "books: deleted 0 objects, 0 bytes; too young yet: 1 objects, 1,000 bytes"
    assert told[1] == "books: deleted 1 objects, 1,000 bytes"


def test_gc_of_no_store_fails_and_makes_none(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("x")
    for where in (tmp_path, tmp_path / "mistyped"):
        ran = _collected("--store", str(where))
        assert ran.exit_code == module.EXIT_NOT_ASKED
        assert str(where) in ran.output
    assert [path.name for path in tmp_path.iterdir()] == ["other"]
