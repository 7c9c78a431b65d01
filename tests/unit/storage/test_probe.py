from __future__ import annotations

import uuid

import pytest

from akidb.errors import ConfigurationError, UnavailableError
from akidb.storage.memory import MemoryStore
from akidb.storage.object_store import Body, ObjectStore, Reply
from akidb.storage.probe import require_conditional_puts
from akidb.storage.wrapper import StoreWrapper
from tests.unit.storage.faulty import FaultyStore


class _Careless(StoreWrapper):
    """Ignores one of the two conditions."""

    def __init__(self, ignored: str) -> None:
        super().__init__(MemoryStore())
        self.ignored = ignored
        self._location = f"careless-{uuid.uuid4()}"

    @property
    def location(self) -> str:
        return self._location

    async def put_if_absent(self, key: str, body: Body) -> Reply:
        return await (self.put(key, body) if self.ignored == "absent" else super().put_if_absent(key, body))

    async def put_if_match(self, key: str, body: Body, etag: str) -> Reply:
        return await (self.put(key, body) if self.ignored == "match" else super().put_if_match(key, body, etag))


@pytest.mark.parametrize(("ignored", "named"), [("absent", "If-None-Match"), ("match", "If-Match")])
async def test_a_store_that_ignores_conditions_is_refused_every_time(ignored: str, named: str) -> None:
    store = _Careless(ignored)
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=named) as refused:
            await require_conditional_puts(store)
        assert refused.value.code == "no_conditional_writes"
        assert store.location in str(refused.value)
    assert [info.key async for info in store.list_from("")] == []


async def test_real_stores_pass_and_keep_nothing(store: ObjectStore) -> None:
    await require_conditional_puts(store)
    assert [info.key async for info in store.list_from("")] == []


async def test_it_asks_once_per_process_and_location() -> None:
    store = _Careless("nothing")
    await require_conditional_puts(store)
    store.ignored = "absent"
    await require_conditional_puts(store)


async def test_a_store_that_is_away_is_not_judged() -> None:
    class _Away(FaultyStore):
        location = f"away-{uuid.uuid4()}"

    store = _Away(failures=1)
    with pytest.raises(UnavailableError):
        await require_conditional_puts(store)
    await require_conditional_puts(store)
    assert store.calls.count("put_if_absent") == 3
