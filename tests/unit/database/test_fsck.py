"""akidb fsck: a sound store is sound, also in use; what is damaged, exchanged or missing is named, whatever it is."""

from __future__ import annotations

import asyncio
import json
import os
import random
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
from click.testing import CliRunner, Result

from akidb.cli.akidb import main
from akidb.codec.frame import HEADER
from akidb.database import Database
from akidb.database.fsck import Fault, Fsck
from akidb.database.members import encode_node
from akidb.storage.held import Held, encode_lease
from akidb.storage.keys import WRITER_KEY
from akidb.storage.local import LocalStore
from akidb.storage.memory import MemoryStore
from akidb.types import CollectionSpec, IndexParams, Metric
from tests.unit.collection.faults import DIM, SETTINGS

SPEC = CollectionSpec("points", DIM, Metric.EUCLIDEAN, IndexParams(m=4, ef_construction=16, min_vectors_threshold=10))
FLIPS = int(os.environ.get("AKIDB_TEST_FLIPS", "6"))


async def _fill(database: Database) -> None:
    """Objects of every kind: two segments, one with deletes; requests under keys; a snapshot; slots since the fold."""
    collection = await database.create_collection(SPEC)
    rng = np.random.default_rng(5)
    maintenance = collection.writers[0].maintenance
    assert maintenance is not None

    async def upsert(first: int, count: int, key: str | None = None) -> None:
        ids = [f"p{first + i}" for i in range(count)]
        vectors = rng.standard_normal((count, DIM)).astype(np.float32)
        await collection.upsert(ids, vectors, [{"n": i} for i in range(count)], idempotency_key=key)

    await upsert(0, 40, "first")
    await collection.wait_indexed()
    await collection.create_snapshot("kept")
    await upsert(40, 30)
    await collection.delete(["p1", "p2", "p41"])
    async with maintenance._folding.held():
        await maintenance.fold()
    for first in (70, 75, 80):
        await upsert(first, 5)


@pytest.fixture
async def store() -> MemoryStore:
    store = MemoryStore()
    store.close = _nothing  # type: ignore[method-assign]
    database = await Database.open(store, SETTINGS)
    await _fill(database)
    await database.close()
    await store.put(WRITER_KEY, encode_lease(Held(UUID(int=9), 1, 1), shard=UUID(int=0)))
    await store.put(f"nodes/{UUID(int=7).hex}", encode_node("http://127.0.0.1:1", uuid=UUID(int=8)))
    return store


async def _nothing() -> None: ...


async def _faults(store: MemoryStore | LocalStore) -> list[Fault]:
    run = Fsck(store)
    return [fault async for fault in run.run()]


def _kind(key: str) -> str:
    kinds = ("wal", "seg", "del", "req", "man", "lease", "head", "format", "nodes")
    kind = next(kind for kind in kinds if kind in key.split("/"))
    return f"cat/{kind}" if "/cat/" in key else kind


async def _keys(store: MemoryStore) -> list[str]:
    return [info.key async for info in store.list_from("")]


async def test_a_sound_store_is_sound(store: MemoryStore) -> None:
    run = Fsck(store)
    assert [fault async for fault in run.run()] == []
    keys = await _keys(store)
    assert run.checked.objects == len(keys)
    assert {_kind(key) for key in keys} == {
        "format", "head", "wal", "seg", "del", "req", "man", "lease", "nodes", "cat/head", "cat/wal",
    }  # fmt: skip


async def test_every_flipped_bit_is_found_and_named(store: MemoryStore) -> None:
    rng = random.Random(7)
    for key in await _keys(store):
        body = (await store.get(key)).body
        for place in (rng.randrange(HEADER.size), *(rng.randrange(len(body)) for _ in range(FLIPS))):
            altered = bytearray(body)
            altered[place] ^= 1 << rng.randrange(8)
            await store.put(key, bytes(altered))
            found = await _faults(store)
            # Between a segment's regions lies what is read by nobody.
            assert [fault.key for fault in found] == [key] or (_kind(key) == "seg" and not body[place] and not found)
            assert all(fault.collection == ("points" if "/c/" in key else None) for fault in found)
        await store.put(key, body)
    assert await _faults(store) == []


async def test_what_is_cut_short_missing_or_another_object_is_named(store: MemoryStore) -> None:
    keys = await _keys(store)
    last_slots = {
        max(key for key in keys if "/wal/" in key and ("/cat/" in key) is catalogue) for catalogue in (False, True)
    }
    for key in keys:
        body = (await store.get(key)).body
        for cut in (b"", body[:30], body[:-1]):
            await store.put(key, cut)
            assert key in {fault.key for fault in await _faults(store)}, f"{key} of {len(cut)} bytes"
        if key == "format":
            await store.put(key, body)
            continue
        await store.delete_many([key])
        told = {fault.key for fault in await _faults(store)}
        # Nothing needs a lease or a node, or tells where a log ended whose last slot was taken away.
        assert told == ({key} if _kind(key) not in ("lease", "nodes") and key not in last_slots else set()), key
        await store.put(key, body)
        same = [other for other in keys if _kind(other) == _kind(key) and other != key and "lease" not in other]
        for other in same[:1]:
            await store.put(key, (await store.get(other)).body)
            assert key in {fault.key for fault in await _faults(store)}, f"{other} lies at {key}"
            await store.put(key, body)
    await store.put("t/else", b"?")
    assert [fault.key for fault in await _faults(store)] == ["t/else"]


async def test_what_others_put_there_is_named_and_the_rest_is_looked_at(store: MemoryStore) -> None:
    keys = await _keys(store)
    prefix = next(key for key in keys if "/c/" in key).partition("/0000/")[0]
    foreign = {
        "README.txt", "t/else/.hidden", "nodes/Readme.TXT", f"{prefix}/README.txt", f"{prefix}/0000/Readme.TXT",
        f"{prefix}/0000/lock", f"{prefix}/0000/wal/Readme.TXT", f"{prefix}/0000/wal/zz", f"{prefix}/0000/del/A/b",
        f"{prefix}/0000/wal/ffffffffffffffff", f"{prefix}/0000/wal/0000000000009/0000000000000001",
        f"{prefix}/0000/wal/0000000000000/", f"{prefix}/0000/seg/Readme.TXT", f"{prefix}/0000/seg/0-README.txt",
    }  # fmt: skip
    for key in foreign:
        store._set(key, b"x")
    run = Fsck(store)
    found = {fault.key: fault.fault async for fault in run.run()}
    assert found == {key: f"object {key}: it is none that AkiDB put there" for key in foreign}
    assert (len(run.checked.faults), run.checked.objects) == (len(foreign), len(keys))
    last = max(key for key in keys if "/c/" in key and "/wal/" in key)
    await store.put(last, b"x")
    assert last in {fault.key for fault in await _faults(store)}


async def test_a_clone_is_sound_without_the_collection_that_it_borrows_from(store: MemoryStore) -> None:
    database = await Database.open(store, SETTINGS)
    await database.clone_collection("points", "copy")
    assert await _faults(store) == []
    await database.drop_collection("points")
    assert await _faults(store) == []
    await database.close()
    segment = max(key for key in await _keys(store) if "/seg/" in key)
    await store.delete_many([segment])
    assert segment in {fault.key for fault in await _faults(store)}


async def test_a_store_that_is_written_to_meanwhile_is_sound(tmp_path: Path) -> None:
    database = await Database.open(LocalStore(tmp_path), SETTINGS)
    await _fill(database)
    collection = await database.collection("points")
    done = asyncio.Event()

    async def write() -> None:
        number = 0
        while not done.is_set():
            number += 1
            await collection.upsert([str(number % 20)], np.ones((1, DIM)))
            if number % 7 == 0:
                await collection.writers[0].maintenance.fold()  # type: ignore[union-attr]

    writing = asyncio.create_task(write())
    for _ in range(10):
        assert await _faults(LocalStore(tmp_path)) == []
    done.set()
    await writing
    await database.close()


def _run(*arguments: str) -> Result:
    clean = dict.fromkeys(name for name in os.environ if name.startswith("AKIDB_"))
    return CliRunner().invoke(main, ["fsck", *arguments], env=clean)


def test_the_command_names_what_is_damaged_and_fails(tmp_path: Path) -> None:
    async def fill() -> None:
        database = await Database.open(LocalStore(tmp_path / "data"), SETTINGS)
        await _fill(database)
        await database.close()

    asyncio.run(fill())
    where = ["--store", str(tmp_path / "data")]
    ran = _run(*where)
    assert ran.exit_code == 0, ran.output
    assert ran.output.splitlines()[0] == f"store: {tmp_path / 'data'}"
    assert "objects are sound" in ran.output
    segment = next(path for path in (tmp_path / "data").rglob("seg/*"))
    segment.write_bytes(segment.read_bytes()[:-1])
    key = segment.relative_to(tmp_path / "data").as_posix()
    ran = _run(*where)
    assert ran.exit_code == 1
    assert f"BAD  object {key}: length is" in ran.output
    assert "(collection points)" in ran.output
    (segment.parent.parent / "README.txt").write_text("ours")
    ran = _run(*where)
    assert ran.exit_code == 1
    assert f"BAD  object {key.partition('/seg/')[0]}/README.txt: it is none that AkiDB put there" in ran.output
    assert ran.output.splitlines()[-1].startswith("damaged or missing, or not AkiDB's: 2; sound: ")
    (segment.parent.parent / "README.txt").unlink()
    told = _run(*where, "--json")
    assert told.exit_code == 1
    found = json.loads(told.output)
    assert [(fault["key"], fault["collection"]) for fault in found["faults"]] == [(key, "points")]
    assert found["objects"] > 5


def test_the_command_says_what_it_could_not_ask(tmp_path: Path) -> None:
    ran = _run("--store", str(tmp_path / "nothing"))
    assert ran.exit_code == 2
    assert "there is no AkiDB database" in ran.output
    assert not (tmp_path / "nothing").exists()
