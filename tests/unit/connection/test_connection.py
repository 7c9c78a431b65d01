"""One surface over every kind of place: the same calls give the same answers, with and without await."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import akidb
from akidb.client import RemoteCollection, RemoteDatabase
from akidb.config import Settings
from akidb.connection.embedded import EmbeddedCollection, EmbeddedDatabase
from akidb.errors import (
    ConfigurationError,
    ConflictError,
    InvalidInputError,
    NotFoundError,
    ReadOnlyError,
    UnavailableError,
)
from tests.nodes import running

DIM = 4


@pytest.fixture(params=["memory", "folder", pytest.param("s3", marks=pytest.mark.s3), "http"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Settings | None]]:
    match request.param:
        case "memory":
            yield ":memory:", None
        case "folder":
            yield str(tmp_path / "data"), None
        case "s3":
            yield f"s3://connection/{tmp_path.name.replace('_', '-').lower()}", request.getfixturevalue("s3_settings")
        case "http":
            with running({"AKIDB_DATA_DIR": str(tmp_path / "data")}, tmp_path) as node:
                yield f"http://127.0.0.1:{node.port}", None


def test_the_same_calls_everywhere(place: tuple[str, Settings | None]) -> None:
    where, settings = place
    rng = np.random.default_rng(3)
    data = rng.standard_normal((20, DIM)).astype(np.float32)
    with akidb.connect(where, settings=settings) as database:
        assert database.list_collections() == []
        collection = database.create_collection("c", DIM, metric="euclidean")
        with pytest.raises(ConflictError) as conflict:
            database.create_collection("c", DIM)
        assert conflict.value.code == "collection_exists"
        collection.upsert(range(20), data, [{"n": n} for n in range(20)])
        assert collection.count() == 20
        assert collection.count({"must": [{"field": "n", "range": {"lt": 5}}]}) == 5
        hits = collection.search(data[3], 2, with_vector=True)
        assert (hits[0].id, hits[0].score, hits[0].payload) == ("3", 0.0, {"n": 3})
        assert np.array_equal(hits[0].vector, data[3])
        batch = collection.search_batch(data[:5], 1, exact=True, filter={"must_not": [{"field": "n", "match": [0, 1]}]})
        assert [hits[0].id for hits in batch][2:] == ["2", "3", "4"]
        (first, missing) = collection.get([7, "nobody"])
        assert np.array_equal(first.vector, data[7])
        assert missing is None
        collection.delete(["7"])
        assert collection.get(["7"]) == [None]
        collection.wait_indexed()
        info = collection.info()
        assert (info.count, info.spec.dim, info.index.pending) == (19, DIM, 0)
        same = database.get_or_create_collection("c", DIM, metric="euclidean")
        assert same.count() == 19
        with pytest.raises(ConflictError, match="asked for 5"):
            database.get_or_create_collection("c", 5)
        with pytest.raises(InvalidInputError, match="3 dimensions, the collection has 4"):
            collection.search([1.0, 2.0, 3.0])
        with pytest.raises(NotFoundError):
            database.collection("other")
        assert database.list_collections() == ["c"]
        database.drop_collection("c")
        with pytest.raises(NotFoundError):
            collection.count()


async def test_asyncio_twin(place: tuple[str, Settings | None]) -> None:
    where, settings = place
    database = await akidb.connect_async(where, settings=settings)
    collection = await database.create_collection("c", DIM)
    await collection.upsert(["a", "b"], np.eye(2, DIM), [{"x": 1}, None])
    assert [hit.id for hit in await collection.search([1.0, 0.1, 0, 0], 2)] == ["a", "b"]
    assert (await collection.get(["a"]))[0].payload == {"x": 1}
    await database.close()


def test_what_was_written_is_there_for_the_next_connection(tmp_path: Path) -> None:
    with akidb.connect(tmp_path) as database:
        database.create_collection("c", DIM).upsert(["a"], np.ones((1, DIM)))
    with akidb.connect(tmp_path, read_only=True) as database:
        collection = database.collection("c")
        assert collection.count() == 1
        for write in (
            lambda: collection.upsert(["b"], np.ones((1, DIM))),
            lambda: collection.delete(["a"]),
            lambda: database.create_collection("d", DIM),
            lambda: database.drop_collection("c"),
        ):
            with pytest.raises(ReadOnlyError):
                write()


def test_two_connections_of_one_process_share_a_folder(tmp_path: Path) -> None:
    with akidb.connect(tmp_path) as one, akidb.connect(tmp_path) as two:
        first = one.create_collection("c", DIM)
        second = two.collection("c")
        for n in range(0, 20, 2):
            first.upsert([n], np.ones((1, DIM)))
            second.upsert([n + 1], np.ones((1, DIM)))
            assert (first.count(), second.count()) == (n + 2, n + 2)


def test_closing_twice_is_no_error_and_use_afterwards_is_refused(tmp_path: Path) -> None:
    database = akidb.connect(tmp_path)
    collection = database.create_collection("c", DIM)
    database.close()
    database.close()
    for call in (collection.count, database.list_collections, lambda: collection.search(np.ones(DIM))):
        with pytest.raises(UnavailableError):
            call()


FORKS = """
import os, sys, numpy, akidb
parent = akidb.connect(sys.argv[1])
collection = parent.create_collection("c", 4)
collection.upsert(["a"], numpy.ones((1, 4)))
child = os.fork()
if child == 0:
    try:
        collection.count()
        os._exit(1)
    except akidb.errors.UnavailableError as refused:
        assert refused.code == "forked", refused
    own = akidb.connect(sys.argv[1])
    own.collection("c").upsert(["b"], numpy.ones((1, 4)))
    own.close()
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert collection.count() == 2
parent.close()
"""

INTERRUPTED = """
import signal, sys, threading, numpy, akidb
from akidb.storage import memory
database = akidb.connect(":memory:")
collection = database.create_collection("c", 4)
get = memory.MemoryStore.get
async def stand_still(self, key, **options):
    import asyncio
    while True:  # one that comes just before the main thread begins to wait would be told only after its wait
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        await asyncio.sleep(0.05)
memory.MemoryStore.get = stand_still
try:
    collection.count()
    sys.exit("was not interrupted")
except KeyboardInterrupt:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    memory.MemoryStore.get = get
"""

LEFT_OPEN = """
import numpy, akidb
from akidb.collection import maintenance
maintenance.TICK_SECS = maintenance.IDLE_FOLD_SECS = 0
collection = akidb.connect(":memory:").create_collection("c", 64, index=akidb.IndexParams("hnsw", 64, 2000))
collection.upsert(range(50_000), numpy.random.default_rng(0).standard_normal((50_000, 64)))
while collection.info().index.indexed == 0:
    pass
print(collection.info().index.indexed)
"""


@pytest.mark.parametrize("script", [FORKS, INTERRUPTED, LEFT_OPEN], ids=["fork", "interrupt", "left open"])
def test_processes_that_fork_are_interrupted_or_just_end(script: str, tmp_path: Path) -> None:
    """Each would hang, or (left open) build its graph for minutes before it ends, if its threads were forgotten."""
    ended = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "data")], capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 0, ended.stderr


def test_read_only_open_of_nothing_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no AkiDB database"):
        akidb.connect(tmp_path / "data", read_only=True)
    assert not (tmp_path / "data").exists()


def test_a_folder_of_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ConfigurationError, match="holds no AkiDB store"):
        akidb.connect(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("where", ["", "ftp://x", "s3://"])
def test_places_of_no_known_kind_are_refused(where: str) -> None:
    with pytest.raises(InvalidInputError, match=r"store|bucket"):
        akidb.connect(where)


@pytest.mark.parametrize(
    ("embedded", "remote"), [(EmbeddedCollection, RemoteCollection), (EmbeddedDatabase, RemoteDatabase)]
)
def test_embedded_and_remote_have_the_same_calls(embedded: type, remote: type) -> None:
    def calls(kind: type) -> set[str]:
        return {name for name, _ in inspect.getmembers(kind, inspect.isfunction) if not name.startswith("_")}

    assert calls(embedded) - {"queries"} == calls(remote) - {"connect"}
