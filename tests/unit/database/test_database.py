"""The catalogue: names come and go exactly once, on every node."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from dataclasses import replace
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from akidb.codec import encode
from akidb.codec.frame import KIND_FORMAT, decode
from akidb.config import Settings
from akidb.config.load import BY_PATH
from akidb.database import Database
from akidb.database.validate import validate_spec
from akidb.errors import (
    AkiDBError,
    ConfigurationError,
    ConflictError,
    CorruptionError,
    InvalidInputError,
    NotFoundError,
    UnavailableError,
)
from akidb.storage.memory import MemoryStore
from akidb.storage.object_store import Body, Reply
from akidb.storage.wrapper import StoreWrapper
from akidb.types import CollectionSpec, IndexParams


async def test_names_are_unique_among_nodes_that_race() -> None:
    store = MemoryStore()
    nodes = [await Database.open(store, Settings()) for _ in range(4)]
    outcomes = await asyncio.gather(
        *(node.create_collection(CollectionSpec("one", 4)) for node in nodes for _ in range(3)), return_exceptions=True
    )
    assert sum(not isinstance(outcome, BaseException) for outcome in outcomes) == 1
    assert all(isinstance(outcome, ConflictError) for outcome in outcomes if isinstance(outcome, BaseException))
    for node in nodes:
        assert list(await node.list_collections()) == ["one"]
        await node.close()


async def test_what_closing_a_collection_raises_keeps_the_store_from_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    store, closed = MemoryStore(), []
    node = await Database.open(store, Settings())
    collection = await node.create_collection(CollectionSpec("c", 2))
    close = collection.close

    async def fail() -> None:
        await close()
        raise UnavailableError("the store is away")

    async def note() -> None:
        closed.append(store)

    monkeypatch.setattr(collection, "close", fail)
    monkeypatch.setattr(store, "close", note)
    with pytest.raises(UnavailableError, match="the store is away"):
        await node.close()
    assert closed == [store]


async def test_drop_is_seen_by_other_nodes_and_a_new_collection_of_the_name_is_empty() -> None:
    store = MemoryStore()
    first, second = [await Database.open(store, Settings()) for _ in range(2)]
    ours = await first.create_collection(CollectionSpec("c", 2))
    theirs = await second.collection("c")
    await ours.upsert(["a"], np.ones((1, 2)))
    await first.drop_collection("c")
    with pytest.raises(NotFoundError):
        await theirs.upsert(["b"], np.ones((1, 2)))
    with pytest.raises(NotFoundError):
        await theirs.count()
    with pytest.raises(NotFoundError):
        await second.collection("c")
    again = await second.create_collection(CollectionSpec("c", 3))
    assert await again.count() == 0
    assert (await first.collection("c")).spec.dim == 3
    for node in (first, second):
        await node.close()


async def test_a_name_made_again_by_another_node_is_the_new_collection_at_once() -> None:
    store = MemoryStore()
    first, second = [await Database.open(store, Settings()) for _ in range(2)]
    old = await first.create_collection(CollectionSpec("c", 2))
    held = await second.collection("c")
    await old.upsert(["a"], np.ones((1, 2)))
    assert await second.collection("c") is held
    await first.drop_collection("c")
    await (await first.create_collection(CollectionSpec("c", 3))).upsert(["b", "c"], np.ones((2, 3)))
    assert await second.collection("c", at_hand=True) is held  # asks nobody
    found = await second.collection("c")
    assert (found.spec.dim, await found.count()) == (3, 2)
    assert second.at_hand == [found]
    with pytest.raises(NotFoundError):  # and not that it is closed
        await held.count()
    for node in (first, second):
        await node.close()


async def test_a_drop_gives_back_the_room_and_late_readers_learn_of_it() -> None:
    store = MemoryStore()
    first, second = [await Database.open(store, Settings()) for _ in range(2)]
    ours = await first.create_collection(CollectionSpec("c", 2))
    await ours.upsert(range(300), np.random.default_rng(0).standard_normal((300, 2)))
    await ours.wait_indexed()
    await ours.upsert(["tail"], np.ones((1, 2)))
    theirs = await second.collection("c")
    await first.drop_collection("c")
    left = [info.key async for info in store.list_from("t/") if "/c/" in info.key]
    assert [key.rpartition("/")[2] for key in left] == ["head"]
    with pytest.raises(NotFoundError):
        await theirs.count()
    with pytest.raises(NotFoundError):
        await second.collection("c")
    for node in (first, second):
        await node.close()


async def test_a_drop_cut_in_half_is_finished_by_whoever_meets_the_seal() -> None:
    store = MemoryStore()
    first = await Database.open(store, Settings())
    collection = await first.create_collection(CollectionSpec("c", 2))
    await collection.seal()
    await first.close()
    second = await Database.open(store, Settings())
    with pytest.raises(NotFoundError):
        await second.collection("c")
    await second.create_collection(CollectionSpec("c", 2))
    assert len(await second.list_collections()) == 1
    await second.close()


@pytest.mark.parametrize(
    ("spec", "loc", "message"),
    [
        (CollectionSpec("", 4), "name", "is ''"),
        (CollectionSpec("-a", 4), "name", "expected 1 to 255 characters"),
        (CollectionSpec("a/b", 4), "name", "a letter or digit"),
        (CollectionSpec("a\n", 4), "name", "a letter or digit"),
        (CollectionSpec("x" * 256, 4), "name", "expected 1 to 255"),
        (CollectionSpec("a", 0), "vector_dim", "is 0, expected an integer from 1 to 4096"),
        (CollectionSpec("a", 4097), "vector_dim", "is 4097"),
        (CollectionSpec("a", 4, index=IndexParams(m=1)), "index.m", "is 1"),
        (CollectionSpec("a", 4, index=IndexParams(ef_search=0)), "index.ef_search", "is 0"),
    ],
)
async def test_specs_that_cannot_be_are_refused(spec: CollectionSpec, loc: str, message: str) -> None:
    database = await Database.open(MemoryStore(), Settings())
    with pytest.raises(InvalidInputError, match=message) as refused:
        await database.create_collection(spec)
    assert [".".join(fault.loc) for fault in refused.value.faults] == [loc]
    assert not await database.list_collections()
    await database.close()


async def test_read_only_open_of_an_empty_store_writes_nothing() -> None:
    store = MemoryStore()
    with pytest.raises(NotFoundError, match="no AkiDB database"):
        await Database.open(store, Settings(), read_only=True)
    assert [info async for info in store.list_from("")] == []


async def test_damaged_and_newer_format_objects_are_named() -> None:
    store = MemoryStore()
    await (await Database.open(store, Settings())).close()
    good = (await store.get("format")).body
    await store.put("format", good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(CorruptionError, match="format"):
        await Database.open(store, Settings())
    uuid = decode(good, kind=KIND_FORMAT, name="format").uuid
    newer = b'{"store": "%s", "min_reader": 2}' % str(uuid).encode()
    await store.put("format", encode(KIND_FORMAT, uuid, {"format": newer}))
    with pytest.raises(ConfigurationError, match="upgrade AkiDB"):
        await Database.open(store, Settings())


class _Writes(StoreWrapper):
    """A bucket, as far as anyone can tell, that remembers what was written to it."""

    def __init__(self) -> None:
        super().__init__(MemoryStore())
        self.written: list[str] = []

    location = "s3://bucket at http://10.0.0.1:9000"
    can_delete = False

    async def put(self, key: str, body: Body) -> Reply:
        self.written.append(key)
        return await super().put(key, body)

    async def put_if_absent(self, key: str, body: Body) -> Reply:
        self.written.append(key)
        return await super().put_if_absent(key, body)


async def test_objects_of_somebody_else_are_named_and_nothing_is_written() -> None:
    bucket = _Writes()
    await bucket.inner.put("holiday/photo.jpg", b"x")
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=r"'holiday/photo.jpg'.*AKIDB_S3_PREFIX") as refused:
            await Database.open(bucket, Settings())
        assert refused.value.code == "not_a_store"
    assert bucket.written == []


async def test_what_store_check_left_is_nobodys() -> None:
    bucket = _Writes()
    await bucket.inner.put("probe/left", b"x")
    await (await Database.open(bucket, Settings())).close()


async def test_a_store_laid_down_while_we_look_is_ours() -> None:
    bucket = _Writes()

    class _Slow(_Writes):
        looked = False

        async def get(self, key: str, **options: Any) -> Reply:
            reply = await bucket.get(key, **options)
            if key == "format" and not self.looked:
                self.looked = True
                await (await Database.open(bucket, Settings())).close()
            return reply

    late = _Slow()
    late.inner = bucket
    await (await Database.open(late, Settings())).close()
    assert [info.key async for info in bucket.list_from("format")] == ["format"]


async def test_a_newer_store_is_not_even_probed() -> None:
    bucket = _Writes()
    newer = b'{"store": "%s", "min_reader": 2}' % str(UUID(int=1)).encode()
    await bucket.inner.put("format", encode(KIND_FORMAT, UUID(int=1), {"format": newer}))
    with pytest.raises(ConfigurationError, match="upgrade AkiDB"):
        await Database.open(bucket, Settings())
    assert bucket.written == []


async def test_health_names_what_is_wrong() -> None:
    database = await Database.open(MemoryStore(), Settings())
    assert await database.ready()
    assert await database.health() == {"storage": None, "wal": None, "index": None}
    database._log.last_failure = AkiDBError("away")
    database._log._appender.catch_up = _away
    assert not await database.ready()
    assert (await database.health())["storage"] == "away"


async def _away(*, deadline: float) -> int:
    from akidb.errors import UnavailableError

    raise UnavailableError("away")


def test_settings_and_collections_have_the_same_limits_of_a_graph() -> None:
    for name in ("m", "ef_construction", "ef_search"):
        row = BY_PATH[f"index.hnsw.{name}"]
        for value, fits in ((row.low, True), (row.high, True), (row.low - 1, False), (row.high + 1, False)):
            spec = CollectionSpec("a", 4, index=replace(IndexParams(), **{name: int(value)}))
            with nullcontext() if fits else pytest.raises(InvalidInputError, match=f"index.{name}"):
                validate_spec(spec, Settings())
