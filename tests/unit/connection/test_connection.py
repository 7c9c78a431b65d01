"""One surface over every kind of place: the same calls give the same answers, with and without await."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import akidb
from akidb.client import RemoteCollection, RemoteDatabase
from akidb.collection import maintenance
from akidb.config import Settings
from akidb.connection import AsyncConnection
from akidb.connection.embedded import EmbeddedCollection, EmbeddedDatabase
from akidb.connection.io_loop import IoLoop
from akidb.errors import (
    ConfigurationError,
    ConflictError,
    InvalidInputError,
    NotFoundError,
    ReadOnlyError,
    UnavailableError,
)
from akidb.types import EVENTUAL, Consistency
from tests.nodes import running
from tests.servers import Answer, s3_error, scripted_s3

DIM = 4


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
        collection.alter_index({"ef_search": 90, "quantization": "none"})
        index = collection.info().spec.index
        assert (index.ef_search, index.quantization, index.m) == (90, "none", 16)
        with pytest.raises(InvalidInputError, match="ef_search"):
            collection.alter_index({"ef_search": 0})
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


def test_points_are_listed_patched_and_deleted_by_filter_everywhere(place: tuple[str, Settings | None]) -> None:
    where, settings = place
    odd = ["a", ".", "..", "x/y?z=%41", "é"]
    with akidb.connect(where, settings=settings) as database:
        index = {"type": "hnsw", "m": 8}
        collection = database.create_collection("c", DIM, metric="l2", index=index)
        assert (collection.info().spec.index.type, collection.info().spec.index.m) == ("hnsw", 8)
        collection.upsert(odd, np.eye(5, DIM), [{"n": n} for n in range(5)])
        pages = [collection.scroll(limit=3, with_vector=True)]
        pages.append(collection.scroll(pages[0][-1].id, 3))
        assert [point.id for page in pages for point in page] == sorted(odd)
        assert (pages[0][0].vector is None, pages[1][0].vector is None) == (False, True)
        assert [point.id for point in collection.scroll(filter={"field": "n", "match": 3})] == ["x/y?z=%41"]
        for id in odd:
            collection.patch(id, {"seen": True, "n": None} if id == "a" else b'{"seen": true}')
        assert collection.get(["a", ".."])[0].payload == {"seen": True}
        assert collection.count({"field": "seen", "match": True}) == 5
        near = collection.search(id="a", top_k=2, exact=True)
        assert ["a" in [hit.id for hit in near], len(near)] == [False, 2]
        assert collection.delete_where({"field": "n", "range": {"gte": 3}}) == 2
        assert collection.delete_where({"field": "n", "match": 77}) == 0
        assert collection.count() == 3
        for refused, kind, says in (
            (lambda: collection.delete_where({}), InvalidInputError, "no condition"),
            (lambda: collection.delete_where(None), InvalidInputError, "filter"),
            (lambda: collection.patch("nobody", {}), NotFoundError, "no point 'nobody'"),
            (lambda: collection.patch("a", None), InvalidInputError, "expected a JSON object"),
            (lambda: collection.patch("", {}), InvalidInputError, "id"),
            (lambda: collection.search(id="nobody"), NotFoundError, "no point 'nobody'"),
            (collection.search, InvalidInputError, "expected one of vector and id"),
            (lambda: collection.search(np.ones(DIM), id="a"), InvalidInputError, "expected one of vector and id"),
            (lambda: collection.scroll(limit=0), InvalidInputError, "limit: is 0, expected an integer from 1 to 1000"),
            (lambda: collection.get("ab"), InvalidInputError, "ids: is one text, expected a list of ids"),
            (lambda: collection.delete("ab"), InvalidInputError, "ids: is one text, expected a list of ids"),
        ):
            with pytest.raises(kind, match=says):
                refused()
        assert collection.count() == 3


def test_consistency_is_said_as_in_rest_everywhere(place: tuple[str, Settings | None]) -> None:
    where, settings = place
    with akidb.connect(where, settings=settings) as database:
        collection = database.create_collection("c", DIM)
        other = database.create_collection("d", DIM)
        collection.upsert(["a"], np.ones((1, DIM)))
        for given in (
            "strong",
            "eventual",
            {"session": collection.token},
            {"bounded_ms": 9},
            akidb.Consistency(),
            None,
        ):
            assert len(collection.search(np.ones(DIM), consistency=given)) == 1
            assert collection.count(consistency=given) == 1
            assert len(collection.scroll(consistency=given)) == 1
            assert collection.get(["a"], consistency=given) != [None]
        for given in ("weak", {"session": 3}, {"bounded_ms": "x"}, {"bounded_ms": True}, {"session": "a", "x": 1}, 7):
            with pytest.raises(InvalidInputError, match="consistency: is") as refused:
                collection.search(np.ones(DIM), consistency=given)
            assert refused.value.code == "invalid_consistency"
        with pytest.raises(InvalidInputError, match="another collection"):
            collection.count(consistency={"session": other.token})


async def test_asyncio_twin(place: tuple[str, Settings | None]) -> None:
    where, settings = place
    async with await akidb.connect_async(where, settings=settings) as database:
        await _use(database)


async def _use(database: AsyncConnection) -> None:
    collection = await database.create_collection("c", DIM)
    await collection.upsert(["a", "b"], np.eye(2, DIM), [{"x": 1}, None])
    assert [hit.id for hit in await collection.search([1.0, 0.1, 0, 0], 2)] == ["a", "b"]
    assert (await collection.get(["a"]))[0].payload == {"x": 1}
    assert await (await database.get_or_create_collection("c", DIM)).count() == 2
    with pytest.raises(ConflictError, match="asked for 5"):
        await database.get_or_create_collection("c", 5)
    assert (await database.get_or_create_collection("d", 3, metric="dot")).dim == 3


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


@pytest.mark.parametrize("folder", [False, True])
def test_a_search_asks_the_background_only_when_something_was_written(
    folder: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    run = IoLoop.run

    def counted(self: IoLoop, coroutine: Coroutine[Any, Any, Any]) -> Any:
        asked.append(coroutine.__name__)
        return run(self, coroutine)

    with akidb.connect(tmp_path if folder else ":memory:") as database:
        collection = database.create_collection("c", DIM)
        collection.upsert(["a"], np.ones((1, DIM)))
        collection.search(np.ones(DIM))  # makes the snapshot that the others use
        monkeypatch.setattr(IoLoop, "run", counted)
        for consistency in (
            None,
            EVENTUAL,
            Consistency("session", token=collection.token),
            Consistency("bounded", bounded_ms=1),
        ):
            assert [hit.id for hit in collection.search(np.ones(DIM), consistency=consistency)] == ["a"]
        assert asked == []
        collection.upsert(["b"], np.ones((1, DIM)))
        assert [hit.id for hit in collection.search(np.ones(DIM))] == ["a", "b"]
        assert asked == ["upsert", "snapshot"]


def test_searches_of_many_threads_see_what_was_acknowledged_before_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One connection writes and folds, which collects the slots; threads of another search all the while."""
    monkeypatch.setattr(maintenance, "TAIL_ROWS_MAX", 7)
    acknowledged = 0
    with akidb.connect(tmp_path) as one, akidb.connect(tmp_path, read_only=True) as two:
        writer = one.create_collection("c", DIM, metric="euclidean")
        reader = two.collection("c")

        def search() -> int:
            answered = 0
            while acknowledged < 100:
                before = acknowledged
                found = {int(hit.id) for hit in reader.search(np.zeros(DIM), 1000)}
                assert found >= set(range(before))
                answered += 1
            return answered

        with ThreadPoolExecutor(3) as threads:
            searches = [threads.submit(search) for _ in range(3)]
            try:
                for n in range(100):
                    writer.upsert([n], np.full((1, DIM), n))
                    acknowledged = n + 1
            finally:
                acknowledged = 100
            assert all(found.result() for found in searches)
        assert writer.info().segments


def test_closing_twice_is_no_error_and_use_afterwards_is_refused(place: tuple[str, Settings | None]) -> None:
    where, settings = place
    database = akidb.connect(where, settings=settings)
    collection = database.create_collection("c", DIM)
    database.close()
    database.close()
    for call in (
        collection.count,
        collection.info,
        collection.wait_indexed,
        database.list_collections,
        lambda: database.collection("c"),
        lambda: database.create_collection("d", DIM),
        lambda: collection.search(np.ones(DIM)),
        lambda: collection.count(consistency="eventual"),
        lambda: collection.upsert(["a"], np.ones((1, DIM))),
        lambda: collection.delete(["a"]),
        lambda: collection.patch("a", {}),
        lambda: collection.alter_index({"m": 8}),
    ):
        with pytest.raises(UnavailableError, match=r"^the connection is closed$") as refused:
            call()
        assert refused.value.code == "closing"


FORKS = """
import os, sys, numpy, akidb
parent = akidb.connect(sys.argv[1])
collection = parent.create_collection("c", 4)
collection.upsert(["a"], numpy.ones((1, 4)))
collection.search(numpy.ones(4))
child = os.fork()
if child == 0:
    for call in (collection.count, lambda: collection.search(numpy.ones(4))):
        try:
            call()
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
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs have it ignored
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
    assert (ended.returncode, ended.stderr) == (0, "")


LEFT_OPEN_ANYWHERE = """
import numpy, sys, akidb
collection = akidb.connect(sys.argv[1]).create_collection("c", 4)
collection.upsert(["a"], numpy.ones((1, 4)))
assert collection.count() == 1
"""


def test_a_connection_left_open_ends_without_a_word(place: tuple[str, Settings | None]) -> None:
    command = [sys.executable, "-W", "always", "-c", LEFT_OPEN_ANYWHERE, place[0]]
    if place[1] is None:  # a process of its own knows nothing of a test's bucket
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert (ended.returncode, ended.stderr) == (0, "")


def test_an_upsert_that_is_too_large_for_the_server_says_how_many_points_are_not(tmp_path: Path) -> None:
    environment = {"AKIDB_DATA_DIR": str(tmp_path / "data"), "AKIDB_API_BODY_LIMIT_BYTES": "20000"}
    with running(environment, tmp_path) as node, akidb.connect(f"http://127.0.0.1:{node.port}") as database:
        collection = database.create_collection("c", DIM)
        ids, vectors = [f"point-{number}" for number in range(500)], np.ones((500, DIM))
        payloads = [{"text": "x" * (number % 50)} for number in range(500)]
        with pytest.raises(
            InvalidInputError, match=r"20000 bytes; \d+ of these 500 points fit into one call"
        ) as refused:
            collection.upsert(ids, vectors, payloads)
        fitting = int(str(refused.value).rpartition("; ")[2].split()[0])
        assert 50 < fitting < 500
        for start in range(0, 500, fitting):
            part = slice(start, start + fitting)
            collection.upsert(ids[part], vectors[part], payloads[part])
        assert collection.count() == 500


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


def surface(kind: type) -> dict[str, list[tuple[str, object, object]]]:
    """Public methods and properties with their parameters: name, kind and default."""
    found: dict[str, list[tuple[str, object, object]]] = {}
    for name, value in inspect.getmembers(kind):
        if not name.startswith("_") and isinstance(value, property):
            found[name] = []
        elif not name.startswith("_") and inspect.isfunction(value):
            parameters = inspect.signature(value).parameters.values()
            found[name] = [(each.name, each.kind, each.default) for each in parameters]
    return found


@pytest.mark.parametrize(
    ("blocking", "embedded", "remote"),
    [(akidb.Collection, EmbeddedCollection, RemoteCollection), (akidb.Connection, EmbeddedDatabase, RemoteDatabase)],
)
def test_all_have_the_same_calls(blocking: type, embedded: type, remote: type) -> None:
    calls = surface(embedded)
    calls.pop("queries", None)  # for the blocking collection, which searches in the caller's own thread
    assert surface(remote) == calls
    del calls["search" if "search" in calls else "close"]  # whose options the blocking one hands on as they are
    same = surface(blocking)
    assert {name: same[name] for name in calls} == calls
    assert set(same) - set(calls) == {"search" if "search" in same else "close"}
    for kind in (blocking, embedded, remote):
        assert {name for name in calls if calls[name] and not inspect.getdoc(getattr(kind, name))} == set()


@pytest.mark.parametrize("kind", [EmbeddedDatabase, RemoteDatabase])
def test_databases_of_asyncio_are_context_managers(kind: type) -> None:
    assert hasattr(kind, "__aenter__")
    assert hasattr(kind, "__aexit__")


async def test_a_bucket_is_where_the_s3_variables_say(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def refuse(method: str, target: str, headers: dict[str, str]) -> Answer:
        asked.append((target, headers["authorization"]))
        return s3_error(403, "AccessDenied")

    async with scripted_s3(refuse) as url:
        monkeypatch.setenv("AKIDB_S3_ENDPOINT", url)
        monkeypatch.setenv("AKIDB_S3_ACCESS_KEY", "the-key")
        monkeypatch.setenv("AKIDB_S3_SECRET_KEY", "the-secret")
        monkeypatch.setenv("AKIDB_S3_BUCKET", "not-this-one")
        with pytest.raises(ConfigurationError, match=f"s3://books/shelf at {url} denied ListObjectsV2"):
            await akidb.connect_async("s3://books/shelf")
    assert asked
    assert all(target.startswith("/books") and "Credential=the-key/" in key for target, key in asked)


async def test_a_wrong_s3_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AKIDB_S3_ENDPOINT", "ftp://here")
    with pytest.raises(ConfigurationError, match="AKIDB_S3_ENDPOINT is 'ftp://here', expected"):
        await akidb.connect_async("s3://books")
