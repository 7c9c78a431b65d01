"""`check` against stores that keep every rule, and against one for each way of breaking them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace

import pytest

from akidb.errors import ConfigurationError, UnavailableError
from akidb.storage.conformance import RULES, Verdict, check
from akidb.storage.memory import MemoryStore
from akidb.storage.object_store import Body, ObjectInfo, ObjectStore, Reply, Status
from akidb.storage.wrapper import StoreWrapper
from tests.unit.storage.faulty import FaultyStore


async def _verdicts(store: ObjectStore) -> list[Verdict]:
    return [verdict async for verdict in check(store, rounds=2)]


async def test_a_good_store_keeps_every_rule_and_nothing_is_left(store: ObjectStore) -> None:
    verdicts = await _verdicts(store)
    assert [verdict.rule for verdict in verdicts] == list(RULES)
    assert [verdict for verdict in verdicts if verdict.fault is not None] == []
    assert [info.key async for info in store.list_from("")] == []


class _Broken(StoreWrapper):
    """A store that keeps every rule; each subclass breaks one."""

    def __init__(self) -> None:
        super().__init__(MemoryStore())


class _IgnoresAbsent(_Broken):
    async def put_if_absent(self, key: str, body: Body) -> Reply:
        return await self.put(key, body)


class _IgnoresMatch(_Broken):
    async def put_if_match(self, key: str, body: Body, etag: str) -> Reply:
        if not (await self.head(key)).ok:
            return Reply(Status.NOT_FOUND)
        return await self.put(key, body)


class _ChecksThenCreates(_Broken):
    """Right one by one; with something between the look and the write, as in a server without a lock."""

    async def put_if_absent(self, key: str, body: Body) -> Reply:
        found = await self.get(key)
        await asyncio.sleep(0)
        return Reply(Status.CONDITION_FAILED, date=1.0) if found.ok else await self.put(key, body)


class _ChecksThenSwaps(_Broken):
    async def put_if_match(self, key: str, body: Body, etag: str) -> Reply:
        found = await self.get(key)
        await asyncio.sleep(0)
        return await (self.put(key, body) if found.etag == etag else super().put_if_match(key, body, etag))


class _RacyWhenLarge(_ChecksThenCreates):
    async def put_if_absent(self, key: str, body: Body) -> Reply:
        small = len(bytes(body)) < 1000
        return await (self.inner.put_if_absent(key, body) if small else super().put_if_absent(key, body))


class _SwapsMissing(_Broken):
    async def put_if_match(self, key: str, body: Body, etag: str) -> Reply:
        found = await self.head(key)
        return await (super().put_if_match(key, body, etag) if found.ok else self.put(key, body))


class _ReadsStale(_Broken):
    """A get soon after a put shows what was there before."""

    def __init__(self) -> None:
        super().__init__()
        self.before: dict[str, Reply] = {}

    async def put(self, key: str, body: Body) -> Reply:
        self.before[key] = await self.inner.get(key)
        return await super().put(key, body)

    async def get(
        self, key: str, *, byte_range: tuple[int, int] | None = None, if_none_match: str | None = None
    ) -> Reply:
        if "/read" in key and key in self.before:
            return self.before.pop(key)
        return await super().get(key, byte_range=byte_range, if_none_match=if_none_match)


class _AlwaysSends(_Broken):
    async def get(
        self, key: str, *, byte_range: tuple[int, int] | None = None, if_none_match: str | None = None
    ) -> Reply:
        return await super().get(key, byte_range=byte_range)


class _IgnoresRanges(_Broken):
    async def get(
        self, key: str, *, byte_range: tuple[int, int] | None = None, if_none_match: str | None = None
    ) -> Reply:
        ranged = byte_range is not None and "/range" in key
        return await super().get(key, byte_range=None if ranged else byte_range, if_none_match=if_none_match)


class _NoDate(_Broken):
    async def get(
        self, key: str, *, byte_range: tuple[int, int] | None = None, if_none_match: str | None = None
    ) -> Reply:
        return replace(await super().get(key, byte_range=byte_range, if_none_match=if_none_match), date=None)


class _LosesThePagesEdge(_Broken):
    async def list_from(self, prefix: str, start_after: str | None = None) -> AsyncIterator[ObjectInfo]:
        number = 0
        async for info in super().list_from(prefix, start_after):
            number += 1
            if number != 1001:
                yield info


class _StartsAtInsteadOfAfter(_Broken):
    async def list_from(self, prefix: str, start_after: str | None = None) -> AsyncIterator[ObjectInfo]:
        async for info in super().list_from(prefix):
            if start_after is None or info.key >= start_after:
                yield info


class _LosesAPart(_Broken):
    async def put(self, key: str, body: Body) -> Reply:
        data = bytes(body)
        return await super().put(key, data if len(data) < 1 << 24 else data[: -1 << 20])


class _Undead(_Broken):
    async def delete_many(self, keys: Iterable[str]) -> None:
        await super().delete_many([key for key in keys if "/gone/" not in key])


@pytest.mark.parametrize(
    ("store", "rules"),
    [
        (_IgnoresAbsent, {"create once", "create race"}),
        (_IgnoresMatch, {"compare and swap", "swap race"}),
        (_ChecksThenCreates, {"create race"}),
        (_ChecksThenSwaps, {"swap race"}),
        (_RacyWhenLarge, {"create race"}),
        (_SwapsMissing, {"swap of a missing object"}),
        (_ReadsStale, {"read after write"}),
        (_AlwaysSends, {"not modified"}),
        (_IgnoresRanges, {"ranges"}),
        (_NoDate, {"dates"}),
        (_LosesThePagesEdge, {"list pages"}),
        (_StartsAtInsteadOfAfter, {"list pages"}),
        (_LosesAPart, {"multipart"}),
        (_Undead, {"delete"}),
    ],
)
async def test_what_is_broken_is_named(store: type[_Broken], rules: set[str]) -> None:
    found = {verdict.rule for verdict in await _verdicts(store()) if verdict.fault}
    assert found == rules


class _HangsUp(_Broken):
    """Keeps every rule; of two answers to a create it loses one, now a refusal, now the winner's."""

    asked = 0

    async def put_if_absent(self, key: str, body: Body) -> Reply:
        reply = await super().put_if_absent(key, body)
        self.asked += 1
        if "race" in key and self.asked % 2:
            raise UnavailableError("connection reset")
        return reply


async def test_an_answer_that_is_lost_in_a_race_decides_nothing() -> None:
    assert {verdict.rule for verdict in await _verdicts(_HangsUp()) if verdict.fault} == set()


async def test_where_deletes_are_denied_one_object_is_left() -> None:
    class _Keeps(_Broken):
        async def delete_many(self, keys: Iterable[str]) -> None:
            raise ConfigurationError("denied")

    store = _Keeps()
    with pytest.raises(ConfigurationError):
        await _verdicts(store)
    assert len([info async for info in store.list_from("")]) == 1


async def test_a_store_that_goes_away_is_no_verdict() -> None:
    with pytest.raises(UnavailableError):
        await _verdicts(FaultyStore(failures=1))
