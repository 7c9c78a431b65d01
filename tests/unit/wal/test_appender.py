"""Group commit: what shares a slot, in which order, and who is told what when callers leave or are refused."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import replace

import numpy as np
import pytest

from akidb.errors import ConflictError, DeadlineExceededError, InvalidInputError, NotFoundError, UnavailableError
from akidb.storage.memory import MemoryStore
from akidb.wal import Delete, Entry, Patch, Seal, Upsert, appender, queue
from tests.unit.stores import FaultyStore
from tests.unit.wal.nodes import Node, soon, until, upsert


async def _queued(node: Node, count: int) -> None:
    """Until that many batches wait behind the one under way."""
    await until(lambda: len(node.appender._queue) == count)


async def _puts(store: FaultyStore, count: int) -> None:
    await until(lambda: store.counts["put_if_absent"] == count)


async def test_an_append_is_durable_and_applied_when_it_returns() -> None:
    store = FaultyStore()
    node = await Node.start(store)
    lsn = await node.appender.append(
        [upsert("a", "b", value=2.0), Delete(["b"]), Patch(["a"], [b'{"x":1}'])], deadline=soon()
    )
    assert lsn == node.state.applied == 1
    assert node.state.points == {"a": ((2.0, 2.0, 2.0), b'{"x":1}')}
    other = await Node.start(store)
    await other.heard()
    assert other.state.points == node.state.points


async def test_what_arrives_during_a_put_shares_the_next_slot() -> None:
    store = FaultyStore()
    node = await Node.start(store)
    store.gates["put_if_absent"] = asyncio.Event()
    store.counts.clear()
    first = asyncio.create_task(node.say("0"))
    await _puts(store, 1)
    others = [asyncio.create_task(node.say(str(i))) for i in range(1, 101)]
    await _queued(node, 100)
    store.gates["put_if_absent"].set()
    assert await first == 1
    assert await asyncio.gather(*others) == [2] * 100
    assert store.counts["put_if_absent"] == 2
    assert node.state.entries == [b"%d" % i for i in range(101)]


async def test_what_arrives_at_once_shares_the_first_slot() -> None:
    store = FaultyStore()
    node = await Node.start(store)
    store.counts.clear()
    assert await asyncio.gather(*(node.say(str(i)) for i in range(50))) == [1] * 50
    assert store.counts["put_if_absent"] == 1


async def test_a_group_ends_at_its_target_size_but_one_batch_is_never_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "SLOT_BYTES_TARGET", 3000)
    node = await Node.start(MemoryStore())
    sizes = [1000, 1000, 1000, 5000, 100, 100]
    lsns = await asyncio.gather(*(node.appender.append([Entry(b"x" * n)], deadline=soon()) for n in sizes))
    assert lsns == [1, 1, 2, 3, 4, 4]


async def test_a_group_holds_no_more_than_a_thousand_batches() -> None:
    node = await Node.start(MemoryStore())
    lsns = await asyncio.gather(*(node.say("x") for _ in range(1500)))
    assert [lsns.count(1), lsns.count(2)] == [1000, 500]


async def test_batches_above_the_limit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(appender, "BATCH_BYTES_MAX", 1000)
    node = await Node.start(MemoryStore())
    with pytest.raises(InvalidInputError) as caught:
        await node.appender.append([Entry(b"x" * 500), Entry(b"x" * 500)], deadline=soon())
    assert caught.value.code == "batch_too_large"
    assert await node.heard() == []


async def test_large_batches_are_packed_in_a_thread_and_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    store = FaultyStore()
    node, other = await Node.start(store), await Node.start(store)
    threads = 0
    in_thread = asyncio.to_thread

    async def counted(*arguments: object) -> object:
        nonlocal threads
        threads += 1
        return await in_thread(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(asyncio, "to_thread", counted)
    vectors = np.random.default_rng(5).standard_normal((700, 384), np.float32)
    ids = [str(i) for i in range(700)]
    await node.appender.append([Upsert(ids, vectors, [None] * 700)], deadline=soon())
    await other.heard()
    assert threads == 3  # its parts, its slot, and the other node's reading of it
    assert other.state.points == node.state.points
    assert other.state.points["699"][0] == tuple(vectors[699].tolist())


async def test_a_check_runs_before_each_put_and_refuses_only_its_own() -> None:
    store = FaultyStore()
    node = await Node.start(store)

    def taken() -> None:
        raise ConflictError("taken")

    answers = await asyncio.gather(
        node.say("a"), node.say("b", check=taken), node.say("c", check=lambda: None), return_exceptions=True
    )
    assert isinstance(answers[1], ConflictError)
    assert [answers[0], answers[2]] == [1, 1]
    assert await node.heard() == [b"a", b"c"]


async def test_a_check_is_run_again_when_another_writer_took_the_slot() -> None:
    store = FaultyStore()
    node, other = await Node.start(store), await Node.start(store)
    await node.heard()
    seen: list[int] = []

    def only_first() -> None:
        seen.append(node.state.applied)
        if b"theirs" in node.state.entries:
            raise ConflictError("they were first")

    await other.say("theirs")
    with pytest.raises(ConflictError):
        await node.say("mine", check=only_first)
    assert seen == [0, 1, 1]  # refused at the end of the log only: what this node lacks could allow it
    assert await other.heard() == [b"theirs"]


async def test_a_refusal_is_that_of_a_state_which_holds_all_that_was_acknowledged() -> None:
    store = FaultyStore()
    node, other = await Node.start(store), await Node.start(store)
    await other.say("closed")
    await node.heard()
    await other.say("opened")

    def opened() -> None:
        if b"opened" not in node.state.entries:
            raise ConflictError("closed")

    assert await node.say("in", check=opened) == 3


async def test_a_check_that_is_awaited_is_repeated_until_its_state_stands_still() -> None:
    store = FaultyStore()
    node, other = await Node.start(store), await Node.start(store)
    seen: list[int] = []

    async def look() -> None:
        seen.append(node.state.applied)
        if len(seen) < 3:
            await other.heard()
            await other.say(str(len(seen)))
            await node.heard()

    assert await node.say("mine", check=look) == 3
    assert seen == [0, 1, 2]


async def test_no_point_is_written_twice_in_one_slot() -> None:
    node = await Node.start(MemoryStore())
    writes = [upsert("a"), upsert("b"), Delete(["c", "a"]), upsert("c"), Patch(["d"], [b"{}"])]
    lsns = await asyncio.gather(*(node.appender.append([write], deadline=soon()) for write in writes))
    assert lsns == [1, 1, 2, 3, 3]


async def test_of_two_exact_creates_at_once_one_is_refused() -> None:
    node = await Node.start(MemoryStore())

    def free() -> None:
        if b"name" in node.state.entries:
            raise ConflictError("exists")

    creates = [node.say("name", check=free, exact=True) for _ in range(5)]
    answers = await asyncio.gather(node.say("x"), *creates, node.say("y"), return_exceptions=True)
    assert sum(isinstance(answer, ConflictError) for answer in answers) == 4
    assert sorted(await node.heard()) == [b"name", b"x", b"y"]


async def test_nothing_shares_a_slot_after_a_seal() -> None:
    node = await Node.start(MemoryStore())

    def open_() -> None:
        if node.state.sealed:
            raise NotFoundError("dropped")

    seal = node.appender.append([Seal()], deadline=soon())
    answers = await asyncio.gather(
        node.say("a", check=open_), seal, *(node.say(str(i), check=open_) for i in range(3)), return_exceptions=True
    )
    assert answers[:2] == [1, 1]
    assert all(isinstance(answer, NotFoundError) for answer in answers[2:])
    assert node.state.entries == [b"a"]


async def test_a_bug_in_a_check_reaches_its_caller_alone() -> None:
    node = await Node.start(MemoryStore())

    def bug() -> None:
        raise ZeroDivisionError

    answers = await asyncio.gather(node.say("a", check=bug), node.say("b"), return_exceptions=True)
    assert isinstance(answers[0], ZeroDivisionError)
    assert answers[1] == 1


async def test_what_cannot_be_encoded_is_refused_before_it_joins_a_group() -> None:
    node = await Node.start(MemoryStore())
    answers = await asyncio.gather(
        node.say("a"), node.appender.append([Delete(["\ud800"])], deadline=soon()), return_exceptions=True
    )
    assert answers[0] == 1
    assert isinstance(answers[1], InvalidInputError)


async def test_a_cancelled_caller_in_the_queue_leaves_no_trace() -> None:
    store = FaultyStore()
    node = await Node.start(store)
    store.gates["put_if_absent"] = asyncio.Event()
    first = asyncio.create_task(node.say("a"))
    await _puts(store, 2)
    gone, stays = asyncio.create_task(node.say("gone")), asyncio.create_task(node.say("stays"))
    await _queued(node, 2)
    gone.cancel()
    await asyncio.wait({gone})
    store.gates["put_if_absent"].set()
    assert [await first, await stays] == [1, 2]
    assert await node.heard() == [b"a", b"stays"]


async def test_a_caller_cancelled_during_the_put_does_not_disturb_its_group() -> None:
    store = FaultyStore()
    node = await Node.start(store)
    store.gates["put_if_absent"] = asyncio.Event()
    gone, stays = asyncio.create_task(node.say("gone")), asyncio.create_task(node.say("stays"))
    await _puts(store, 2)
    gone.cancel()
    await asyncio.wait({gone})
    store.gates["put_if_absent"].set()
    assert await stays == 1
    assert await node.heard() == [b"gone", b"stays"]
    assert await node.say("next") == 2


async def test_a_cancelled_caller_whose_slot_was_lost_is_not_put_again() -> None:
    store = FaultyStore()
    node, other = await Node.start(store), await Node.start(store)
    await node.heard()
    await other.heard()
    overtaken = asyncio.Event()

    async def hold_the_first(name: str, key: str) -> None:
        if name == "put_if_absent" and store.counts[name] == 3:
            await overtaken.wait()

    store.before = hold_the_first
    gone, stays = asyncio.create_task(node.say("gone")), asyncio.create_task(node.say("stays"))
    await _puts(store, 3)
    gone.cancel()
    await asyncio.wait({gone})
    assert await other.say("theirs") == 1
    overtaken.set()
    assert await stays == 2
    assert await other.heard() == [b"theirs", b"stays"]


async def test_close_lets_the_queue_be_written_and_refuses_more() -> None:
    store = FaultyStore()
    node = await Node.start(store)
    store.gates["put_if_absent"] = asyncio.Event()
    first = asyncio.create_task(node.say("a"))
    await _puts(store, 2)
    second = asyncio.create_task(node.say("b"))
    await _queued(node, 1)
    closing = asyncio.create_task(node.appender.close())
    await asyncio.sleep(0)
    with pytest.raises(UnavailableError) as caught:
        await node.say("late")
    assert caught.value.code == "closing"
    store.gates["put_if_absent"].set()
    await closing
    assert [await first, await second] == [1, 2]


async def test_close_ends_what_the_store_never_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(appender, "CLOSE_TIMEOUT_SECS", 0.01)
    store = FaultyStore()
    node = await Node.start(store)
    store.gates["put_if_absent"] = asyncio.Event()
    proposed = asyncio.create_task(node.say("a"))
    await _puts(store, 2)
    queued = asyncio.create_task(node.say("b"))
    await _queued(node, 1)
    await node.appender.close()
    answers = await asyncio.gather(proposed, queued, return_exceptions=True)
    assert [answer.code for answer in answers if isinstance(answer, DeadlineExceededError)] == [
        "outcome_unknown",
        "deadline_exceeded",
    ]


async def test_the_queue_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "QUEUE_BYTES_MAX", 2000)
    store = FaultyStore()
    node = await Node.start(store)
    store.gates["put_if_absent"] = asyncio.Event()
    tasks = [asyncio.create_task(node.say("a"))]
    await _puts(store, 2)
    tasks.append(asyncio.create_task(node.say("b" * 1500)))
    await _queued(node, 1)
    with pytest.raises(UnavailableError) as caught:
        await node.say("c" * 1500)
    assert caught.value.code == "overloaded"
    store.gates["put_if_absent"].set()
    assert await asyncio.gather(*tasks) == [1, 2]


async def test_who_leaves_the_queue_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "QUEUE_BYTES_MAX", 2000)
    store = FaultyStore()
    node = await Node.start(store)
    store.gates["put_if_absent"] = asyncio.Event()
    first = asyncio.create_task(node.say("a"))
    await _puts(store, 2)
    gone = asyncio.create_task(node.say("b" * 1500))
    await _queued(node, 1)
    gone.cancel()
    await asyncio.wait({gone})
    stays = asyncio.create_task(node.say("c" * 1500))
    await _queued(node, 1)
    store.gates["put_if_absent"].set()
    assert [await first, await stays] == [1, 2]


async def test_a_lost_slot_costs_one_read_and_the_next_put() -> None:
    store = FaultyStore(can_delete=False)
    node, other = await Node.start(store), await Node.start(store)
    await node.heard()
    await other.say("theirs")
    store.counts.clear()
    assert await node.say("mine") == 2
    assert store.counts == {"put_if_absent": 2, "get": 1}


async def test_a_writer_far_behind_reads_to_the_end_instead_of_losing_slot_by_slot() -> None:
    store = FaultyStore()
    node, other = await Node.start(store), await Node.start(store)
    await node.heard()
    for i in range(20):
        await other.say(str(i))
    store.counts.clear()
    assert await node.say("mine") == 21
    assert store.counts["put_if_absent"] == 3


async def test_commits_keep_their_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    sleep = asyncio.sleep

    async def counted(seconds: float) -> None:
        slept.append(seconds)
        await sleep(0)

    node = Node(store := MemoryStore(), commit_interval_ms=5000)
    await node.heads.create()
    monkeypatch.setattr(appender.asyncio, "sleep", counted)
    await node.say("a")
    await node.say("b")
    assert slept[0] == 0
    assert 0 < slept[1] <= 5
    assert store.can_delete


@pytest.mark.parametrize("seed", range(200))
async def test_two_writers_in_any_order_agree_with_a_list(seed: int) -> None:
    """Answers of the store take a random number of turns each: what was acknowledged is there, once, in order."""
    chance = random.Random(seed)
    store = FaultyStore(can_delete=bool(seed % 2))

    async def wait(name: str, key: str) -> None:
        for _ in range(chance.randrange(6)):
            await asyncio.sleep(0)

    nodes = [await Node.start(store) for _ in range(2)]
    for node in nodes:
        node.appender._retry = replace(node.appender._retry, initial_backoff_ms=1, max_backoff_ms=1)
    store.before = wait
    acknowledged: dict[bytes, int] = {}

    async def client(number: int) -> None:
        for turn in range(4):
            text = f"{number}-{turn}"
            before = dict(acknowledged)
            node = nodes[chance.randrange(2)]
            if chance.random() < 0.4:
                await node.heard()
                assert all(node.state.at[seen] == lsn for seen, lsn in before.items())
            acknowledged[text.encode()] = await node.say(text)

    await asyncio.gather(*(client(number) for number in range(5)))
    logs = [await node.heard() for node in nodes]
    assert logs[0] == logs[1]
    assert sorted(logs[0]) == sorted(acknowledged)
    assert {text: nodes[0].state.at[text] for text in acknowledged} == acknowledged


async def test_a_slot_won_after_an_outage_costs_the_next_no_outage() -> None:
    """Who wins against others leaves them one round trip, and an hour without the store is none."""
    node = await Node.start(FaultyStore())
    group = queue.Group([])
    group.losses = 1
    now = time.monotonic()
    assert node.appender._pause_after(group, now - 3600) - now < 2
    assert node.appender._pause_after(group, now - 0.5) - now >= 0.25
