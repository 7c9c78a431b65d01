"""FORMAT and the catalogue's log: golden files stay readable, and the documents' records are what is written."""

from __future__ import annotations

import re
from pathlib import Path
from uuid import UUID

import pytest

from akidb.codec import encode
from akidb.codec.frame import KIND_CATALOGUE_HEAD, KIND_CATALOGUE_SLOT, KIND_FORMAT
from akidb.database.catalogue import Altered, Catalogue, Created, Dropped, Dropping, record
from akidb.database.format import StoreFormat, ensure_format
from akidb.manifest import Head, decode_head, encode_head
from akidb.storage.memory import MemoryStore
from akidb.types import CollectionSpec, IndexParams, Metric
from akidb.wal import CHAIN_START, Batch, Entry, Slot, decode_slot, encode_slot

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden"
TENANT, WRITER, STORE = UUID(int=0), UUID(int=0x22), UUID(int=0x11)
BOOKS, FILMS = UUID(int=0x99), UUID(int=0xAA)
INDEX = IndexParams("auto", 16, 400, 200, 100)
SPEC = CollectionSpec("books", 3, Metric.COSINE, INDEX)
RECORDS = [
    Created.of(BOOKS, SPEC),
    Created.of(FILMS, CollectionSpec("films", 2, Metric.DOT, INDEX, {"fields": {"year": "integer"}}, 4)),
    Altered.of(BOOKS, {"m": 32, "ef_search": 300}),
    Dropping(FILMS),
    Dropped(FILMS),
]
SLOT = Slot(1, TENANT, WRITER, CHAIN_START, [Batch(UUID(int=n + 1), [record(what)]) for n, what in enumerate(RECORDS)])
HEAD = Head(0, UUID(int=0x44), (UUID(int=0x44),), (), folded=1, garbage=1, chain=CHAIN_START, live_count=0)
FORMAT = b'{"store":"00000000-0000-0000-0000-000000000011","min_reader":1,"min_writer":1,"features":0}'


def written() -> dict[str, bytes]:
    return {
        "format": encode(KIND_FORMAT, STORE, {"format": FORMAT}),
        "catalogue-slot": encode_slot(SLOT, kind=KIND_CATALOGUE_SLOT)[0],
        "catalogue-head": encode_head(HEAD, shard=TENANT, kind=KIND_CATALOGUE_HEAD),
    }


@pytest.mark.parametrize("name", ["format", "catalogue-slot", "catalogue-head"])
def test_what_is_written_is_the_golden_file(name: str) -> None:
    assert written()[name] == (GOLDEN / f"{name}-1.0.bin").read_bytes()


def test_the_documents_records_are_what_is_written() -> None:
    text = (ROOT / "docs/formats/catalogue.md").read_text()
    (told,) = re.findall(r"```\n(\{.*?)```", text, re.DOTALL)
    records = [operation.json.decode() for batch in SLOT.batches for operation in batch.operations]  # type: ignore[union-attr]
    assert told.splitlines() == [FORMAT.decode(), *records]


async def test_format_1_0_is_read() -> None:
    store = MemoryStore()
    await store.put("format", (GOLDEN / "format-1.0.bin").read_bytes())
    assert await ensure_format(store, create=True) == StoreFormat(STORE)


async def test_catalogue_1_0_is_read() -> None:
    slot = decode_slot(
        (GOLDEN / "catalogue-slot-1.0.bin").read_bytes(), lsn=1, shard=TENANT, name="x", kind=KIND_CATALOGUE_SLOT
    )
    assert all(isinstance(operation, Entry) for batch in slot.batches for operation in batch.operations)
    catalogue = Catalogue()
    await catalogue.apply(slot)
    (books,) = catalogue.collections.values()
    assert (books.uuid, books.name, books.dim, books.m, books.ef_search) == (BOOKS, "books", 3, 32, 300)
    assert catalogue.dropped == {FILMS: 4}
    head = (GOLDEN / "catalogue-head-1.0.bin").read_bytes()
    assert decode_head(head, shard=TENANT, name="x", kind=KIND_CATALOGUE_HEAD) == HEAD
