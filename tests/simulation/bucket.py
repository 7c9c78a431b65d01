"""An S3-like bucket for nodes of a simulation, and what goes wrong on the way to it.

A request travels, is carried out at one moment, and its answer travels back; each may be lost, late, doubled, damaged.
Nothing is ever wrong with the bucket itself: conditional puts are atomic, and reads see what was written.
"""

from __future__ import annotations

import asyncio
import random
from bisect import bisect_right
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, nullcontext
from contextvars import Context
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path

from xxhash import xxh3_128_hexdigest

from akidb.errors import UnavailableError
from akidb.storage.object_store import Body, ObjectInfo, Reply, Status
from tests.simulation.loop import EPOCH, Host, SimLoop

LOCATION = "s3://simulated"
PAGE = 3
"""Keys of one page of a listing: between two pages the bucket changes."""

FAULTS = (
    "lost request", "lost answer", "late put", "duplicate", "conflict", "error", "slow down", "truncated", "bit flip",
    "no date", "date backward", "slow", "crash",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Stored:
    body: bytes
    etag: str
    at: float


@dataclass
class Bucket:
    """The objects, and everything that was ever created and when. `trace` sums up all that happened."""

    loop: SimLoop
    objects: dict[str, Stored] = field(default_factory=dict)
    created: dict[str, Stored] = field(default_factory=dict)
    heads: dict[str, list[bytes]] = field(default_factory=dict)
    trace: blake2b = field(default_factory=blake2b)
    requests: int = 0

    def note(self, *what: object) -> None:
        self.trace.update(f"{self.loop.now!r} {what}\n".encode())

    def reply(self, status: Status, stored: Stored | None = None, body: bytes = b"") -> Reply:
        date = EPOCH + self.loop.now
        if stored is None:
            return Reply(status, date=date)
        return Reply(status, body, stored.etag, len(stored.body), date, stored.at)

    def put(self, key: str, body: bytes, refused: Callable[[Stored | None], Status | None]) -> Reply:
        found = self.objects.get(key)
        status = refused(found)
        if status is not None:
            return self.reply(status)
        stored = Stored(body, xxh3_128_hexdigest(body), EPOCH + self.loop.now)
        self.objects[key] = stored
        self.created.setdefault(key, stored)
        if key.endswith("/head"):
            self.heads.setdefault(key, []).append(body)
        return self.reply(Status.OK, stored)

    def page(self, prefix: str, after: str) -> list[ObjectInfo]:
        keys = sorted(key for key in self.objects if key.startswith(prefix))
        page = keys[bisect_right(keys, after) :][:PAGE]
        return [ObjectInfo(key, len(self.objects[key].body), self.objects[key].etag) for key in page]


@dataclass
class Weather:
    """Which faults there are, how often, and which hosts the bucket can't be reached from."""

    rng: random.Random
    chances: dict[str, float]
    cut_off: set[Host] = field(default_factory=set)
    fired: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, rng: random.Random) -> Weather:
        """Some kinds often, some rarely, some not at all: what hides behind a frequent fault shows in other seeds."""
        kinds = rng.sample(FAULTS, rng.randint(0, len(FAULTS)))
        scale = rng.choice((0.01, 0.04, 0.1))
        return cls(rng, {kind: scale * rng.uniform(0.2, 1.0) * (0.1 if kind == "crash" else 1.0) for kind in kinds})

    def fault(self, possible: Iterable[str]) -> str | None:
        for kind in possible:
            if self.rng.random() < self.chances.get(kind, 0.0):
                self.fired[kind] += 1
                return kind
        return None

    def heal(self) -> None:
        self.chances.clear()
        self.cut_off.clear()


_READS = ("lost request", "error", "slow down", "truncated", "bit flip", "no date", "date backward", "slow", "crash")
_PUTS = ("lost request", "lost answer", "late put", "duplicate", "error", "slow down", "no date", "slow", "crash")
_CONDITIONAL = (*_PUTS, "conflict")
_DELETES = ("lost request", "lost answer", "late put", "duplicate", "error", "slow down", "slow", "crash")
_NO_ANSWER_SECS = 10.0
_SLOW = (1, 60, 200)
"""Times the usual, of a request or its answer: at the longest, slots are folded and collected under way."""


class NodeStore:
    """The bucket as one node reaches it: an ObjectStore without locks, like S3's."""

    location = LOCATION
    can_delete = False

    def __init__(self, bucket: Bucket, weather: Weather, host: Host, folder: Path, crash: Callable[[], None]) -> None:
        self._bucket = bucket
        self._weather = weather
        self._host = host
        self._folder = folder
        self._crash = crash
        self._files = 0
        self.ended = False

    async def _request(self, name: str, key: str, carry_out: Callable[[], Reply], possible: Iterable[str]) -> Reply:
        loop, rng, bucket = self._bucket.loop, self._weather.rng, self._bucket
        if self.ended:
            raise UnavailableError("the simulation ended")
        bucket.requests += 1
        fault = self._weather.fault(possible)
        if self._host in self._weather.cut_off:
            fault = "cut off"
        answer: asyncio.Future[Reply | None] = loop.create_future()

        def travel() -> float:
            return rng.uniform(0.001, 0.05) * (rng.choice(_SLOW) if fault == "slow" else 1)

        def later(secs: float, call: Callable[[], object]) -> None:
            loop.call_later(secs, call, context=Context())  # the bucket's doing: no node's pause holds it up

        def done(deliver: bool = True) -> None:
            reply = carry_out()
            content = None if "/seg/" in key else reply.etag  # a graph is built by threads, in whichever order they go
            bucket.note(self._host.name, name, key, reply.status.value, content, fault)
            if fault == "crash" and rng.random() < 0.5:
                self._crash()
            if deliver:
                later(travel(), lambda: arrive(reply))

        def arrive(reply: Reply | None) -> None:
            if not answer.done():
                answer.set_result(None if reply is None else self._damaged(reply, fault))

        there = travel()
        match fault:
            case "lost request" | "cut off" | "error" | "slow down":
                quick = fault in ("error", "slow down")
                later(rng.uniform(0.01, 0.1) if quick else rng.uniform(0.1, _NO_ANSWER_SECS), lambda: arrive(None))
            case "lost answer":
                later(there, lambda: done(deliver=False))
                later(there + rng.uniform(0.1, _NO_ANSWER_SECS), lambda: arrive(None))
            case "late put":
                later(rng.choice((0.2, 5.0, 60.0, 900.0)) * rng.random(), lambda: done(deliver=False))
                later(rng.uniform(0.05, 2.0), lambda: arrive(None))
            case "conflict":
                later(there, lambda: arrive(bucket.reply(Status.CONFLICT)))
            case "crash" if rng.random() < 0.5:
                self._crash()
                later(there, done)
            case _:
                later(there, done)
                if fault == "duplicate":
                    later(there + rng.uniform(0.01, 30.0), lambda: done(deliver=False))
        reply = await answer
        if reply is None or self.ended:
            raise UnavailableError(f"{name} {key}: {fault}")
        return reply

    def _damaged(self, reply: Reply, fault: str | None) -> Reply:
        rng = self._weather.rng
        match fault:
            case "truncated" if reply.body:
                return replace(reply, body=reply.body[: rng.randrange(len(reply.body))])
            case "bit flip" if reply.body:
                body = bytearray(reply.body)
                body[rng.randrange(len(body))] ^= 1 << rng.randrange(8)
                return replace(reply, body=bytes(body))
            case "no date":
                return replace(reply, date=None)
            case "date backward":
                return replace(reply, date=(reply.date or EPOCH) - rng.choice((4.0, 86400.0, 1e9)))
        return reply

    async def get(
        self, key: str, *, byte_range: tuple[int, int] | None = None, if_none_match: str | None = None
    ) -> Reply:
        def carry_out() -> Reply:
            found = self._bucket.objects.get(key)
            if found is None:
                return self._bucket.reply(Status.NOT_FOUND)
            if found.etag == if_none_match:
                return self._bucket.reply(Status.NOT_MODIFIED, found)
            return self._bucket.reply(Status.OK, found, found.body[slice(*byte_range or (0, None))])

        return await self._request("get", key, carry_out, _READS)

    def get_now(self, key: str, **how: object) -> None:
        return None

    async def head(self, key: str) -> Reply:
        def carry_out() -> Reply:
            found = self._bucket.objects.get(key)
            return self._bucket.reply(Status.NOT_FOUND if found is None else Status.OK, found)

        return await self._request("head", key, carry_out, _READS)

    async def put(self, key: str, body: Body) -> Reply:
        data = _bytes_of(body)
        return await self._request("put", key, lambda: self._bucket.put(key, data, lambda _: None), _PUTS)

    async def put_if_absent(self, key: str, body: Body) -> Reply:
        data = _bytes_of(body)

        def refused(found: Stored | None) -> Status | None:
            return None if found is None else Status.CONDITION_FAILED

        return await self._request("create", key, lambda: self._bucket.put(key, data, refused), _CONDITIONAL)

    async def put_if_match(self, key: str, body: Body, etag: str) -> Reply:
        data = _bytes_of(body)

        def refused(found: Stored | None) -> Status | None:
            if found is None:
                return Status.NOT_FOUND
            return None if found.etag == etag else Status.CONDITION_FAILED

        return await self._request("swap", key, lambda: self._bucket.put(key, data, refused), _CONDITIONAL)

    async def list_from(self, prefix: str, start_after: str | None = None) -> AsyncIterator[ObjectInfo]:
        after = start_after or ""
        while True:
            page: list[ObjectInfo] = []

            def carry_out(after: str = after, page: list[ObjectInfo] = page) -> Reply:
                page[:] = self._bucket.page(prefix, after)
                return self._bucket.reply(Status.OK)

            await self._request("list", f"{prefix}>{after}", carry_out, ("lost request", "error", "slow down", "slow"))
            for info in page:
                yield info
            if len(page) < PAGE:
                return
            after = page[-1].key

    async def delete_many(self, keys: Iterable[str]) -> None:
        """One key after the other, as a real store may: who dies in between leaves the rest."""
        for key in list(keys):

            def carry_out(key: str = key) -> Reply:
                self._bucket.objects.pop(key, None)
                return self._bucket.reply(Status.OK)

            await self._request("delete", key, carry_out, _DELETES)

    async def local_path(self, key: str) -> Path | None:
        reply = await self.get(key)
        if not reply.ok:
            return None
        self._files += 1
        path = self._folder / f"{self._files}"
        path.write_bytes(reply.body)
        return path

    async def has_local(self, key: str) -> bool:
        return False

    async def forget_local(self, key: str) -> None: ...

    def lock(self, prefix: str, *, exclusive: bool) -> AbstractAsyncContextManager[None]:
        return nullcontext()

    async def close(self) -> None: ...


def _bytes_of(body: Body) -> bytes:
    return body.read_bytes() if isinstance(body, Path) else bytes(body)
