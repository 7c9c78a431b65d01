"""Lost requests and answers: nothing acknowledged is lost, nothing is written twice, and nobody is told a guess."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import replace

import pytest

from akidb.errors import (
    AkiDBError,
    ConfigurationError,
    DeadlineExceededError,
    StorageFullError,
    UnavailableError,
)
from akidb.manifest import Head
from akidb.storage.breaking import CIRCUIT_OPEN
from akidb.storage.object_store import Reply, Status
from akidb.wal import Entry, collect, queue
from akidb.wal.tail import Put
from tests.unit.stores import FaultyStore
from tests.unit.wal.nodes import Node, until


async def _unknown(node: Node, text: str) -> None:
    with pytest.raises(DeadlineExceededError) as caught:
        await node.say(text, seconds=0.02)
    assert caught.value.code == "outcome_unknown"


@pytest.mark.parametrize("fault", ["lost", "late"])
@pytest.mark.parametrize("can_delete", [False, True])
async def test_a_lost_answer_is_success_once(fault: str, can_delete: bool) -> None:
    store = FaultyStore(can_delete=can_delete)
    node = await Node.start(store)
    store.faults["put_if_absent"] = [fault, fault, "lost"]
    assert await node.say("a") == 1
    other = await Node.start(store)
    assert await other.heard() == [b"a"]


async def test_what_fails_once_the_slot_is_won_undoes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    store = FaultyStore()
    node = await Node.start(store)

    async def failing(slot: object) -> None:
        raise UnavailableError("a segment can't be read to apply the slot")

    monkeypatch.setattr(node.state, "apply", failing)
    with pytest.raises(DeadlineExceededError) as caught:
        await node.say("a")
    assert caught.value.code == "outcome_unknown"
    assert await (await Node.start(store)).heard() == [b"a"]


async def test_a_slot_that_may_be_a_second_creation_is_not_told_as_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    node = await Node.start(FaultyStore(can_delete=False))

    async def doubtful(lsn: int, body: bytes) -> Put:
        return Put.DOUBTFUL

    async def away() -> None:
        raise UnavailableError("the store is away")

    monkeypatch.setattr(node.appender._tail, "put", doubtful)
    monkeypatch.setattr(node.appender._tail, "reload", away)
    with pytest.raises(DeadlineExceededError) as caught:
        await node.say("a")
    assert caught.value.code == "outcome_unknown"


async def test_a_hidden_repeat_that_refuses_its_own_success_counts_as_success() -> None:
    store = FaultyStore()
    node = await Node.start(store)
    real = store.inner.put_if_absent

    async def repeated(key: str, body: bytes) -> Reply:
        await real(key, body)
        return Reply(Status.CONDITION_FAILED)

    store.inner.put_if_absent = repeated  # type: ignore[method-assign,assignment]
    assert await node.say("a") == 1
    assert node.state.entries == [b"a"]


async def test_a_breaker_between_a_hidden_repeat_and_its_slot_decides_nothing() -> None:
    """The put landed, its repetition was refused, and the slot can't be read for now: that is no "nothing written"."""
    store = FaultyStore()
    node = await Node.start(store)
    real = store.inner.put_if_absent

    async def repeated(key: str, body: bytes) -> Reply:
        if (await real(key, body)).ok:
            store.faults["get"] = [_open_for(0.01)]
        return Reply(Status.CONDITION_FAILED)

    store.inner.put_if_absent = repeated  # type: ignore[method-assign,assignment]
    assert await node.say("a") == 1
    assert node.state.entries == [b"a"]


async def test_conflict_is_tried_again_at_the_same_slot() -> None:
    store = FaultyStore()
    node = await Node.start(store)
    store.faults["put_if_absent"] = [Reply(Status.CONFLICT)] * 3
    assert await node.say("a") == 1


async def test_a_lost_request_whose_slot_another_took_goes_to_the_next() -> None:
    store = FaultyStore()
    node, other = await Node.start(store), await Node.start(store)
    await node.heard()
    store.faults["put_if_absent"] = ["lost"]
    gate = asyncio.Event()

    async def other_first(name: str, key: str) -> None:
        if name == "put_if_absent" and not gate.is_set() and not store.faults["put_if_absent"]:
            gate.set()
            await other.say("theirs")

    store.before = other_first
    assert await node.say("mine") == 2
    assert await other.heard() == [b"theirs", b"mine"]


async def test_a_store_that_hangs_gives_an_honest_unknown_and_goes_on() -> None:
    store = FaultyStore()
    node = await Node.start(store)
    await node.heard()
    store.gates["put_if_absent"] = asyncio.Event()
    await _unknown(node, "a")
    behind = asyncio.create_task(node.say("b"))
    await until(lambda: bool(node.appender._queue))
    store.gates["put_if_absent"].set()
    assert await behind == 2
    assert await node.heard() == [b"a", b"b"]


async def test_an_unknown_write_is_never_put_at_another_slot() -> None:
    store = FaultyStore()
    node, other = await Node.start(store), await Node.start(store)
    await node.heard()
    blocked = asyncio.Event()

    async def block_node(name: str, key: str) -> None:
        if name == "put_if_absent" and not other_writes.is_set():
            await blocked.wait()

    other_writes = asyncio.Event()
    store.before = block_node
    await _unknown(node, "forgotten")
    other_writes.set()
    await other.say("theirs")
    blocked.set()
    assert await node.say("after") == 2
    assert await other.heard() == [b"theirs", b"after"]


async def test_callers_of_an_unknown_group_with_time_left_are_served() -> None:
    store = FaultyStore()
    node = await Node.start(store)
    await node.heard()
    store.gates["put_if_absent"] = asyncio.Event()
    patient = asyncio.create_task(node.say("patient"))
    await _unknown(node, "hasty")
    store.gates["put_if_absent"].set()
    assert await patient == 1
    assert sorted(await node.heard()) == [b"hasty", b"patient"]


async def test_after_an_unknown_one_group_waits_and_the_rest_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "SLOT_BYTES_TARGET", 1000)
    store = FaultyStore()
    node = await Node.start(store)
    await node.heard()
    store.gates["put_if_absent"] = asyncio.Event()
    await _unknown(node, "a")
    waiting = [asyncio.create_task(node.say(text)) for text in ("b" * 400, "c" * 400)]
    await until(lambda: len(node.appender._queue) == 2)
    with pytest.raises(UnavailableError) as caught:
        await node.say("d" * 400)
    assert caught.value.code == "overloaded"
    store.gates["put_if_absent"].set()
    assert await asyncio.gather(*waiting) == [2, 2]
    assert await node.say("e" * 400) == 3


async def test_a_deadline_in_the_queue_means_that_nothing_was_written() -> None:
    store = FaultyStore()
    node = await Node.start(store)
    await node.heard()
    store.gates["put_if_absent"] = asyncio.Event()
    first = asyncio.create_task(node.say("a"))
    await until(lambda: store.counts["put_if_absent"] == 2)
    with pytest.raises(DeadlineExceededError, match="nothing was written") as caught:
        await node.say("b", seconds=0.01)
    assert caught.value.code == "deadline_exceeded"
    store.gates["put_if_absent"].set()
    assert await first == 1
    assert await node.say("c") == 2
    assert await node.heard() == [b"a", b"c"]


async def test_a_deadline_that_passed_writes_nothing() -> None:
    node = await Node.start(FaultyStore())
    with pytest.raises(DeadlineExceededError, match="nothing was written"):
        await node.say("a", seconds=-1.0)
    assert await node.say("b") == 1
    assert await node.heard() == [b"b"]


async def test_a_deadline_that_passes_while_its_group_is_made_up_writes_nothing() -> None:
    node = await Node.start(FaultyStore())
    await node.heard()
    deadline = time.monotonic() + 0.01

    def slow() -> None:
        while time.monotonic() <= deadline:
            pass

    late = node.appender.append([Entry(b"late")], deadline=deadline)
    answers = await asyncio.gather(node.say("slow", check=slow), late, return_exceptions=True)
    assert answers[0] == 1
    assert isinstance(answers[1], DeadlineExceededError)
    assert answers[1].code == "deadline_exceeded"
    assert await node.heard() == [b"slow"]


@pytest.mark.parametrize("failure", [StorageFullError("full"), ConfigurationError("no access")], ids=str)
async def test_a_refusal_of_the_store_reaches_all_of_the_group(failure: AkiDBError) -> None:
    store = FaultyStore()
    node = await Node.start(store)
    store.faults["put_if_absent"] = [failure]
    answers = await asyncio.gather(node.say("a"), node.say("b"), return_exceptions=True)
    assert answers == [failure, failure]
    assert await node.say("c") == 1
    assert await node.heard() == [b"c"]


async def test_a_full_store_decides_nothing_about_an_earlier_lost_answer() -> None:
    store = FaultyStore()
    node = await Node.start(store)
    store.faults["put_if_absent"] = ["late", StorageFullError("full")]
    assert await node.say("a") == 1
    assert await node.heard() == [b"a"]


async def test_a_slot_lost_to_another_ends_the_ambiguity_about_it() -> None:
    store = FaultyStore()
    node, other = await Node.start(store), await Node.start(store)
    await node.heard()
    steps = ["lost", None, StorageFullError("full")]

    async def other_between(name: str, key: str) -> None:
        if name == "put_if_absent" and steps:
            step, remaining = steps[0], steps[1:]
            steps.clear()
            if len(remaining) == 1:
                await other.say("theirs")
            steps.extend(remaining)
            store.faults[name] = [step]

    store.before = other_between
    with pytest.raises(StorageFullError):
        await node.say("mine")
    assert await other.heard() == [b"theirs"]


async def test_a_deadline_after_a_lost_slot_means_that_nothing_was_written() -> None:
    store = FaultyStore()
    node, other = await Node.start(store), await Node.start(store)
    await node.heard()
    await other.say("1")
    await other.say("2")

    async def hang_at_the_end(name: str, key: str) -> None:
        if name == "get" and key == node.log.key(3):
            await asyncio.Event().wait()

    store.before = hang_at_the_end
    with pytest.raises(DeadlineExceededError) as caught:
        await node.say("mine", seconds=0.05)
    assert caught.value.code == "deadline_exceeded"
    store.before = None
    assert await other.heard() == [b"1", b"2"]


async def test_head_out_of_reach_before_a_put_is_unavailable_and_not_unknown() -> None:
    store = FaultyStore()
    node = await Node.start(store)
    await node.heard()

    async def away(name: str, key: str) -> None:
        if name == "get_head":
            raise UnavailableError("away")

    store.before = away
    with pytest.raises(UnavailableError, match="away"):
        await node.say("a")
    store.before = None
    assert await node.heard() == []


async def test_an_unknown_write_whose_slot_was_folded_away_stays_unknown() -> None:
    """Nothing can tell any more whether it was in the slot; putting it again could write it twice."""
    store = FaultyStore()
    node, other = await Node.start(store), await Node.start(store)
    node.state.source = other.state
    await node.heard()
    store.faults["put_if_absent"] = ["late"]

    async def fold_away(name: str, key: str) -> None:
        if name == "get_head" and other.state.applied == 0 and store.counts["put_if_absent"] == 3:
            await other.heard()

            def folded(head: Head) -> Head:
                return replace(head, folded=2, chain=other.state.chain)

            await other.heads.swap(folded)
            raised = (await other.heads.read())[0]
            await other.heads.swap(lambda head: replace(head, garbage=raised.folded))
            await store.delete_many([other.log.key(1)])

    store.before = fold_away
    with pytest.raises(DeadlineExceededError) as caught:
        await node.say("a")
    assert caught.value.code == "outcome_unknown"
    assert await node.heard() == [b"a"]
    assert await node.say("b") == 2


async def test_a_bug_while_applying_reaches_the_caller_and_the_next_group_meets_it_too() -> None:
    store = FaultyStore()
    node = await Node.start(store)
    real = node.state.apply

    def broken(slot: object) -> None:
        raise ZeroDivisionError

    node.state.apply = broken  # type: ignore[method-assign]
    for text in ("a", "b"):
        with pytest.raises(ZeroDivisionError):
            await node.say(text)
    node.state.apply = real  # type: ignore[method-assign]
    assert await node.say("c") == 2
    assert node.state.entries == [b"a", b"c"]


@pytest.mark.parametrize("seed", range(60))
async def test_under_random_faults_what_was_acknowledged_is_there_once(seed: int) -> None:
    """Lost and late requests, conflicts, hidden folds and deletions, deadlines; three nodes; the log is the oracle."""
    chance = random.Random(seed)
    store = FaultyStore(can_delete=bool(seed % 3))
    nodes = [await Node.start(store) for _ in range(3)]
    for node in nodes:
        node.state.source = nodes[0].state

    async def disturb(name: str, key: str) -> None:
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)
        if name == "put_if_absent" and chance.random() < 0.4:
            store.faults[name] = [chance.choice(["lost", "late", Reply(Status.CONFLICT)])]
        if name == "put_if_absent" and chance.random() < 0.1:
            await asyncio.sleep(0.002)

    acknowledged: dict[bytes, int] = {}
    refused: set[bytes] = set()

    async def client(number: int) -> None:
        for turn in range(5):
            text = f"{number}-{turn}"
            try:
                node = nodes[chance.randrange(3)]
                acknowledged[text.encode()] = await node.say(text, seconds=chance.choice([0.003, 5.0]))
            except DeadlineExceededError as error:
                if error.code == "deadline_exceeded":
                    refused.add(text.encode())

    async def folder() -> None:
        if store.can_delete:
            for _ in range(3):
                await nodes[0].heard()
                at, chain = nodes[0].state.applied + 1, nodes[0].state.chain

                def folded(head: Head, at: int = at, chain: bytes = chain) -> Head | None:
                    return replace(head, folded=at, chain=chain) if at > head.folded else None

                await nodes[0].heads.swap(folded)
                await collect(nodes[0].log, nodes[0].heads)

    store.before = disturb
    await asyncio.gather(*(client(number) for number in range(4)), folder())
    store.before = None
    store.faults["put_if_absent"] = []
    await until(lambda: all(node.appender._task is None for node in nodes))  # what nobody waits for is decided too
    logs = [await node.heard() for node in nodes]
    assert logs[0] == logs[1] == logs[2]
    assert len(set(logs[0])) == len(logs[0])
    assert {text: nodes[1].state.at.get(text) for text in acknowledged} == acknowledged
    assert not refused & set(logs[0])
    for node in nodes:
        await node.appender.close()


def _open_for(secs: float) -> UnavailableError:
    return UnavailableError("left alone", code=CIRCUIT_OPEN, retry_after_secs=secs)


async def test_what_a_breaker_refused_was_not_written_and_is_told_so() -> None:
    store = FaultyStore()
    node = await Node.start(store)
    store.faults["put_if_absent"] = [_open_for(30)]
    with pytest.raises(UnavailableError, match="left alone"):
        await node.say("a")
    assert await node.say("b") == 1
    assert await node.heard() == [b"b"]


async def test_behind_a_slot_that_cannot_be_decided_for_a_while_nobody_waits() -> None:
    """The caller whose answer was lost is told `unknown` once nothing will change before its deadline; all others are
    refused, until the store is asked again and the slot is decided."""
    store = FaultyStore()
    node = await Node.start(store)
    reached, go = asyncio.Event(), asyncio.Event()
    healed = False

    async def fail(name: str, key: str) -> None:
        if name != "put_if_absent" or healed:
            return
        if not reached.is_set():
            reached.set()
            await go.wait()
            raise UnavailableError("the answer was lost")
        raise _open_for(30)

    store.before = fail
    first = asyncio.create_task(node.say("first", seconds=20))
    await reached.wait()
    behind = asyncio.create_task(node.say("behind", seconds=60))
    await asyncio.sleep(0)
    go.set()
    async with asyncio.timeout(10):  # neither deadline has passed
        with pytest.raises(DeadlineExceededError) as unknown:
            await first
        with pytest.raises(UnavailableError) as refused:
            await behind
        with pytest.raises(UnavailableError) as late:
            await node.say("late", seconds=60)
    assert unknown.value.code == "outcome_unknown"
    assert {refused.value.code, late.value.code} == {CIRCUIT_OPEN}
    healed = True
    await until(lambda: node.state.entries == [b"first"])
    assert await node.say("after") == 2
    assert await node.heard() == [b"first", b"after"]


async def test_a_caller_with_more_time_than_the_breaker_waits_for_the_outcome() -> None:
    store = FaultyStore()
    node = await Node.start(store)
    store.faults["put_if_absent"] = ["late", _open_for(0.001), _open_for(0.001)]
    assert await node.say("a", seconds=20) == 1
    assert await node.heard() == [b"a"]
