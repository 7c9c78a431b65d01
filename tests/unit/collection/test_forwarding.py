"""Batches sent to the node that owns their shard: each is in the log once, whatever becomes of the way there."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from uuid import UUID, uuid4

import msgspec
import numpy as np
import pytest

from akidb.codec.frame import KIND_SLOT
from akidb.collection import Collection, decode_forwarded, encode_done, requests
from akidb.collection.forwarding import Forwarded
from akidb.database import Database
from akidb.errors import (
    AkiDBError,
    ConflictError,
    CorruptionError,
    DeadlineExceededError,
    InvalidInputError,
    NotFoundError,
    UnavailableError,
)
from akidb.filter import parse
from akidb.storage.memory import MemoryStore
from akidb.storage.object_store import Body, Reply
from akidb.storage.wrapper import StoreWrapper
from akidb.types import CollectionSpec, Consistency, Metric
from akidb.wal import CHAIN_START, Batch, Seal, Slot, Upsert, decode_slot, encode_slot
from akidb.wal.queue import outcome_unknown
from tests.unit.collection.faults import DIM, SETTINGS

ONE = np.ones((1, DIM), np.float32)
SPEC = CollectionSpec("points", DIM, Metric.EUCLIDEAN)


class Watched(StoreWrapper):
    """Keeps every slot that was ever put, and counts who put it."""

    def __init__(self, inner: MemoryStore, name: str, slots: dict[str, bytes], puts: Counter[str]) -> None:
        super().__init__(inner)
        self.name, self.slots, self.puts = name, slots, puts

    async def put_if_absent(self, key: str, body: Body) -> Reply:
        reply = await self.inner.put_if_absent(key, body)
        if "/c/" in key and "/wal/" in key:
            self.puts[self.name] += 1
            if reply.ok:
                assert isinstance(body, bytes)
                self.slots[key] = body
        return reply


class Network:
    """Between the nodes, all of which take `owner` for the owner unless told otherwise. `way` says what becomes of the
    next batch: done; refused before it arrives; arrived and its answer lost; lost; kept, to be delivered by a test."""

    def __init__(self) -> None:
        self.nodes: dict[str, Database] = {}
        self.owner = "a"
        self.believes: dict[str, str] = {}
        self.way: Callable[[], str] = lambda: "done"
        self.kept: list[tuple[str, bytes]] = []
        self.sent = 0

    async def deliver(self, node: str, body: bytes, *, wanted: Callable[[], bool] = lambda: True) -> bytes:
        message = decode_forwarded(body)
        collection = await self.nodes[node].collection(message.collection, at_hand=True)
        return encode_done(await collection.receive(message, wanted))


class PeersOf:
    def __init__(self, network: Network, name: str) -> None:
        self.network, self.name = network, name

    def owner(self, shard: UUID) -> str | None:
        owner = self.network.believes.get(self.name, self.network.owner)
        return None if owner == self.name else owner

    async def send(self, node: str, body: bytes, timeout_secs: float) -> bytes:
        self.network.sent += 1
        way = self.network.way()
        if way == "refused":
            raise UnavailableError("refused on purpose", code="not_taken")
        if way == "kept":
            self.network.kept.append((node, body))
        if way in ("kept", "lost"):
            raise outcome_unknown()
        answer = await self.network.deliver(node, body)
        if way == "answer lost":
            raise outcome_unknown()
        return answer


class Cluster:
    """Nodes a, b and c over one store."""

    def __init__(self) -> None:
        self.store, self.network = MemoryStore(), Network()
        self.slots: dict[str, bytes] = {}
        self.puts: Counter[str] = Counter()

    async def open(self, name: str) -> Collection:
        database = await Database.open(Watched(self.store, name, self.slots, self.puts), SETTINGS)
        database.peers = PeersOf(self.network, name)
        self.network.nodes[name] = database
        if not database._catalogue.collections:
            await database.create_collection(SPEC)
        return await database.collection("points")

    def batches(self) -> list[UUID]:
        """Those in the log, in order."""
        found = []
        for key, body in sorted(self.slots.items()):
            shard = UUID(bytes=body[32:48])
            slot = decode_slot(body, lsn=int(key[-16:], 16), shard=shard, name=key, kind=KIND_SLOT)
            found += [batch.uuid for batch in slot.batches]
        return found

    async def close(self) -> None:
        for database in self.network.nodes.values():
            await database.close()
        batches = self.batches()
        assert len(batches) == len(set(batches)), "a batch is in the log twice"


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    made = Cluster()
    yield made
    await made.close()


@pytest.fixture
async def nodes(cluster: Cluster) -> list[Collection]:
    return [await cluster.open(name) for name in "abc"]


@pytest.fixture
def network(cluster: Cluster) -> Network:
    return cluster.network


async def payload(node: Collection, id_: str) -> bytes | None:
    (point,) = await node.get([id_])
    return None if point is None else point.payload_json


async def fold(node: Collection) -> None:
    maintenance = node.writers[0].maintenance
    assert maintenance is not None
    await maintenance.fold()


async def test_the_owner_puts_what_all_nodes_write(nodes: list[Collection], cluster: Cluster) -> None:
    answers = await asyncio.gather(*(nodes[n % 3].upsert([f"p{n}"], ONE, [{"n": n}]) for n in range(30)))
    assert await nodes[2].delete(["p0"]) == max(answers) + 1
    assert await nodes[1].patch("p1", {"m": 1}) == max(answers) + 2
    assert set(cluster.puts) == {"a"}
    assert cluster.puts["a"] == len(cluster.slots) == max(answers) + 2, "and lost no slot"
    for node in nodes:
        assert await node.count() == 29
        assert await payload(node, "p1") == b'{"n":1,"m":1}'


async def test_a_batch_that_the_owner_would_find_too_large_is_put_here(
    nodes: list[Collection], cluster: Cluster, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    (shard,) = nodes[1].shards
    small = replace(shard.settings, api=replace(shard.settings.api, body_limit_bytes=1 << 10))
    monkeypatch.setattr(shard, "settings", small)
    await nodes[1].upsert(["p"], ONE, [{"text": "x" * 1024}])
    assert (network.sent, cluster.puts) == (0, {"b": 1})
    await nodes[1].upsert(["q"], ONE)
    assert (network.sent, cluster.puts) == (1, {"b": 1, "a": 1})


async def test_many_points_with_conditions_arrive_as_they_were_sent(nodes: list[Collection]) -> None:
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((2000, DIM)).astype(np.float32)
    ids = [f"é{n}" for n in range(2000)]
    payloads = [None if n % 3 else {"n": n} for n in range(2000)]
    lsn = await nodes[1].upsert(ids, vectors, payloads, if_absent=True)
    await nodes[2].upsert(ids, 2 * vectors, payloads, if_version=[lsn if n % 2 else None for n in range(2000)])
    found = await nodes[1].get(ids)
    assert all(point is not None and np.array_equal(point.vector, 2 * vectors[n]) for n, point in enumerate(found))
    assert [point.payload is None for point in found if point is not None] == [n % 3 != 0 for n in range(2000)]


async def test_a_session_sees_what_the_owner_wrote_for_it(nodes: list[Collection]) -> None:
    lsn = await nodes[1].upsert(["p"], ONE)
    assert nodes[1].shards[0].applied < lsn, "the node did not read it itself"
    for node in nodes:
        (found,) = await node.get(["p"], consistency=Consistency("session", token=nodes[1].token))
        assert found is not None


async def test_refusals_come_with_kind_code_and_places(nodes: list[Collection], cluster: Cluster) -> None:
    await nodes[0].upsert(["a", "b"], np.ones((2, DIM)), idempotency_key="k")
    with pytest.raises(ConflictError, match="point 'b' has version 1") as caught:
        await nodes[1].upsert(["x", "b"], np.ones((2, DIM)), if_version=[None, 7])
    assert (caught.value.code, caught.value.faults[0].loc) == ("version_mismatch", ("if_version", 1))
    with pytest.raises(ConflictError) as caught:
        await nodes[1].upsert(["a"], ONE, if_absent=True)
    assert caught.value.code == "point_exists"
    with pytest.raises(NotFoundError) as missing:
        await nodes[2].patch("none", {"n": 1})
    assert missing.value.code == "point_not_found"
    with pytest.raises(InvalidInputError, match="'k' was used for another request") as reused:
        await nodes[2].delete(["a"], idempotency_key="k")
    assert reused.value.code == "idempotency_key_reused"
    assert cluster.puts == {"a": 1}


@pytest.mark.parametrize("way", ["done", "refused", "answer lost", "lost"])
async def test_a_write_is_done_once_on_every_way(
    way: str, nodes: list[Collection], cluster: Cluster, network: Network
) -> None:
    network.way = lambda: way
    assert await nodes[1].upsert(["p"], ONE, [{"n": 1}]) == 1
    assert await nodes[2].upsert(["p"], ONE, [{"n": 2}], if_version=1) == 2
    assert await nodes[1].patch("p", {"m": 3}, idempotency_key="k") == 3
    assert await nodes[2].patch("p", {"m": 3}, idempotency_key="k") == 3
    assert network.sent == 4
    assert len(cluster.batches()) == 3
    for node in nodes:
        assert await payload(node, "p") == b'{"n":2,"m":3}'


@pytest.mark.parametrize("key", [None, "k"])
@pytest.mark.parametrize("folded", ["", "by the node that put it", "and adopted"])
async def test_a_batch_that_comes_late_does_nothing_any_more(
    folded: str, key: str | None, nodes: list[Collection], cluster: Cluster, network: Network
) -> None:
    """The owner stood still; meanwhile the batch was put elsewhere, what it wrote was replaced, and all was folded."""
    network.way = lambda: "kept"
    assert await nodes[1].upsert(["p"], ONE, [{"n": 1}], idempotency_key=key) == 1
    network.way = lambda: "refused"
    assert await nodes[2].upsert(["p"], ONE, [{"n": 2}]) == 2
    if folded:
        await fold(nodes[2])
    if folded == "and adopted":
        await nodes[0].shards[0].reload()
    ((node, body),) = network.kept
    if folded and key is None:
        with pytest.raises(UnavailableError) as told:
            await network.deliver(node, body)
        assert told.value.code == "not_taken"
    else:
        assert msgspec.msgpack.decode(await network.deliver(node, body))["lsn"] == 1
    assert len(cluster.batches()) == 2
    for each in nodes:
        assert await payload(each, "p") == b'{"n":2}'


async def test_a_request_that_is_sent_again_when_it_is_forgotten_is_not_taken(
    nodes: list[Collection], network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By who listened, more than a day later."""
    network.way = lambda: "kept"
    await nodes[1].upsert(["p"], ONE, [{"n": 1}], idempotency_key="k")
    network.way = lambda: "done"
    await nodes[1].upsert(["p"], ONE, [{"n": 2}])
    await fold(nodes[0])
    monkeypatch.setattr(requests, "RETENTION_SECS", -1)
    for other in ("q", "r"):
        await nodes[1].upsert([other], ONE)
        await fold(nodes[0])
    with pytest.raises(UnavailableError) as told:
        await network.deliver(*network.kept[0])
    assert told.value.code == "not_taken"
    assert await payload(nodes[2], "p") == b'{"n":2}'


async def test_an_owner_that_reads_on_from_far_behind_finds_the_batch(
    nodes: list[Collection], cluster: Cluster, network: Network
) -> None:
    """It takes the next slot for free, and learns of each that it is not; the batch is in one of them."""
    network.way = lambda: "kept"
    await nodes[1].upsert(["p"], ONE, [{"n": 1}])
    for n in range(20):
        network.way = lambda: "refused"
        await nodes[2].upsert(["p"], ONE, [{"n": n}])
    await network.deliver(*network.kept[0])
    assert len(cluster.batches()) == 21
    assert await payload(nodes[0], "p") == b'{"n":19}'


async def test_nothing_is_put_for_a_node_that_does_not_wait(
    nodes: list[Collection], cluster: Cluster, network: Network
) -> None:
    batch = Batch(uuid4(), [_one("p")])
    message = Forwarded("points", nodes[0].shards[0].uuid, 0, 1000, _slot(nodes[0], batch))
    with pytest.raises(UnavailableError, match="does not wait") as told:
        await network.deliver("a", msgspec.msgpack.encode(message), wanted=lambda: False)
    assert told.value.code == "not_taken"
    assert cluster.batches() == []


async def test_what_the_owner_may_yet_do_is_not_told_as_refused(nodes: list[Collection], network: Network) -> None:
    await nodes[0].upsert(["p"], ONE)
    network.way = lambda: "kept"
    with pytest.raises(DeadlineExceededError) as told:
        await nodes[1].upsert(["p"], ONE, [{"n": 1}], if_absent=True)
    assert told.value.code == "outcome_unknown"
    await nodes[0].delete(["p"])
    await network.deliver(*network.kept[0])
    assert await payload(nodes[2], "p") == b'{"n":1}', "so it was right not to say that it never will be"


async def test_a_node_that_was_idle_while_all_was_folded_puts_it_itself(
    nodes: list[Collection], cluster: Cluster
) -> None:
    for n in range(3):
        await nodes[0].upsert([f"p{n}"], ONE)
    await fold(nodes[0])
    assert nodes[1].shards[0].applied == 0
    assert await nodes[1].upsert(["q"], ONE) == 4, "the owner can't tell, as far as this node's batches go back"
    assert await nodes[1].upsert(["r"], ONE) == 5
    assert cluster.puts == {"a": 5, "b": 1}, "from then on it does, once it lost a slot to the other"


async def test_nodes_that_take_each_other_for_the_owner_put_what_they_get(
    nodes: list[Collection], cluster: Cluster, network: Network
) -> None:
    network.believes = {"a": "b", "b": "c", "c": "a"}
    await asyncio.gather(*(nodes[n % 3].upsert([f"p{n}"], ONE) for n in range(30)))
    assert network.sent == 30, "each was sent once"
    assert set(cluster.puts) == {"a", "b", "c"}
    assert [await node.count() for node in nodes] == [30, 30, 30]


async def test_deletes_by_filter_and_drops_are_put_where_they_are_asked(
    nodes: list[Collection], cluster: Cluster, network: Network
) -> None:
    await nodes[1].upsert(["p", "q"], np.ones((2, DIM)), [{"n": 1}, None])
    assert await nodes[1].delete_where(parse({"field": "n", "match": 1})) == (1, 2)
    assert network.sent == 1
    await network.nodes["b"].drop_collection("points")
    for node in nodes:
        with pytest.raises(NotFoundError):
            await node.upsert(["p"], ONE)


async def test_each_shard_of_a_collection_has_an_owner_of_its_own(cluster: Cluster) -> None:
    await cluster.open("a")
    await cluster.open("b")
    first = cluster.network.nodes["a"]
    await first.create_collection(CollectionSpec("wide", DIM, Metric.EUCLIDEAN, shard_count=4))
    sharded = [await cluster.network.nodes[name].collection("wide") for name in "ab"]
    owners = {shard.uuid: "ab"[number % 2] for number, shard in enumerate(sharded[0].shards)}
    for name in "ab":
        peers = cluster.network.nodes[name].peers
        assert isinstance(peers, PeersOf)
        peers.owner = lambda shard, name=name: None if owners[shard] == name else owners[shard]
    ids = [f"p{n}" for n in range(64)]
    await sharded[0].upsert(ids, np.ones((64, DIM)))
    await sharded[1].upsert(ids, np.ones((64, DIM)), if_version=1)
    assert cluster.network.sent == 4, "two parts of each batch"
    assert cluster.puts == {"a": 4, "b": 4}
    assert [await node.count() for node in sharded] == [64, 64]


def _one(id_: str, dim: int = DIM) -> Upsert:
    return Upsert([id_], np.ones((1, dim), np.float32), [None])


def _slot(node: Collection, *batches: Batch) -> bytes:
    return encode_slot(Slot(0, node.shards[0].uuid, uuid4(), CHAIN_START, batches))[0]


async def test_what_is_no_batch_of_the_shard_changes_nothing(nodes: list[Collection], network: Network) -> None:
    node = nodes[0]
    shard = node.shards[0].uuid
    good = Forwarded("points", shard, 0, 1000, _slot(node, Batch(uuid4(), [_one("p")])))
    bad: list[tuple[bytes, type[AkiDBError]]] = [
        (b"{}", InvalidInputError),
        (msgspec.msgpack.encode({"collection": "points"}), InvalidInputError),
        (msgspec.msgpack.encode(msgspec.structs.replace(good, shard=uuid4())), NotFoundError),
        (msgspec.msgpack.encode(msgspec.structs.replace(good, collection="none")), NotFoundError),
        (msgspec.msgpack.encode(msgspec.structs.replace(good, since=1)), CorruptionError),
        (msgspec.msgpack.encode(msgspec.structs.replace(good, slot=good.slot[:-1])), CorruptionError),
    ]
    for batches in ([], [Batch(uuid4(), [Seal()])], [Batch(uuid4(), [])], [Batch(uuid4(), [_one("p", DIM + 1)])]):
        slot = _slot(node, *batches)
        bad.append((msgspec.msgpack.encode(msgspec.structs.replace(good, slot=slot)), InvalidInputError))
    two = msgspec.structs.replace(good, slot=_slot(node, Batch(uuid4(), [_one("p")]), Batch(uuid4(), [_one("q")])))
    bad.append((msgspec.msgpack.encode(two), InvalidInputError))
    for body, kind in bad:
        with pytest.raises(kind):
            await network.deliver("a", body)
    assert node.lsn == 0
    await network.deliver("a", msgspec.msgpack.encode(good))
    assert await node.count() == 1


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_happens_on_the_way_a_point_is_what_was_written_last(
    seed: int, nodes: list[Collection], network: Network
) -> None:
    """Late batches arrive in any order, at any node, between folds; each point has one writer, who is told of all."""
    rng = random.Random(seed)
    network.way = lambda: rng.choice(("done", "done", "refused", "answer lost", "lost", "kept", "kept"))

    async def write(id_: str) -> None:
        for n in range(12):
            network.believes = {name: rng.choice("abc") for name in "abc"}
            node = rng.choice(nodes)
            key = f"{id_}-{n}" if rng.random() < 0.3 else None
            try:
                lsn = await node.upsert([id_], ONE, [{"n": n}], idempotency_key=key)
            except DeadlineExceededError as told:  # folded meanwhile, so nobody can tell: then nothing is said of it
                codes.add(told.code)
                return
            (found,) = await rng.choice(nodes).get([id_])
            assert found is not None
            assert (found.payload_json, found.version) == (b'{"n":%d}' % n, lsn)

    async def disturb() -> None:
        for _ in range(40):
            await asyncio.sleep(0)
            if network.kept and rng.random() < 0.5:
                node, body = network.kept.pop(rng.randrange(len(network.kept)))
                try:
                    await network.deliver(rng.choice((node, "a", "b", "c")), body)
                except AkiDBError as told:
                    codes.add(told.code)
            if rng.random() < 0.2:
                await fold(rng.choice(nodes))

    codes = set[str]()
    await asyncio.gather(*(write(f"p{n}") for n in range(6)), disturb())
    assert codes <= {"outcome_unknown", "not_taken"}
