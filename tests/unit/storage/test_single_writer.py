"""A store that ignores conditions, and one process that keeps them; a second one is kept away, as far as it goes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest

from akidb.config.settings import Cache, Settings, Storage
from akidb.database import Database
from akidb.errors import ConfigurationError, UnavailableError
from akidb.storage import probe, single_writer
from akidb.storage.breaking import writes_refused
from akidb.storage.factory import as_judged, over_network
from akidb.storage.held import NOBODY, Held, decode_lease, encode_lease
from akidb.storage.keys import WRITER_KEY
from akidb.storage.memory import MemoryStore
from akidb.storage.object_store import Body, Reply, Status
from akidb.storage.single_writer import EXPIRY_SECS, LOOK_SECS, SETTLE_SECS, SingleWriterStore
from akidb.storage.wrapper import StoreWrapper
from akidb.types import CollectionSpec, Metric


class Careless(StoreWrapper):
    """A bucket that knows no conditions: whoever puts last has it."""

    def __init__(self) -> None:
        super().__init__(MemoryStore())
        self.calls: list[str] = []

    @property
    def location(self) -> str:
        return f"careless-{id(self)}"

    @property
    def can_delete(self) -> bool:
        return False

    async def put(self, key: str, body: Body) -> Reply:
        self.calls.append(f"put {key}")
        await asyncio.sleep(0)
        return await self.inner.put(key, body)

    async def head(self, key: str) -> Reply:
        await asyncio.sleep(0)
        return await self.inner.head(key)

    async def put_if_absent(self, key: str, body: Body) -> Reply:
        return await self.put(key, body)

    async def put_if_match(self, key: str, body: Body, etag: str) -> Reply:
        return await self.put(key, body)


class Clock:
    """Time that passes where the module waits, and nowhere else."""

    def __init__(self) -> None:
        self.now = 0.0
        self.meanwhile: Callable[[], None] = lambda: None

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Renewals are left out: their pause never ends. Every other wait takes a turn of the loop, and its time."""
    clock = Clock()
    sleep = asyncio.sleep

    async def pass_by(secs: float) -> None:
        if secs == single_writer.RENEW_SECS:
            await asyncio.Event().wait()
        clock.now += secs
        clock.meanwhile()
        await sleep(0)

    class Loop:
        def __getattr__(self, name: str) -> object:
            return pass_by if name == "sleep" else getattr(asyncio, name)

    monkeypatch.setattr(single_writer, "time", clock)
    monkeypatch.setattr(single_writer, "asyncio", Loop())
    monkeypatch.setattr(probe, "_probed", set())
    return clock


@pytest.fixture
def bucket(clock: Clock) -> Careless:
    return Careless()


async def lease(bucket: Careless) -> Held:
    return decode_lease((await bucket.inner.get(WRITER_KEY)).body, shard=NOBODY, name=WRITER_KEY)


async def test_conditions_hold_within_the_process(bucket: Careless) -> None:
    store = SingleWriterStore(bucket)
    replies = await asyncio.gather(*(store.put_if_absent("k", bytes([n])) for n in range(32)))
    assert sorted(reply.status.value for reply in replies) == ["condition_failed"] * 31 + ["ok"]
    (winner,) = [n for n, reply in enumerate(replies) if reply.ok]
    held = await store.get("k")
    assert held.body == bytes([winner])
    swaps = await asyncio.gather(*(store.put_if_match("k", bytes([n, n]), held.etag or "") for n in range(32)))
    assert [reply.ok for reply in swaps].count(True) == 1
    assert (await store.put_if_match("k", b"late", held.etag or "")).status is Status.CONDITION_FAILED
    assert (await store.put_if_match("none", b"x", held.etag or "")).status is Status.NOT_FOUND
    await store.close()


async def test_who_waited_longer_than_a_lease_asks_again_whether_it_has_it(
    bucket: Careless, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SingleWriterStore(bucket)
    await store.put("other", b"x")
    head, looking, going_on = bucket.head, asyncio.Event(), asyncio.Event()

    async def slow(key: str) -> Reply:
        looking.set()
        await going_on.wait()
        return await head(key)

    monkeypatch.setattr(bucket, "head", slow)
    first = asyncio.ensure_future(store.put_if_absent("k", b"first"))
    await looking.wait()
    second = asyncio.ensure_future(store.put_if_absent("k", b"second"))
    await asyncio.sleep(0)
    clock.now += 2 * EXPIRY_SECS
    await bucket.inner.put(WRITER_KEY, encode_lease(Held(uuid4(), 9, 9), shard=NOBODY))
    going_on.set()
    await first  # it had asked, and nothing fences it
    with pytest.raises(UnavailableError, match="another process writes"):
        await second
    await store.close()


async def test_reading_needs_no_lease(bucket: Careless) -> None:
    store = SingleWriterStore(bucket)
    assert (await store.get("k")).status is Status.NOT_FOUND
    await store.close()
    assert bucket.calls == []


async def test_who_comes_second_does_not_write_while_the_first_lives(bucket: Careless, clock: Clock) -> None:
    first, second = SingleWriterStore(bucket), SingleWriterStore(bucket)
    await first.put("k", b"first")
    clock.now += EXPIRY_SECS / 2
    renewing: list[asyncio.Task[Reply]] = []
    clock.meanwhile = lambda: renewing.append(asyncio.ensure_future(first.put("k", b"again")))
    clock.now = 100.0
    with pytest.raises(UnavailableError, match="another process writes") as told:
        await second.put("k", b"second")
    assert told.value.code == "another_writer"
    await asyncio.gather(*renewing)
    assert (await bucket.get("k")).body == b"again"
    clock.meanwhile = lambda: None
    await first.close()
    await second.put("k", b"second")
    await second.close()


async def test_a_lease_that_was_let_go_of_is_taken_at_once(bucket: Careless, clock: Clock) -> None:
    first, second = SingleWriterStore(bucket), SingleWriterStore(bucket)
    await first.put("k", b"x")
    await first.close()
    assert (await lease(bucket)).owner == NOBODY
    before = clock.now
    await second.put("k", b"y")
    assert clock.now - before == SETTLE_SECS
    assert (await lease(bucket)).epoch == 2
    await second.close()


async def test_a_dead_ones_lease_is_taken_once_it_did_not_change_for_long(bucket: Careless, clock: Clock) -> None:
    first, second = SingleWriterStore(bucket), SingleWriterStore(bucket)
    await first.put("k", b"x")
    before = clock.now
    await second.put("k", b"y")
    assert EXPIRY_SECS <= clock.now - before <= EXPIRY_SECS + LOOK_SECS + SETTLE_SECS
    await second.close()


async def test_who_lost_it_meanwhile_writes_nothing_any_more(
    bucket: Careless, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = SingleWriterStore(bucket), SingleWriterStore(bucket)
    await first.put("k", b"first")
    await second.put("k", b"second")  # which the first slept through
    clock.now += EXPIRY_SECS
    with caplog.at_level(logging.ERROR, "akidb"):
        for write in (
            first.put("k", b"late"),
            first.put_if_absent("new", b"late"),
            first.put_if_match("k", b"late", "x"),
            first.delete_many(["k"]),
        ):
            with pytest.raises(UnavailableError) as told:
                await write
            assert told.value.code == "another_writer"
    assert "another process took the lease" in caplog.text
    assert writes_refused(first)
    assert (await bucket.get("k")).body == b"second"
    owner = await lease(bucket)
    await first.close()
    assert await lease(bucket) == owner, "it does not let go of what is not its own"
    await second.close()


async def test_of_two_that_come_at_once_one_writes(bucket: Careless) -> None:
    stores = [SingleWriterStore(bucket) for _ in range(5)]
    ends = await asyncio.gather(*(store.put("k", b"x") for store in stores), return_exceptions=True)
    assert sorted(isinstance(end, UnavailableError) for end in ends) == [False, True, True, True, True]
    for store in stores:
        await store.close()


@pytest.mark.parametrize(("inner", "says"), [(Careless, "does not keep conditional writes"), (MemoryStore, "is safer")])
async def test_what_the_store_is_like_is_a_warning(
    inner: Callable[[], Careless | MemoryStore], says: str, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    store = SingleWriterStore(inner())
    with caplog.at_level(logging.WARNING, "akidb"):
        await store.put("k", b"x")
    assert says in caplog.text
    await store.close()


async def test_a_database_over_it(bucket: Careless, tmp_path: Path) -> None:
    """From nothing to folded, closed and opened again; refused unless it is asked for."""
    settings = Settings(storage=Storage(conditional_writes="single-writer"), cache=Cache(hot_path=str(tmp_path)))
    with pytest.raises(ConfigurationError) as refused:
        await Database.open(over_network(bucket, as_judged(settings)), as_judged(settings))
    assert refused.value.code == "no_conditional_writes"
    vectors = np.random.default_rng(1).standard_normal((300, 4)).astype(np.float32)
    for life in range(3):
        database = await Database.open(over_network(bucket, settings), settings)
        if life == 0:
            await database.create_collection(CollectionSpec("c", 4, Metric.EUCLIDEAN))
        collection = await database.collection("c")
        ids = [f"p{n}" for n in range(100 * life, 100 * life + 100)]
        puts = (collection.upsert([id_], vectors[n : n + 1], if_absent=True) for n, id_ in enumerate(ids, 100 * life))
        await asyncio.gather(*puts)
        await collection.wait_indexed()
        assert await collection.count() == 100 * life + 100
        await database.collect_garbage(interval_secs=0)
        await database.close()
