"""Clients of a simulation: they read and write through any node, and note what they were told."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias, TypeVar
from uuid import UUID

import numpy as np

from akidb import query
from akidb.collection import Collection
from akidb.collection.requests import Request
from akidb.collection.routing import route
from akidb.database import Database
from akidb.errors import (
    AkiDBError,
    ConflictError,
    CorruptionError,
    DeadlineExceededError,
    NotFoundError,
    PartialWriteError,
    UnavailableError,
)
from akidb.filter import parse
from akidb.query import SearchQuery
from akidb.types import EVENTUAL, STRONG, CollectionSpec, Consistency, IndexParams, Metric
from tests.simulation.history import MARK, History, Missing, Part, Read, Snapped, Write
from tests.simulation.node import CrashedError, Node

T = TypeVar("T")

DIM = 2
NAME = "points"
SPEC = CollectionSpec(NAME, DIM, Metric.EUCLIDEAN, IndexParams(m=4, ef_construction=16, min_vectors_threshold=8))
IDS = [f"p{n:02}" for n in range(24)]
ODD = parse({"must": [{"field": "odd", "match": True}]})
Call: TypeAlias = Callable[[Collection, str | None], Awaitable[int]]
"""A write to a collection, under a key or without; its log position."""

CALL_SECS = 45.0
"""How long a client waits: longer than a node's own limit for a write."""

TRIES = 4
SNAPSHOTS = ("s0", "s1", "s2")
UNANSWERED = (
    CrashedError, TimeoutError, UnavailableError, DeadlineExceededError, CorruptionError, PartialWriteError,
)  # fmt: skip
"""How a write ends that says nothing of what the log holds of it."""

REFUSALS = ("condition", "missing")
"""Why a write was refused for good."""


class Client:
    """One caller. What it saw last it uses for conditions and sessions."""

    def __init__(self, name: str, nodes: list[Node], history: History, rng: random.Random, shards: int) -> None:
        self.name = name
        self._shards = shards
        self._nodes, self._history, self._rng = nodes, history, rng
        self._loop = asyncio.get_running_loop()
        self._seen: dict[str, int] = {}
        self._of: UUID | None = None
        self._token: tuple[UUID, str, list[int]] | None = None
        self._calls = 0
        self._sent: list[tuple[Write, Call, str]] = []
        self._near: Node | None = None

    async def live(self, calls: int) -> None:
        actions = (
            (self.upsert, 5), (self.delete, 2), (self.patch, 2), (self.delete_where, 1), (self.read, 9),
            (self.burst, 2), (self.again, 2), (self.tidy, 2), (self.drop, 0.15), (self.snap, 3), (self.look_back, 2),
            (self.revert, 1.5), (self.forget, 0.7), (self.collect, 1),
        )  # fmt: skip
        for _ in range(calls):
            (action,) = self._rng.choices([a for a, _ in actions], [weight for _, weight in actions])
            await action()
            await asyncio.sleep(self._rng.choice((0.0, 0.02, 0.5)) * self._rng.random())

    async def upsert(self) -> None:
        ids = self._rng.sample(IDS, self._rng.randint(1, 6))
        vectors = np.array([[self._rng.random() for _ in range(DIM)] for _ in ids], np.float32)
        mark = self._mark()
        payloads = [{"m": mark, "odd": self._rng.random() < 0.5} for _ in ids]
        condition = self._condition(ids)

        async def write(collection: Collection, key: str | None) -> int:
            versions = [condition.get(id_) for id_ in ids] if condition else None
            return await collection.upsert(ids, vectors, payloads, if_version=versions, idempotency_key=key)

        lsn = await self._write(mark, write, ids, condition)
        if lsn and len(route(ids, self._shards)) == 1:
            self._seen.update(dict.fromkeys(ids, lsn))

    async def delete(self) -> None:
        ids = self._rng.sample(IDS, self._rng.randint(1, 3))
        mark, condition = self._mark(), self._condition(ids)
        marks = [_mark_in(number, self._shards, mark) for number, _ in route(ids, self._shards)]

        async def write(collection: Collection, key: str | None) -> int:
            versions = [*(condition.get(id_) for id_ in ids), *(None for _ in marks)] if condition else None
            return await collection.delete([*ids, *marks], if_version=versions, idempotency_key=key)

        if await self._write(mark, write, ids, condition):
            self._seen.update(dict.fromkeys(ids, 0))

    async def patch(self) -> None:
        (id_,) = self._rng.sample(IDS, 1)
        mark = self._mark()
        condition = {id_: self._seen[id_]} if self._seen.get(id_) and self._rng.random() < 0.5 else {}

        change = {"m": mark, "odd": self._rng.random() < 0.5}

        async def write(collection: Collection, key: str | None) -> int:
            return await collection.patch(id_, change, if_version=condition.get(id_), idempotency_key=key)

        lsn = await self._write(mark, write, [id_], condition)
        if lsn:
            self._seen[id_] = lsn

    async def delete_where(self) -> None:
        deleted: list[int] = []

        async def write(collection: Collection, key: str | None) -> int:
            count, lsn = await collection.delete_where(ODD, idempotency_key=key)
            deleted[:] = [count]
            return lsn

        await self._write(self._mark(), write, IDS, {}, keyed=True, deleted=deleted)

    async def burst(self) -> None:
        """Several writes at once, most of them to one node, where they share slots."""
        self._near = self._rng.choice(self._nodes)
        await asyncio.gather(*(self.upsert() for _ in range(self._rng.randint(2, 4))))
        self._near = None

    async def again(self) -> None:
        """Sends a request again that was answered long ago. It must not be done again, and be answered as then."""
        if not self._sent:
            return
        write, call, key = self._rng.choice(self._sent)
        node = self._node()
        found = await self._collection(node)
        if found is None or found.uuid != write.collection:
            return
        try:
            lsn = await node.run(call(found, key), CALL_SECS)  # type: ignore[arg-type]
        except UNANSWERED:
            return
        except AkiDBError as error:
            if not found.sealed:
                self._history.failures.append(f"{write.mark}, done in slot {write.lsn}, is refused now: {error}")
            return
        if lsn != write.lsn:
            self._history.failures.append(f"{write.mark}, done in slot {write.lsn}, is now answered with {lsn}")

    def _mark(self) -> str:
        self._calls += 1
        return f"{MARK}{self.name}-{self._calls}"

    def _condition(self, ids: list[str]) -> dict[str, int]:
        """Versions as last seen, of some of the points."""
        if self._rng.random() < 0.5:
            return {}
        return {id_: self._seen.get(id_, 0) for id_ in ids if self._rng.random() < 0.7}

    async def _write(
        self,
        mark: str,
        call: Call,
        ids: Sequence[str],
        expected: dict[str, int],
        *,
        keyed: bool | None = None,
        deleted: list[int] | None = None,
    ) -> int:
        """Writes, under a key again and again to one node after the other while the outcome is unknown."""
        if keyed is None:
            keyed = self._rng.random() < 0.5
        request = Request.of(mark if keyed else None)
        noted: Write | None = None
        for _ in range(TRIES if keyed else 1):
            node = self._node()
            found = await self._collection(node)
            if found is None or (noted is not None and found.uuid != noted.collection):
                continue
            if self._of != found.uuid:  # versions of another collection mean nothing here
                self._of, self._seen = found.uuid, {}
                if noted is None:
                    expected.clear()
            if noted is None:
                parts = {number: Part() for number, _ in route(ids, self._shards)}
                name = str(request.uuid) if request else mark
                noted = Write(name, found.uuid, self._loop.time(), parts, expected=expected)
                self._history.writes.append(noted)
            if await self._attempt(node, found, noted, call, mark if keyed else None):
                break
        if noted is None:
            return 0
        noted.ended = self._loop.time()
        if noted.outcome == "done" and deleted:
            noted.deleted = deleted[0]
        if noted.outcome == "done" and keyed and noted.lsn:  # of what several tries did in parts nobody told a position
            self._sent.append((noted, call, mark))
        return noted.lsn

    async def _attempt(
        self,
        node: Node,
        found: Collection,
        noted: Write,
        call: Call,
        key: str | None,
    ) -> bool:
        """One try; whether its outcome is certain."""
        earlier = {number: part for number, part in noted.parts.items() if part.outcome != "done"}
        first = all(part.refusal == "" for part in earlier.values())
        for part in earlier.values():
            part.outcome, part.refusal = "unknown", "tried"
        try:
            noted.lsn = await node.run(call(found, key), CALL_SECS)  # type: ignore[arg-type]
            for part in noted.parts.values():
                part.outcome = "done"
            if self._rng.random() < 0.5:
                self._token = (found.uuid, found.token, [shard.applied for shard in found.shards])
        except PartialWriteError as partial:
            for number, part in earlier.items():
                if number in partial.written:
                    part.outcome = "done"
                else:
                    _note(part, partial.failures[number], first)
        except AkiDBError as failed:
            if isinstance(failed, NotFoundError) and len(noted.parts) > 1:  # what was written goes with the collection
                return True
            for part in earlier.values():
                _note(part, failed, first)
        except (CrashedError, TimeoutError):
            return False
        return all(part.outcome == "done" or part.refusal in REFUSALS for part in noted.parts.values())

    async def read(self) -> None:
        node = self._node()
        found = await self._collection(node)
        if found is None:
            return
        wanted, least = self._consistency(found)
        began = self._loop.time()
        if wanted.mode == "bounded":
            least = self._bounded(wanted, found.uuid, began)
        try:
            snapshot = await node.run(self._snapshot(found, wanted), CALL_SECS)
        except (CrashedError, TimeoutError, AkiDBError):
            return  # an error is no answer, so it can't be a wrong one
        ended = self._loop.time()
        target = np.array([self._rng.random() for _ in range(DIM)], np.float32)
        (hits,) = query.execute(snapshot, [SearchQuery(target, top_k=5, exact=True)])
        points = query.scroll(snapshot, limit=len(IDS) + 1, with_vector=True)
        self._history.reads.append(
            Read(
                found.uuid, wanted.mode, began, ended, snapshot.lsns, least, points, snapshot.live_rows,
                [(hit.id, hit.score) for hit in hits], target, query.count(snapshot, ODD),
                query.fetch(snapshot, IDS[:5]),
            )
        )  # fmt: skip
        if self._of == found.uuid and self._rng.random() < 0.5:
            versions = {point.id: point.version for point in points}
            self._seen = {id_: versions.get(id_, 0) for id_ in IDS}

    @staticmethod
    async def _snapshot(found: Collection, wanted: Consistency) -> query.Snapshot:
        return await found.snapshot(wanted)

    def _consistency(self, found: Collection) -> tuple[Consistency, list[int]]:
        nothing = [0] * self._shards
        kind = self._rng.choice(("strong", "strong", "strong", "session", "bounded", "eventual"))
        if kind == "session" and self._token is not None and self._token[0] == found.uuid:
            return Consistency("session", token=self._token[1]), self._token[2]
        if kind == "bounded":
            return Consistency("bounded", bounded_ms=self._rng.choice((0, 200, 5000))), nothing
        return (EVENTUAL if kind == "eventual" else STRONG), nothing

    def _bounded(self, wanted: Consistency, uuid: UUID, began: float) -> list[int]:
        """What a read bounded by an age must see at least, if no node's clock is more than a tenth off."""
        since = began - 1.1 * wanted.bounded_ms / 1000
        done = [write for write in self._history.writes if write.outcome == "done" and write.collection == uuid]
        least = [0] * self._shards
        for write in done:
            if write.ended < since and len(write.parts) == 1:  # of several the caller knows the largest position only
                (number,) = write.parts
                least[number] = max(least[number], write.lsn)
        return least

    async def snap(self) -> None:
        """Makes a snapshot; some names are taken."""
        node, name = self._node(), self._rng.choice(SNAPSHOTS)
        found = await self._collection(node)
        if found is not None:
            began = self._loop.time()
            made = await self._try(node, found.create_snapshot(name))
            if made is not None:
                self._history.snapped.append(Snapped(found.uuid, began, self._loop.time(), made.lsn))
                if self._shards > 1:  # of which the largest slot says little
                    await self._read_as_of(node, found, name, began, made=True)

    async def look_back(self) -> None:
        """Reads as of a snapshot."""
        node, name = self._node(), self._rng.choice(SNAPSHOTS)
        found = await self._collection(node)
        if found is not None:
            await self._read_as_of(node, found, name, self._loop.time())

    async def _read_as_of(self, node: Node, found: Collection, name: str, began: float, *, made: bool = False) -> None:
        snapshot = await self._try(node, found.snapshot(Consistency(as_of=name)))
        if snapshot is not None:
            points = query.scroll(snapshot, limit=len(IDS) + 1, with_vector=True)
            told = Snapped(
                found.uuid, began, self._loop.time(), snapshot.lsn, points=points, lsns=snapshot.lsns, made=made
            )
            self._history.snapped.append(told)

    async def revert(self) -> None:
        """Goes back to a snapshot; sometimes to what the last revert found. Again under its key until that is done."""
        node = self._node()
        found = await self._collection(node)
        if found is None:
            return
        listed = [each for each in await self._try(node, found.list_snapshots()) or () if each.complete]
        if not listed:
            return
        chosen, began, key, uuid = self._rng.choice(listed), self._loop.time(), self._mark(), found.uuid
        request = Request.of(key)
        assert request is not None
        for _ in range(TRIES if self._shards > 1 else 1):
            if found is not None and found.uuid == uuid:
                done = await self._try(node, found.revert(chosen.name, idempotency_key=key))
                if done is not None:
                    now, batch = self._loop.time(), request.uuid
                    told = Snapped(uuid, began, now, chosen.lsn, done.lsn, batch=batch, before=done.before)
                    self._history.snapped.append(told)
                    return
            node = self._node()
            found = await self._collection(node)

    async def forget(self) -> None:
        node = self._node()
        found = await self._collection(node)
        if found is not None:
            await self._try(node, found.drop_snapshot(self._rng.choice(SNAPSHOTS)))

    async def collect(self) -> None:
        """A round of garbage collection, out of turn."""
        node = self._node()
        if node.database is not None:
            await self._try(node, node.database.collect_garbage(interval_secs=1, force=True))

    async def tidy(self) -> None:
        """Folds, or builds what is to be built: work that any node may do at any time."""
        node = self._node()
        found = await self._collection(node)
        if found is None:
            return
        maintenance = self._rng.choice(found.writers).maintenance
        assert maintenance is not None
        work: Any = maintenance.fold() if self._rng.random() < 0.7 else found.wait_indexed(5000)
        await self._try(node, work)

    async def drop(self) -> None:
        """Drops the collection and makes it anew."""
        node = self._node()
        if node.database is not None:
            await self._try(node, node.database.drop_collection(NAME))
            await self.create()

    async def create(self) -> None:
        node = self._node()
        if node.database is not None:
            await self._try(node, node.database.create_collection(replace(SPEC, shard_count=self._shards)))

    async def _try(self, node: Node, work: Awaitable[T]) -> T | None:
        try:
            return await node.run(work, CALL_SECS)  # type: ignore[arg-type]
        except (CrashedError, TimeoutError, AkiDBError):
            return None

    async def _collection(self, node: Node) -> Collection | None:
        began, database = self._loop.time(), node.database
        if database is None:
            await asyncio.sleep(0.1)
            return None
        at_hand = self._rng.random() < 0.5
        try:
            return await node.run(_look(database, at_hand), CALL_SECS)
        except NotFoundError:
            self._history.missing.append(Missing(began, self._loop.time()))
            await self.create()
        except (CrashedError, TimeoutError, AkiDBError):
            pass
        return None

    def _node(self) -> Node:
        return self._near if self._near is not None and self._rng.random() < 0.8 else self._rng.choice(self._nodes)


def _note(part: Part, failed: AkiDBError, first: bool) -> None:
    """What an earlier try may have done no refusal of a later undoes, unless the store itself was looked at under the
    key."""
    if failed.code == "collection_not_found" and not first:  # it was dropped, and nothing looked up in it
        return
    if isinstance(failed, ConflictError | NotFoundError):
        part.outcome, part.refusal = "refused", "condition" if isinstance(failed, ConflictError) else "missing"
    elif first and failed.code != "outcome_unknown" and not isinstance(failed, CorruptionError):
        part.outcome, part.refusal = "refused", ""


def _mark_in(number: int, shards: int, mark: str) -> str:
    """An id that is in this shard, and in no other write."""
    names = (f"{mark}/{n}" for n in itertools.count())
    return next(name for name in names if route([name], shards)[0][0] == number)


async def _look(database: Database, at_hand: bool) -> Collection:
    return await database.collection(NAME, at_hand=at_hand)
