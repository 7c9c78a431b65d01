"""What AkiDB needs of a store, rule by rule: the long form of the start-up probe, for `akidb store check`.

The start-up probe asks one question after the other, which finds a store that ignores conditions. One that checks and
then writes without a lock between passes that and loses acknowledged writes later; only racers find it.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from akidb.errors import InvalidInputError, UnavailableError
from akidb.storage.keys import PROBE_FOLDER
from akidb.storage.object_store import ObjectStore, Reply, Status

RACERS = 32
RACE_BODY_BYTES = (4, 1 << 20)
"""A store that is atomic for what fits one packet may not be so for what is received in pieces."""

_PAGE = 1000  # keys in a page of a list, by the S3 interface
_LARGE_BYTES = (17 << 20) + 1
_AT_ONCE = 32
_REFUSED = {Status.CONDITION_FAILED, Status.CONFLICT}
_OTHER_ETAG = '"00000000000000000000000000000000"'


class _BrokenError(Exception):
    """A rule does not hold; the message says what the store did instead."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one rule. `fault` is None where it holds, else what the store did."""

    rule: str
    fault: str | None
    took_secs: float


class _Room:
    """The store, and keys of this check's own."""

    def __init__(self, store: ObjectStore, rounds: int) -> None:
        self.store = store
        self.rounds = rounds
        self.prefix = f"{PROBE_FOLDER}/{uuid.uuid4()}"

    def key(self, name: str) -> str:
        return f"{self.prefix}/{name}"

    async def keys(self, folder: str, after: str | None = None) -> list[str]:
        start = None if after is None else self.key(after)
        listed = self.store.list_from(self.key(folder), start)
        return [info.key.removeprefix(f"{self.prefix}/") async for info in listed]


_Rule = Callable[[_Room], Awaitable[None]]


async def check(store: ObjectStore, *, rounds: int = 20) -> AsyncIterator[Verdict]:
    """Tries every rule on keys of its own, each race `rounds` times, and yields what came of it; leaves nothing behind.

    Raises:
        AkiDBError: the store is away, or refuses more than a rule is about; rules already yielded stand.
    """
    room = _Room(store, rounds)
    await store.put(room.key("first"), b"")
    await store.delete_many([room.key("first")])  # who lacks the right to would leave all that the rules put
    try:
        for name, rule in RULES.items():
            began = time.monotonic()
            fault = None
            try:
                await rule(room)
            except _BrokenError as broken:
                fault = str(broken)
            yield Verdict(name, fault, time.monotonic() - began)
    finally:
        await store.delete_many([info.key async for info in store.list_from(f"{room.prefix}/")])


def _expect(holds: object, otherwise: str) -> None:
    if not holds:
        raise _BrokenError(otherwise)


async def _holds(room: _Room, name: str, body: bytes, after: str) -> Reply:
    reply = await room.store.get(room.key(name))
    _expect(reply.ok, f"after {after} a get answers {reply.status.value}")
    _expect(reply.body == body, f"after {after} a get gives other bytes")
    return reply


async def _read_after_write(room: _Room) -> None:
    missing = await room.store.get(room.key("read"))
    _expect(missing.status is Status.NOT_FOUND, f"a get of a missing object answers {missing.status.value}")
    for body in (b"one", b"two", b""):
        put = await room.store.put(room.key("read"), body)
        _expect(put.ok and put.etag is not None, "a put tells no ETag")
        got = await _holds(room, "read", body, "a put")
        _expect(got.etag == put.etag, "a get tells another ETag than the put before it")
        _expect(await room.keys("read") == ["read"], "a list does not show what was put")


async def _dates(room: _Room) -> None:
    await room.store.put(room.key("date"), b"x")
    answers = {
        "200": await room.store.get(room.key("date")),
        "404": await room.store.get(room.key("nothing")),
        "412": await room.store.put_if_absent(room.key("date"), b"y"),
    }
    silent = [number for number, reply in answers.items() if reply.date is None]
    _expect(not silent, f"no Date header, or one that cannot be read, with {', '.join(silent)}")
    _expect(answers["200"].last_modified is not None, "a get tells no Last-Modified")


async def _create(room: _Room) -> None:
    first = await room.store.put_if_absent(room.key("create"), b"mine")
    _expect(first.ok, f"If-None-Match: * for a new object answers {first.status.value}")
    again = await room.store.put_if_absent(room.key("create"), b"yours")
    _expect(again.status in _REFUSED, f"If-None-Match: * for an existing object answers {again.status.value}")
    await _holds(room, "create", b"mine", "a refused create")


async def _swap(room: _Room) -> None:
    seen = await room.store.put(room.key("swap"), b"1")
    swapped = await room.store.put_if_match(room.key("swap"), b"2", seen.etag or "")
    _expect(swapped.ok, f"If-Match with the object's ETag answers {swapped.status.value}")
    _expect(swapped.etag != seen.etag, "other bytes have the same ETag")
    for etag, what in ((seen.etag or "", "the ETag of before"), (_OTHER_ETAG, "an ETag that never was")):
        stale = await room.store.put_if_match(room.key("swap"), b"3", etag)
        _expect(stale.status in _REFUSED, f"If-Match with {what} answers {stale.status.value}")
        await _holds(room, "swap", b"2", "a refused swap")


async def _swap_missing(room: _Room) -> None:
    reply = await room.store.put_if_match(room.key("never"), b"x", _OTHER_ETAG)
    refused = reply.status in _REFUSED | {Status.NOT_FOUND}
    _expect(refused, f"If-Match for an object that is not there answers {reply.status.value}")
    held = await room.store.get(room.key("never"))
    _expect(held.status is Status.NOT_FOUND, "If-Match for an object that is not there made it")


async def _race(room: _Room, name: str, put: Callable[[str, bytes], Awaitable[Reply]], size: int, turn: int) -> None:
    """Sends as many puts at once as there are RACERS, and looks that one of them and only one came through.

    A store may refuse before it has read a large body and close the connection, so that the refusal is lost: who got no
    answer may have won or not.
    """
    bodies = [racer.to_bytes(4, "little") * (size // 4) for racer in range(RACERS)]
    replies = await asyncio.gather(*(put(room.key(name), body) for body in bodies), return_exceptions=True)
    where = f"round {turn + 1} of {RACERS} racers with {size:,} bytes each"
    won, unknown = [], []
    for body, reply in zip(bodies, replies, strict=True):
        if isinstance(reply, UnavailableError):
            unknown.append(body)
        elif isinstance(reply, BaseException):
            raise reply
        elif reply.ok:
            won.append(body)
        else:
            _expect(reply.status in _REFUSED, f"in {where} one was answered {reply.status.value}")
    if len(unknown) == RACERS:
        raise UnavailableError(f"{room.store.location} answered nobody in {where}")
    _expect(len(won) == 1 or (not won and unknown), f"in {where} {len(won)} won, expected 1")
    held = await room.store.get(room.key(name))
    _expect(held.body in (won or unknown), f"after {where} a get does not give the winner's bytes")


async def _create_race(room: _Room) -> None:
    for size in RACE_BODY_BYTES:
        for turn in range(room.rounds):
            await _race(room, f"create-race/{size}/{turn}", room.store.put_if_absent, size, turn)


async def _swap_race(room: _Room) -> None:
    for size in RACE_BODY_BYTES:
        name = f"swap-race/{size}"
        seen = (await room.store.put(room.key(name), b"start")).etag
        for turn in range(room.rounds):
            await _race(room, name, partial(room.store.put_if_match, etag=seen or ""), size, turn)
            # The same racer may win twice in a row, with the same bytes and ETag: what lies between must differ.
            seen = (await room.store.put(room.key(name), b"turn %d" % turn)).etag


async def _not_modified(room: _Room) -> None:
    put = await room.store.put(room.key("same"), b"unchanged")
    same = await room.store.get(room.key("same"), if_none_match=put.etag)
    _expect(same.status is Status.NOT_MODIFIED, f"If-None-Match with the object's ETag answers {same.status.value}")
    other = await room.store.get(room.key("same"), if_none_match=_OTHER_ETAG)
    _expect(other.ok and other.body == b"unchanged", "If-None-Match with another ETag does not give the object")


async def _ranges(room: _Room) -> None:
    body = bytes(range(256)) * 100
    await room.store.put(room.key("range"), body)
    for start, end in ((0, 1), (1000, 2000), (len(body) - 1, len(body)), (len(body) - 5, len(body) + 5)):
        got = await room.store.get(room.key("range"), byte_range=(start, end))
        _expect(got.ok and got.body == body[start:end], f"bytes {start} to {end} of {len(body)} are not what was put")
        _expect(got.size == len(body), f"bytes {start} to {end}: the whole size is told as {got.size}")
    try:
        past = await room.store.get(room.key("range"), byte_range=(len(body), len(body) + 1))
    except InvalidInputError:
        return
    raise _BrokenError(f"a range past the end answers {past.status.value} with {len(past.body)} bytes, expected 416")


async def _pages(room: _Room) -> None:
    names = [f"list/{number:06x}" for number in range(_PAGE + 2)]
    slots = asyncio.Semaphore(_AT_ONCE)

    async def put(name: str) -> None:
        async with slots:
            await room.store.put(room.key(name), b"x")

    await put("list-not/0")
    await asyncio.gather(*map(put, reversed(names)))
    _expect(await room.keys("list/") == names, f"a list of {len(names):,} keys is not complete and in order")
    for place in (0, _PAGE - 2, _PAGE - 1, _PAGE, _PAGE + 1):
        left = await room.keys("list/", names[place])
        _expect(left == names[place + 1 :], f"a list after key {place + 1:,} does not begin with the next")
    between = await room.keys("list/", f"{names[7]}-")
    _expect(between == names[8:], "a list after a key that is not there does not begin with the next")


async def _large(room: _Room) -> None:
    body = bytes(range(251)) * (_LARGE_BYTES // 251 + 1)
    await room.store.put(room.key("large"), body)
    await _holds(room, "large", body, "a multipart upload")
    middle = (len(body) // 2 - 5, len(body) // 2 + 5)
    part = await room.store.get(room.key("large"), byte_range=middle)
    _expect(part.body == body[slice(*middle)], "a range across the parts is not what was put")


async def _delete(room: _Room) -> None:
    keys = [room.key(name) for name in ("gone/1", "gone/2", "gone/never")]
    for key in keys[:2]:
        await room.store.put(key, b"x")
    await room.store.delete_many(keys)
    _expect(await room.keys("gone/") == [], "a list shows what was deleted")
    _expect((await room.store.get(keys[0])).status is Status.NOT_FOUND, "a get gives what was deleted")
    again = await room.store.put_if_absent(keys[0], b"y")
    _expect(again.ok, f"If-None-Match: * for a deleted object answers {again.status.value}")


RULES: dict[str, _Rule] = {
    "read after write": _read_after_write,
    "dates": _dates,
    "create once": _create,
    "compare and swap": _swap,
    "swap of a missing object": _swap_missing,
    "create race": _create_race,
    "swap race": _swap_race,
    "not modified": _not_modified,
    "ranges": _ranges,
    "list pages": _pages,
    "multipart": _large,
    "delete": _delete,
}
"""Every rule, in the order in which they are tried: those without which nothing else can be judged come first."""
