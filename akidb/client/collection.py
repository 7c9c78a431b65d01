"""One collection of a server, with the calls of the embedded one."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec
import numpy as np
import numpy.typing as npt

from akidb.client import schemas
from akidb.client.transport import Transport, key_or_new, plain
from akidb.errors import DeadlineExceededError, InvalidInputError, ReadOnlyError
from akidb.session import joined
from akidb.surface import check_options, check_page, check_target, check_timeout, refuse
from akidb.types import (
    AnyConsistency,
    CacheState,
    CollectionInfo,
    CollectionSpec,
    Consistency,
    IfVersion,
    Metric,
    Point,
    RevertInfo,
    ScoredPoint,
    SnapshotInfo,
    VectorArray,
)

T = TypeVar("T")

BATCH_MAX = 100
"""Queries per request that the server takes; longer batches are sent in turn."""

ANSWER_MARGIN_SECS = 5.0
"""How much longer than a search's own timeout the client waits, so that the server's 504 arrives."""

WAIT_MS_MAX = 30_000
"""Longest time of one request that waits for the index: idle connections are cut by some proxies after a minute."""


class RemoteCollection:
    """One collection. Vectors are anything numpy can read as numbers; ids are text or integers."""

    def __init__(
        self,
        transport: Transport,
        spec: CollectionSpec,
        *,
        read_only: bool = False,
        token: str = "",
    ) -> None:
        """`token` is of what was there already."""
        self._transport = transport
        self._token = token
        self._path = f"/collections/{quote(spec.name, safe='')}"
        self._read_only = read_only
        self.spec = spec
        self._staleness_ms: int | None = None

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def dim(self) -> int:
        return self.spec.dim

    @property
    def metric(self) -> Metric:
        return self.spec.metric

    @property
    def token(self) -> str:
        """For {"session": token} of reads elsewhere: all writes through this handle, and what was there before it."""
        return self._token

    @property
    def staleness_ms(self) -> int | None:
        """How old, in ms and at most, the state was that the last weaker read saw; None before there was one."""
        return self._staleness_ms

    async def upsert(
        self,
        ids: Sequence[str | int],
        vectors: npt.ArrayLike,
        payloads: Sequence[Mapping[str, Any] | bytes | None] | None = None,
        *,
        if_absent: bool = False,
        if_version: IfVersion = None,
        idempotency_key: str | None = None,
    ) -> int:
        """Stores n points, all or nothing; returns the log position, which is their version, when they are durable.

        Args:
            ids: n texts or integers, each once.
            vectors: (n, dim), sent as float32.
            payloads: n objects, or their JSON text as bytes, or None.
            if_absent: only if none of them is there.
            if_version: only if each has this version, or its own of n; 0 is not there, None is any.
            idempotency_key: a name for this request: sent again under it within a day it is not done again, whichever
                node it reaches, and answered as before.

        Raises:
            ConflictError: `point_exists`, `version_mismatch`; `faults` has the points; nothing was changed.
            InvalidInputError: nothing was changed.
            UnavailableError, StorageFullError: nothing was changed.
            DeadlineExceededError: with code `outcome_unknown` it may have happened.
        """
        ids, rows = _ids(ids), _matrix(vectors, "vectors")
        if len(ids) != len(rows) or (payloads is not None and len(payloads) != len(rows)):
            counts = f"{len(ids)} ids, {len(rows)} vectors" + (
                "" if payloads is None else f", {len(payloads)} payloads"
            )
            raise InvalidInputError(f"{counts}, expected as many of each", code="count_mismatch")
        texts = [None] * len(rows) if payloads is None else [_payload(payload) for payload in payloads]
        points = [
            {"id": id, "vector": vector} if payload is None else {"id": id, "vector": vector, "payload": payload}
            for id, vector, payload in zip(ids, map(_base64, rows), texts, strict=True)
        ]
        for point, version in zip(points, _versions(if_absent, if_version, len(points)), strict=True):
            if version is not None:
                point["if_version"] = version
        try:
            return (await self._write("/vectors", {"vectors": points}, idempotency_key)).lsn
        except InvalidInputError as error:
            if error.limit_bytes is None or len(points) < 2:
                raise
            fitting = _how_many_fit(points, error.limit_bytes)
            hint = f"; {fitting} of these {len(points)} points fit into one call" if fitting else ""
            raise InvalidInputError(f"{error}{hint}", code=error.code, limit_bytes=error.limit_bytes) from None

    async def delete(
        self, ids: Sequence[str | int], *, if_version: IfVersion = None, idempotency_key: str | None = None
    ) -> int:
        """Deletes by id; ids that are not there are no error. Returns the log position.

        Raises:
            ConflictError: `version_mismatch`: one has another version than `if_version` says (one for all, or one
                each, None for any); nothing was changed.
        """
        body = {"ids": _ids(ids)} | ({} if if_version is None else {"if_version": if_version})
        return (await self._write("/vectors/delete", body, idempotency_key)).lsn

    async def delete_where(self, filter: Mapping[str, Any], *, idempotency_key: str | None = None) -> int:
        """Deletes what matches at the moment of the write; returns how many points that were.

        Raises:
            InvalidInputError: the filter is none, or has no condition.
        """
        return (await self._write("/vectors/delete", {"filter": filter}, idempotency_key)).deleted or 0

    async def patch(
        self,
        id: str | int,
        payload: Mapping[str, Any] | bytes,
        *,
        if_version: int | None = None,
        idempotency_key: str | None = None,
    ) -> int:
        """Merges `payload` into a point's (RFC 7396: None removes a field); returns the log position.

        Raises:
            NotFoundError: `point_not_found`.
            ConflictError: `version_mismatch`: it has another version than `if_version`; nothing was changed.
        """
        body = {"payload": _payload(payload)} | ({} if if_version is None else {"if_version": if_version})
        return (await self._write(f"/vectors/{_id_in_path(id)}", body, idempotency_key, method="PATCH")).lsn

    async def get(
        self,
        ids: Sequence[str | int],
        *,
        with_vector: bool = True,
        consistency: AnyConsistency = None,
        as_of: str | None = None,
    ) -> list[Point | None]:
        """Points in the order of `ids`; None where there is none."""
        body = {"ids": _ids(ids), "with_vector": with_vector} | _consistency(consistency, as_of)
        found = await self._read("/vectors/get", body, schemas.Points)
        return [None if point is None else point.point() for point in found.points]

    async def search(
        self,
        vector: npt.ArrayLike | None = None,
        top_k: int = 10,
        *,
        id: str | int | None = None,
        timeout_ms: int = 1000,
        consistency: AnyConsistency = None,
        as_of: str | None = None,
        **options: Any,
    ) -> list[ScoredPoint]:
        """The `top_k` points nearest to a vector of shape (dim,), or to the stored point `id`, which is left out.

        Options: filter, ef_search or target_recall, exact, with_vector, with_payload, score_threshold. Best first.
        """
        check_target(vector, id)
        check_timeout(timeout_ms)
        if vector is not None and np.ndim(vector) != 1:
            raise InvalidInputError(f"vector has {np.ndim(vector)} axes, expected one", code="invalid_vector")
        target = {"id": id} if vector is None else {"vector": _base64(_matrix(np.asarray(vector)[None], "vector")[0])}
        body = {**target, **_query(top_k, options), "timeout_ms": timeout_ms}
        answer = await self._read(
            "/search",
            body | _consistency(consistency, as_of),
            schemas.Answer,
            timeout_secs=timeout_ms / 1000 + ANSWER_MARGIN_SECS,
        )
        return [hit.scored() for hit in answer.results]

    async def search_batch(
        self,
        vectors: npt.ArrayLike,
        top_k: int = 10,
        *,
        timeout_ms: int = 1000,
        consistency: AnyConsistency = None,
        as_of: str | None = None,
        **options: Any,
    ) -> list[list[ScoredPoint]]:
        """`search` for each row of `vectors`, (n, dim), in order. `timeout_ms` holds per request of 100 queries."""
        check_timeout(timeout_ms)
        rows, same = _matrix(vectors, "vectors"), _query(top_k, options)
        found: list[list[ScoredPoint]] = []
        for start in range(0, len(rows), BATCH_MAX):
            queries = [{"vector": _base64(row), **same} for row in rows[start : start + BATCH_MAX]]
            answer = await self._read(
                "/batch-search",
                {"queries": queries, "timeout_ms": timeout_ms} | _consistency(consistency, as_of),
                schemas.BatchAnswer,
                timeout_secs=timeout_ms / 1000 + ANSWER_MARGIN_SECS,
            )
            found += [[hit.scored() for hit in one.results] for one in answer.results]
        return found

    async def count(
        self,
        filter: Mapping[str, Any] | None = None,
        *,
        consistency: AnyConsistency = None,
        as_of: str | None = None,
    ) -> int:
        """How many points there are, or how many match `filter`."""
        body = ({} if filter is None else {"filter": filter}) | _consistency(consistency, as_of)
        return (await self._read("/count", body, schemas.Count)).count

    async def scroll(
        self,
        after: str | int | None = None,
        limit: int = 100,
        filter: Mapping[str, Any] | None = None,
        with_vector: bool = False,
        *,
        consistency: AnyConsistency = None,
        as_of: str | None = None,
    ) -> list[Point]:
        """Up to `limit` points in id order whose id is greater than `after`, which is the last page's last id."""
        check_page(limit)
        given = {"after": after, "limit": limit, "filter": filter, "with_vector": with_vector}
        body = {name: value for name, value in given.items() if value is not None} | _consistency(consistency, as_of)
        return [point.point() for point in (await self._read("/scroll", body, schemas.Page)).points]

    async def info(self) -> CollectionInfo:
        """Counts, sizes and the state of the index."""
        body = await self._transport.send("GET", self._path, repeatable=True)
        return msgspec.json.decode(body, type=schemas.CollectionDescription).info()

    async def pin(self) -> CacheState:
        """Keeps the collection's segments on the machine of the server that answers: fetched in the background, never
        removed from its file cache, also after a restart. Returns how much is there.

        Raises:
            InvalidInputError: `cache_too_small`: they and what is pinned already do not fit; nothing was changed.
        """
        return await self._pinning("POST")

    async def unpin(self) -> CacheState:
        """Lets that server's file cache remove them again."""
        return await self._pinning("DELETE")

    async def _pinning(self, method: str) -> CacheState:
        body = await self._transport.send(method, f"{self._path}/cache/pin", repeatable=True)
        return msgspec.json.decode(body, type=schemas.CacheAnswer).cache.state()

    async def alter_index(self, changes: Mapping[str, Any]) -> None:
        """Changes some of the index parameters, {"type", "m", "ef_construction", "ef_search", "quantization"}; returns
        when that is durable. Graphs are built anew, where they need to be, in the background, and those of before
        answer meanwhile; `wait_indexed` waits.

        Raises:
            InvalidInputError: none of them, an unknown one, or a value that cannot be; nothing was changed.
        """
        self._refuse_if_read_only()
        # The same again changes nothing more, so it may be sent again.
        await self._transport.send("PATCH", self._path, {"index": dict(changes)}, repeatable=True)

    async def create_snapshot(self, name: str) -> SnapshotInfo:
        """Keeps the points as they are now, under `name`, without copying any: reads reach them by `as_of`.

        Raises:
            ConflictError: `snapshot_exists`, `too_many_snapshots`; nothing was changed.
            InvalidInputError: `invalid_snapshot`: not a name.
            PartialWriteError: not all of several shards keep their part; drop it before you make it again.
        """
        self._refuse_if_read_only()
        body = await self._transport.send("POST", f"{self._path}/snapshots", {"name": name}, repeatable=False)
        return msgspec.json.decode(body, type=schemas.Snapshot).info()

    async def list_snapshots(self) -> list[SnapshotInfo]:
        """All snapshots, oldest first; after them those that are not `complete`, which can only be dropped."""
        body = await self._transport.send("GET", f"{self._path}/snapshots", repeatable=True)
        return [made.info() for made in msgspec.json.decode(body, type=schemas.Snapshots).snapshots]

    async def drop_snapshot(self, name: str) -> None:
        """Forgets a snapshot. Raises NotFoundError; PartialWriteError: call it again."""
        self._refuse_if_read_only()
        await self._transport.send("DELETE", f"{self._path}/snapshots/{_snapshot_in_path(name)}", repeatable=False)

    async def revert(self, name: str, *, idempotency_key: str | None = None) -> RevertInfo:
        """Makes the points those of a snapshot, in each shard for every node at once, as one write. What there was
        before it is kept as a snapshot of its own, `before`, so that a revert can be reverted.

        Raises:
            NotFoundError: `snapshot_not_found`.
            ConflictError: `too_many_snapshots`: there is no room for `before`; nothing was changed.
            DeadlineExceededError: with code `outcome_unknown` it may have happened.
            PartialWriteError: some of several shards went back and others did not; sent again under the same
                `idempotency_key`, those that did are left as they are.
        """
        self._refuse_if_read_only()
        path = f"{self._path}/snapshots/{_snapshot_in_path(name)}/revert"
        answer = await self._transport.exchange("POST", path, repeatable=False, key=key_or_new(idempotency_key))
        done = msgspec.json.decode(answer.body, type=schemas.Reverted)
        self._token = joined(self._token, answer.token)
        return RevertInfo(done.lsn, done.before)

    async def wait_indexed(self, timeout_ms: int = 600_000) -> None:
        """Returns when every point that is to be in a graph is in one; DeadlineExceededError past `timeout_ms`."""
        deadline = time.monotonic() + timeout_ms / 1000
        while True:
            wait_ms = min(max(int((deadline - time.monotonic()) * 1000), 0), WAIT_MS_MAX)
            path, patience = f"{self._path}/index?wait_ms={wait_ms}", wait_ms / 1000 + ANSWER_MARGIN_SECS
            body = await self._transport.send("GET", path, repeatable=True, timeout_secs=patience)
            pending = msgspec.json.decode(body, type=schemas.IndexAnswer).index.pending
            if not pending:
                return
            if time.monotonic() >= deadline:
                raise DeadlineExceededError(f"{pending} points of {self.name!r} are not indexed after {timeout_ms} ms")

    def _refuse_if_read_only(self) -> None:
        if self._read_only:
            raise ReadOnlyError(f"collection {self.name!r} is open read-only")

    async def _write(
        self, path: str, body: Mapping[str, Any], key: str | None, *, method: str = "POST"
    ) -> schemas.Written:
        """Sends a write until its answer comes; under a key, so that it is done once."""
        self._refuse_if_read_only()
        path = self._path + path
        answer = await self._transport.exchange(method, path, body, repeatable=False, key=key_or_new(key))
        written = msgspec.json.decode(answer.body, type=schemas.Written)
        self._token = joined(self._token, answer.token)  # answers may come in another order than the writes
        return written

    async def _read(
        self, path: str, body: Mapping[str, Any], shape: type[T], *, timeout_secs: float | None = None
    ) -> T:
        path = self._path + path
        answer = await self._transport.exchange("POST", path, body, repeatable=True, timeout_secs=timeout_secs)
        if answer.staleness_ms is not None:
            self._staleness_ms = answer.staleness_ms
        return msgspec.json.decode(answer.body, type=shape)


_ENVELOPE_BYTES = len(b'{"vectors":[]}')


def _how_many_fit(points: Sequence[Mapping[str, Any]], limit_bytes: int) -> int:
    """How many of the points a request may hold, whichever they are: by the largest of them."""
    largest = max(len(msgspec.json.encode(point, enc_hook=plain)) for point in points)
    return max(0, limit_bytes - _ENVELOPE_BYTES) // (largest + 1)


def _ids(ids: Sequence[str | int]) -> list[str | int]:
    """A text is a sequence of texts as well: its letters would be taken for ids, and deleted."""
    if isinstance(ids, str | bytes):
        raise refuse("ids", "is one text, expected a list of ids", "invalid_id")
    return list(ids)


def _versions(if_absent: bool, if_version: IfVersion, count: int) -> Sequence[int | None]:
    """The condition of each point, as points carry it: a body of nothing but points is the quickest to read."""
    if if_absent and if_version is not None:
        raise refuse("if_version", "is given beside if_absent, expected one of the two", "invalid_condition")
    if if_absent:
        return [0] * count
    if if_version is None or not isinstance(if_version, Sequence | np.ndarray):
        return [if_version] * count
    if len(if_version) != count:
        raise refuse("if_version", f"has {len(if_version)} versions for {count} ids", "invalid_condition")
    return if_version


def _matrix(vectors: npt.ArrayLike, name: str) -> VectorArray:
    """As float32 of shape (n, dim). What JSON cannot say is refused here; the rest the server judges."""
    try:
        array = np.asarray(vectors)
    except ValueError as error:
        raise InvalidInputError(f"{name} do not form an array: {error}", code="invalid_vector") from error
    if array.dtype.kind not in "fiub" or array.ndim != 2:
        expected = "expected numbers of shape (n, dim)"
        raise InvalidInputError(
            f"{name} have dtype {array.dtype} and shape {array.shape}, {expected}", code="invalid_vector"
        )
    with np.errstate(over="ignore"):
        rows = np.asarray(array, np.float32)
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        position = int(np.argmin(finite))
        raise InvalidInputError(f"{name}[{position}] holds a value that is not finite in float32", code="not_finite")
    return rows


def _query(top_k: int, options: Mapping[str, Any]) -> dict[str, Any]:
    check_options(options, RemoteCollection.search_batch)
    return {"top_k": top_k} | {key: value for key, value in options.items() if value is not None}


def _base64(vector: VectorArray) -> bytes:
    """Little-endian float32; msgspec writes bytes as base64, a quarter of the size of decimals and exact."""
    return vector.astype("<f4", copy=False).tobytes()


def _payload(payload: Mapping[str, Any] | bytes | None) -> Mapping[str, Any] | msgspec.Raw | None:
    return msgspec.Raw(payload) if isinstance(payload, bytes) else payload


def _id_in_path(id: str | int) -> str:
    """Percent-encoded, dots as well: "." and ".." are steps of a path to whoever reads it next."""
    if isinstance(id, bool) or not isinstance(id, str | int | np.integer) or id == "":
        raise refuse("id", f"is {id!r:.60}, expected a text that is not empty or an integer", "invalid_id")
    return quote(str(id), safe="").replace(".", "%2E")


def _snapshot_in_path(name: str) -> str:
    if not isinstance(name, str) or not name:
        raise refuse("name", f"is {name!r:.60}, expected the name of a snapshot", "invalid_snapshot")
    return quote(name, safe="").replace(".", "%2E")


def _consistency(given: AnyConsistency, as_of: str | None) -> dict[str, Any]:
    if as_of is not None:
        return {"as_of": as_of} | _consistency(given, None)
    wanted = Consistency.parse(given)
    if wanted is None:
        return {}
    if wanted.mode == "session":
        return {"consistency": {"session": wanted.token}}
    if wanted.mode == "bounded":
        return {"consistency": {"bounded_ms": wanted.bounded_ms}}
    return {"consistency": wanted.mode}
