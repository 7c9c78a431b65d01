"""Clients over HTTP: they write, delete and read single points through any node, and note what they were told."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import aiohttp

from tests.linearizability.history import ANY, History, Operation, Outcome, Value

DIM = 4
IDS = tuple(f"p{n}" for n in range(6))
CALL_SECS = 8.0
TRIES = 3

REFUSALS = {409: "point_exists", 412: "version_mismatch"}


class Client:
    """One caller of the nodes at `urls`. What it was told last it uses for conditions."""

    def __init__(
        self, name: str, urls: Sequence[str], collection: str, history: History, told: Counter[str], rng: random.Random
    ) -> None:
        self.name = name
        self._urls, self._path, self._history, self._told, self._rng = (
            urls,
            f"/collections/{collection}",
            history,
            told,
            rng,
        )
        self._marks = (f"{collection}-{name}-{n}" for n in itertools.count())
        self._seen: dict[str, tuple[Value, int]] = {}

    async def live(self, session: aiohttp.ClientSession, until: float) -> None:
        while time.monotonic() < until:
            chosen = self._rng.random()
            id_ = self._rng.choice(IDS)
            if chosen < 0.45:
                await self.read(session, self._rng.choice(self._urls), id_)
            elif chosen < 0.98:
                await self._write(session, id_)
            else:
                await self._call(session, "GET", self._rng.choice(self._urls), "/index?wait_ms=500")
            await asyncio.sleep(self._rng.random() * 0.02)

    async def read(self, session: aiohttp.ClientSession, url: str, id_: str) -> bool:
        """A read with the default consistency, which is strong. Whether it was answered."""
        began = time.monotonic()
        status, answer = await self._call(session, "POST", url, "/vectors/get", {"ids": [id_], "with_vector": False})
        ended = time.monotonic()
        if status != 200:
            return False  # an error is no answer, so it can't be a wrong one
        (point,) = answer["points"]
        value, version = (None, 0) if point is None else (point["payload"]["m"], point["version"])
        self._seen[id_] = value, version
        told = Operation(self.name, "read", id_, value, began, ended, "done", version=version)
        self._history.operations.append(told)
        return True

    async def _write(self, session: aiohttp.ClientSession, id_: str) -> None:
        """One write, under a key again and again to one node after the other while its outcome is unknown."""
        mark = next(self._marks)
        value = None if self._rng.random() < 0.25 else mark
        expected, condition = self._condition(id_)
        path, body = self._request(id_, value, condition)
        keyed = self._rng.random() < 0.4
        operation = Operation(self.name, "write", id_, value, time.monotonic(), expected=expected)
        self._history.operations.append(operation)
        outcomes: list[Outcome] = []
        while len(outcomes) < (TRIES if keyed else 1):
            url = self._rng.choice(self._urls)
            status, answer = await self._call(session, "POST", url, path, body, mark if keyed else None)
            outcomes.append(_outcome(status, answer))
            operation.tries.append(f"{time.monotonic():.4f} {url[-5:]} {status}")
            if outcomes[-1] in ("done", "refused"):
                break
        # A failure undoes nothing that an earlier try may have done; an answer under the same key tells of that, too.
        last = outcomes[-1]
        operation.outcome = "unknown" if last == "failed" and "unknown" in outcomes else last
        if operation.outcome != "unknown":
            operation.ended = time.monotonic()
        if operation.outcome == "done":
            operation.version = answer["lsn"]
            self._seen[id_] = value, 0 if value is None else answer["lsn"]

    def _condition(self, id_: str) -> tuple[Any, int | None]:
        """What the write expects, and the version that it names for that."""
        if id_ not in self._seen or self._rng.random() < 0.4:
            return ANY, None
        return self._seen[id_]

    def _request(self, id_: str, value: Value, condition: int | None) -> tuple[str, dict[str, Any]]:
        if value is None:
            return "/vectors/delete", {"ids": [id_]} | ({} if condition is None else {"if_version": condition})
        point: dict[str, Any] = {"id": id_, "vector": [self._rng.random() for _ in range(DIM)], "payload": {"m": value}}
        if condition == 0 and self._rng.random() < 0.5:
            return "/vectors", {"vectors": [point], "if_absent": True}
        return "/vectors", {"vectors": [point | ({} if condition is None else {"if_version": condition})]}

    async def _call(
        self, session: aiohttp.ClientSession, method: str, url: str, path: str, body: Any = None, key: str | None = None
    ) -> tuple[int, Any]:
        """Status and answer; status 0: it was not sent, -1: no answer came."""
        headers = {} if key is None else {"Idempotency-Key": key}
        try:
            async with session.request(method, url + self._path + path, json=body, headers=headers) as answer:
                status, text = answer.status, await answer.json(content_type=None)
        except aiohttp.ClientConnectorError:
            status, text = 0, None
        except (aiohttp.ClientError, TimeoutError):
            status, text = -1, None
        self._told[f"{status} {text['code']}" if status >= 400 else str(status)] += 1
        return status, text


def _outcome(status: int, answer: Any) -> Outcome:
    if status == 200:
        return "done"
    if status == -1:
        return "unknown"
    if status == 0:
        return "failed"
    if REFUSALS.get(status) == answer["code"]:
        return "refused"
    assert status >= 500, answer
    assert answer["code"] != "internal_error", answer
    return "unknown" if answer["code"] == "outcome_unknown" else "failed"
