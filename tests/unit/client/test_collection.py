"""What the client asks for, and what it makes of the answers."""

import base64
from collections.abc import AsyncIterator

import numpy as np
import pytest

from akidb.client import RemoteCollection, RemoteDatabase
from akidb.client.transport import Transport
from akidb.errors import ConflictError, DeadlineExceededError, InvalidInputError, ReadOnlyError, UnavailableError
from akidb.types import CollectionSpec, Consistency, IndexParams, Metric
from tests.unit.client.conftest import ScriptedServer, problem

DESCRIPTION = {
    "name": "a b",
    "vector_dim": 2,
    "distance": "Euclidean",
    "vector_count": 5,
    "segments": 1,
    "bytes": 99,
    "lsn": 7,
    "version": 3,
    "index": {
        "type": "hnsw",
        "m": 8,
        "ef_construction": 50,
        "ef_search": 20,
        "state": "ready",
        "indexed": 5,
        "pending": 0,
    },
}


def index_with(pending: int) -> dict[str, object]:
    return {"collection": "a b", "index": {"indexed": 5 - pending, "pending": pending}}


@pytest.fixture
async def collection(server: ScriptedServer) -> AsyncIterator[RemoteCollection]:
    transport = Transport(server.url)
    yield RemoteCollection(transport, CollectionSpec("a b", 2))
    await transport.close()


def sent(text: str) -> list[float]:
    return np.frombuffer(base64.b64decode(text), "<f4").tolist()


async def test_upsert_sends_points_and_gives_the_position(server: ScriptedServer, collection: RemoteCollection) -> None:
    server.answers = [{"collection": "a b", "upserted": 3, "lsn": 12}]
    vectors = np.arange(6, dtype=np.int64).reshape(3, 2)
    assert await collection.upsert(["a", 2, np.int64(3)], vectors, [{"x": 1}, None, b'{"y": 2}']) == 12
    ((method, path, body),) = server.asked
    assert (method, path) == ("POST", "/collections/a%20b/vectors")
    assert [point["id"] for point in body["vectors"]] == ["a", 2, 3]
    assert [sent(point["vector"]) for point in body["vectors"]] == vectors.tolist()
    assert [point.get("payload") for point in body["vectors"]] == [{"x": 1}, None, {"y": 2}]


@pytest.mark.parametrize(
    ("vectors", "payloads", "code"),
    [
        ([[1, 2]], None, "count_mismatch"),
        ([[1, 2], [3, 4]], [None], "count_mismatch"),
        ([[1, 2], [3]], None, "invalid_vector"),
        ([1, 2], None, "invalid_vector"),
        ([["a", "b"], ["c", "d"]], None, "invalid_vector"),
        ([[1, 2], [3, float("nan")]], None, "not_finite"),
        ([[1, 2], [3, 1e300]], None, "not_finite"),
        ([[1, 2], [3, 4]], [None, {"x": [1, float("nan")]}], "invalid_json"),
        ([[1, 2], [3, 4]], [None, {"x": {"y": np.float32("inf")}}], "invalid_json"),
    ],
)
async def test_what_json_cannot_say_is_refused_before_it_is_sent(
    server: ScriptedServer, collection: RemoteCollection, vectors: object, payloads: object, code: str
) -> None:
    with pytest.raises(InvalidInputError) as caught:
        await collection.upsert(["a", "b"], vectors, payloads)  # type: ignore[arg-type]
    assert caught.value.code == code
    assert server.asked == []


@pytest.mark.parametrize("one", ["ab", b"ab"])
async def test_one_text_is_no_list_of_ids(server: ScriptedServer, collection: RemoteCollection, one: str) -> None:
    for call in (collection.delete(one), collection.get(one), collection.upsert(one, np.ones((2, 2)))):
        with pytest.raises(InvalidInputError, match="ids: is one text, expected a list of ids") as caught:
            await call
        assert caught.value.code == "invalid_id"
    assert server.asked == []


async def test_a_threshold_that_json_cannot_say_is_not_taken_for_none(
    server: ScriptedServer, collection: RemoteCollection
) -> None:
    with pytest.raises(InvalidInputError, match="not finite"):
        await collection.search([1, 2], score_threshold=float("nan"))
    assert server.asked == []


async def test_search_sends_what_was_given_only(server: ScriptedServer, collection: RemoteCollection) -> None:
    server.answers = [
        {"results": [{"id": "a", "score": 0.5, "payload": {"x": [1]}}, {"id": "b", "score": 0.25, "vector": [1, 2]}]}
    ]
    found = await collection.search([1, 2], 2, filter={"exists": "x"}, exact=True, ef_search=None)
    ((_, path, body),) = server.asked
    assert path == "/collections/a%20b/search"
    assert sent(body.pop("vector")) == [1, 2]
    assert body == {"top_k": 2, "timeout_ms": 1000, "filter": {"exists": "x"}, "exact": True}
    assert [(hit.id, hit.score, hit.payload) for hit in found] == [("a", 0.5, {"x": [1]}), ("b", 0.25, None)]
    assert found[0].vector is None
    assert found[1].vector is not None
    assert found[1].vector.dtype == np.float32


async def test_search_takes_one_vector(server: ScriptedServer, collection: RemoteCollection) -> None:
    with pytest.raises(InvalidInputError, match="2 axes"):
        await collection.search([[1, 2]])


async def test_a_long_batch_goes_in_hundreds_and_comes_back_in_order(
    server: ScriptedServer, collection: RemoteCollection
) -> None:
    server.answers = [
        {"results": [{"results": [{"id": str(first + i), "score": 0}]} for i in range(size)]}
        for first, size in ((0, 100), (100, 30))
    ]
    found = await collection.search_batch(np.ones((130, 2)), timeout_ms=50)
    assert [hits[0].id for hits in found] == [str(i) for i in range(130)]
    assert [len(body["queries"]) for _, _, body in server.asked] == [100, 30]
    assert server.asked[0][2]["timeout_ms"] == 50


async def test_consistency_is_said_in_the_words_of_the_api(
    server: ScriptedServer, collection: RemoteCollection
) -> None:
    for wanted, said in (
        (Consistency("eventual"), "eventual"),
        (Consistency("session", token="t"), {"session": "t"}),
        (Consistency("bounded", bounded_ms=40), {"bounded_ms": 40}),
    ):
        server.answers.append({"count": 4})
        assert await collection.count({"exists": "x"}, consistency=wanted) == 4
        assert server.asked[-1][2] == {"filter": {"exists": "x"}, "consistency": said}


async def test_get_keeps_the_order_and_the_gaps(server: ScriptedServer, collection: RemoteCollection) -> None:
    server.answers = [{"points": [{"id": "1", "vector": [0.5, 2], "payload": None}, None]}]
    first, second = await collection.get([1, "nobody"])
    assert first is not None
    assert (first.id, first.payload) == ("1", None)
    assert np.array_equal(first.vector, np.float32([0.5, 2]))
    assert second is None


async def test_wait_indexed_asks_until_nothing_is_pending(server: ScriptedServer, collection: RemoteCollection) -> None:
    server.answers = [index_with(2), index_with(0)]
    await collection.wait_indexed()
    assert [path for _, path, _ in server.asked] == ["/collections/a%20b/index?wait_ms=30000"] * 2
    server.answers = [index_with(2)]
    with pytest.raises(DeadlineExceededError, match="2 points of 'a b' are not indexed"):
        await collection.wait_indexed(timeout_ms=0)


async def test_read_only_sends_no_write(server: ScriptedServer) -> None:
    handle = RemoteCollection(Transport(server.url), CollectionSpec("a b", 2), read_only=True)
    for write in (handle.upsert([1], [[1, 2]]), handle.delete([1]), handle.alter_index({"m": 8})):
        with pytest.raises(ReadOnlyError):
            await write
    server.answers = [{"status": "alive"}]
    database = await RemoteDatabase.connect(server.url, read_only=True)
    for change in (database.create_collection("c", 2), database.drop_collection("c")):
        with pytest.raises(ReadOnlyError):
            await change
    assert len(server.asked) == 1
    await database.close()


async def test_database_calls(server: ScriptedServer) -> None:
    server.answers = [
        {"status": "alive"},
        {},
        DESCRIPTION,
        {"collections": [DESCRIPTION, DESCRIPTION | {"name": "A"}]},
        {},
    ]
    database = await RemoteDatabase.connect(server.url + "/")
    made = await database.create_collection("a b", 2, metric="l2", index=IndexParams(m=8))
    assert (made.name, made.dim, made.metric) == ("a b", 2, Metric.EUCLIDEAN)
    assert await database.list_collections() == ["A", "a b"]
    await database.drop_collection("a b")
    assert [(method, path) for method, path, _ in server.asked] == [
        ("GET", "/health/live"),
        ("POST", "/collections"),
        ("GET", "/collections/a%20b"),
        ("GET", "/collections"),
        ("DELETE", "/collections/a%20b"),
    ]
    index = {"type": "auto", "m": 8, "ef_construction": 400, "ef_search": 200, "quantization": "auto"}
    assert server.asked[1][2] == {"name": "a b", "vector_dim": 2, "distance": "Euclidean", "index": index}
    await database.close()


async def test_refusals_keep_their_kind(server: ScriptedServer) -> None:
    server.answers = [{"status": "alive"}, problem(409, "collection_exists")]
    database = await RemoteDatabase.connect(server.url)
    with pytest.raises(ConflictError) as caught:
        await database.create_collection("c", 2)
    assert caught.value.code == "collection_exists"
    await database.close()


async def test_a_server_that_is_not_akidb_is_named(server: ScriptedServer) -> None:
    server.answers = [problem(404, "nope")]
    with pytest.raises(UnavailableError, match="does not answer like akidb-api"):
        await RemoteDatabase.connect(server.url)
