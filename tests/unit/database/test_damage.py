"""Objects that were altered, cut short, exchanged or put back from before: an error that says so, or the right answers.

A database with every kind of object is copied, damaged, and opened by a node that knows nothing. AKIDB_TEST_FLIPS is
how many bits are flipped in each object beyond its header, of which each byte has its turn.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from akidb.codec.frame import HEADER
from akidb.database import Database
from akidb.errors import ConfigurationError, CorruptionError, NotFoundError
from akidb.query import SearchQuery
from akidb.storage.memory import MemoryStore
from akidb.types import CollectionSpec, IndexParams, Metric
from tests.unit.collection.faults import DIM, SETTINGS
from tests.unit.stores import FaultyStore

FLIPS = int(os.environ.get("AKIDB_TEST_FLIPS", "12"))
SPEC = CollectionSpec("points", DIM, Metric.EUCLIDEAN, IndexParams(m=4, ef_construction=16, min_vectors_threshold=10))
QUERY = np.full(DIM, 0.1, np.float32)
Objects = dict[str, bytes]


@dataclass(frozen=True)
class Whole:
    """A database's objects, those that it had before its last fold, and what it answers."""

    objects: Objects
    older: Objects
    answers: Any


def _store(objects: Objects) -> FaultyStore:
    """Like a bucket: nothing is deleted, and segments are fetched."""
    inner = MemoryStore()
    for key, body in objects.items():
        inner._set(key, body)
    return FaultyStore(inner, can_delete=False)


def _objects(store: FaultyStore) -> Objects:
    return {key: found.body for key, found in store.inner._objects.items()}  # type: ignore[attr-defined]


async def _answers(store: FaultyStore) -> Any:
    """All that a new node tells; raises what it refuses with."""
    database = await Database.open(store, SETTINGS, read_only=True)
    try:
        collection = await database.collection("points")
        page = await collection.scroll(limit=1000)
        (exact,) = await collection.search([SearchQuery(QUERY, top_k=10, exact=True)], timeout_ms=60_000)
        (near,) = await collection.search([SearchQuery(QUERY, top_k=10)], timeout_ms=60_000)
        return (
            await collection.count(),
            [(point.id, point.version, point.payload_json) for point in page],
            [(hit.id, hit.score) for hit in exact],
            [(hit.id, hit.score) for hit in near],
        )
    finally:
        await database.close()


@pytest.fixture
async def whole() -> Whole:
    """Two segments, one with a graph and deletes; requests under keys; a snapshot; slots after the last fold."""
    store = FaultyStore(can_delete=False)
    database = await Database.open(store, SETTINGS)
    collection = await database.create_collection(SPEC)
    rng = np.random.default_rng(5)

    async def upsert(first: int, count: int, **how: Any) -> None:
        vectors = rng.standard_normal((count, DIM)).astype(np.float32)
        await collection.upsert(
            [f"p{first + i}" for i in range(count)], vectors, [{"n": i} for i in range(count)], **how
        )

    await upsert(0, 40, idempotency_key="first")
    await collection.wait_indexed()
    older = _objects(store)
    await upsert(40, 30)
    await collection.delete(["p1", "p2", "p41"])
    await collection.writers[0].maintenance.fold()
    await collection.create_snapshot("kept")
    await upsert(70, 5)
    await collection.delete(["p3"])
    await database.close()
    objects = _objects(store)
    return Whole(objects, older, await _answers(_store(objects)))


def _kinds(objects: Objects) -> Iterator[tuple[str, str]]:
    """(kind, key) of one or two objects of each kind: the last ones, which HEAD names."""
    by_kind: dict[str, list[str]] = {}
    for key in sorted(objects):
        kind = next(
            (part for part in ("wal", "seg", "del", "req", "man") if f"/{part}/" in key), key.rsplit("/", 1)[-1]
        )
        by_kind.setdefault(f"cat/{kind}" if "/cat/" in key else kind, []).append(key)
    for kind, keys in by_kind.items():
        yield from ((kind, key) for key in keys[-2:])


def _last_slots(objects: Objects) -> set[str]:
    slots = [key for key in objects if "/wal/" in key]
    return {max(key for key in slots if key.startswith(slot.partition("/wal/")[0] + "/")) for slot in slots}


async def _harmless(objects: Objects, whole: Whole, told: str) -> bool:
    """Whether the answers are right though something was altered; else it must have been noticed."""
    try:
        answers = await _answers(_store(objects))
    except (CorruptionError, ConfigurationError, NotFoundError):
        return False
    assert answers == whole.answers, f"{told}: other answers, and no error"
    return True


async def test_every_kind_of_object_is_there(whole: Whole) -> None:
    assert {kind for kind, _ in _kinds(whole.objects)} == {
        "format", "head", "wal", "seg", "del", "req", "man", "cat/head", "cat/wal",
    }  # fmt: skip


async def test_a_flipped_bit_is_found_or_harmless(whole: Whole) -> None:
    rng = random.Random(6)
    noticed: dict[str, int] = {}
    for kind, key in _kinds(whole.objects):
        body = whole.objects[key]
        places = [*range(HEADER.size), *(rng.randrange(HEADER.size, len(body)) for _ in range(FLIPS))]
        for place in places:
            altered = bytearray(body)
            altered[place] ^= 1 << rng.randrange(8)
            harmless = await _harmless({**whole.objects, key: bytes(altered)}, whole, f"byte {place} of {key}")
            noticed[kind] = noticed.get(kind, 0) + (not harmless)
    # A reader needs neither what only requests under a key or snapshots ask for, nor slots that were folded.
    assert {kind for kind, count in noticed.items() if count} >= {"format", "head", "wal", "seg", "del", "cat/wal"}


async def test_an_object_cut_short_or_grown_is_found_or_harmless(whole: Whole) -> None:
    for _, key in _kinds(whole.objects):
        body = whole.objects[key]
        for cut in (b"", body[:1], body[: HEADER.size], body[: len(body) // 2], body[:-1], body + b"\0"):
            await _harmless({**whole.objects, key: cut}, whole, f"{key} of {len(cut)} in place of {len(body)} bytes")


async def test_exchanged_and_missing_objects_are_found_or_harmless(whole: Whole) -> None:
    chosen = [key for _, key in _kinds(whole.objects)]
    for one in chosen:
        without = {key: body for key, body in whole.objects.items() if key != one}
        if one in _last_slots(whole.objects):
            continue  # nothing can tell a log whose end was taken away from one that ends there
        await _harmless(without, whole, f"{one} is gone")
        for other in chosen:
            if one < other:
                swapped = {**whole.objects, one: whole.objects[other], other: whole.objects[one]}
                await _harmless(swapped, whole, f"{one} and {other} exchanged")


async def test_an_older_head_changes_no_answer(whole: Whole) -> None:
    heads = [key for key in whole.older if key.endswith("/head")]
    assert any(whole.older[key] != whole.objects[key] for key in heads)
    for key in heads:
        assert await _harmless({**whole.objects, key: whole.older[key]}, whole, f"{key} of before")
