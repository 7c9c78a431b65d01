"""A node over a store that fails when it is told to."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from akidb.database import Database
from akidb.storage.memory import MemoryStore
from tests.unit.collection.faults import SETTINGS, FaultyStore


@pytest.fixture
async def store() -> FaultyStore:
    return FaultyStore(MemoryStore())


@pytest.fixture
async def database(store: FaultyStore) -> AsyncIterator[Database]:
    database = await Database.open(store, SETTINGS)
    yield database
    store.heal()
    await database.close()
