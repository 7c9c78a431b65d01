"""A store opened as a database: its catalogue, and the collections this process has at hand."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from contextvars import Context
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

from akidb.codec.frame import KIND_CATALOGUE_HEAD, KIND_CATALOGUE_SLOT
from akidb.collection import Collection, Shard, Workers, shard_uuid
from akidb.config import Settings
from akidb.database.catalogue import Altered, Catalogue, Created, Dropped, record
from akidb.database.format import ensure_format
from akidb.database.garbage import Garbage, Round
from akidb.errors import (
    AkiDBError,
    ConflictError,
    DeadlineExceededError,
    Fault,
    InvalidInputError,
    NotFoundError,
    ReadOnlyError,
    UnavailableError,
)
from akidb.filter import PayloadSchema
from akidb.manifest import HeadStore
from akidb.storage.breaking import writes_refused
from akidb.storage.keys import PROBE_FOLDER
from akidb.storage.object_store import ObjectStore
from akidb.types import CODE_BITS, EF_MAX, INDEX_FIELDS, M_MAX, M_MIN, SHARDS_MAX, STRONG, CollectionSpec, IndexParams
from akidb.wal import Appender, Entry, Log

TENANT = UUID(int=0)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")
OPEN_TIMEOUT_SECS = 30.0
CATALOGUE_TIMEOUT_SECS = 5.0
"""How long a request waits to hear which collections there are: a handful of small reads."""

PROBE_EVERY_SECS = 10.0
PROBE_TIMEOUT_SECS = 2.0


class Database:
    """Collections over one store. Any number of processes may have the same store open, reading and writing."""

    def __init__(self, store: ObjectStore, settings: Settings, read_only: bool) -> None:
        self._store = store
        self._settings = settings
        self._read_only = read_only
        self._catalogue = Catalogue()
        prefix = f"t/{TENANT}/cat"
        retry = settings.storage.manifest_retry
        self._heads = HeadStore(store, prefix, TENANT, kind=KIND_CATALOGUE_HEAD, retry=retry)
        log = Log(store, prefix, TENANT, kind=KIND_CATALOGUE_SLOT)
        self._appender = Appender(log, self._catalogue, self._heads, settings)
        self._open: dict[UUID, Collection] = {}
        self._opening: dict[UUID, asyncio.Lock] = {}
        self._creating = asyncio.Lock()
        self._workers = Workers.start()
        self._last_answer = 0.0
        self._last_failure: AkiDBError | None = None
        self._closed = False
        interval_secs = settings.storage.gc_interval_secs
        self._garbage = Garbage(store, self._catalogue, self._prefix, self._follow_catalogue, interval_secs)
        self._collecting: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, store: ObjectStore, settings: Settings, *, read_only: bool = False) -> Database:
        """Opens `store`, laying down its FORMAT where it is new.

        Raises:
            UnavailableError: the store is away; try again.
            ConfigurationError: it holds a newer format, or refuses what AkiDB needs.
            NotFoundError: read-only, and there is no AkiDB database.
        """
        self = cls(store, settings, read_only)
        try:
            await self._begin()
        except BaseException:
            await self._appender.close()
            await asyncio.to_thread(self._workers.close)
            raise
        return self

    async def _begin(self) -> None:
        await ensure_format(self._store, create=not self._read_only)
        if not self._read_only:
            await self._heads.create()
        await self._appender.catch_up(deadline=time.monotonic() + OPEN_TIMEOUT_SECS)
        self._last_answer = time.monotonic()
        if not (self._read_only or self._store.can_delete) and self._settings.storage.gc_interval_secs:
            self._collecting = asyncio.create_task(self._garbage.run(), context=Context())

    @property
    def location(self) -> str:
        return self._store.location

    @property
    def default_index(self) -> IndexParams:
        """Index parameters of a collection that names none."""
        hnsw = self._settings.index.hnsw
        return IndexParams("auto", hnsw.m, hnsw.ef_construction, hnsw.ef_search, hnsw.min_vectors_threshold)

    @property
    def at_hand(self) -> list[Collection]:
        """The collections this process has opened; nothing is asked of the store."""
        return [collection for collection in self._open.values() if not collection.sealed]

    @property
    def _write_timeout_secs(self) -> float:
        return self._settings.api.write_timeout_ms / 1000

    # Collections

    async def create_collection(self, spec: CollectionSpec) -> Collection:
        """Makes a collection; it is durable and visible to every node on return.

        Raises:
            ConflictError: `collection_exists`.
            InvalidInputError: bad name, dimension or index parameters.
        """
        if self._read_only:
            raise ReadOnlyError(f"{self.location} is open read-only")
        validate_spec(spec, self._settings)
        uuid = uuid4()

        def free() -> None:
            if spec.name in self._catalogue.collections:
                raise ConflictError(f"collection {spec.name!r} exists", code="collection_exists")

        try:
            async with asyncio.timeout(self._write_timeout_secs) as limit, self._creating:
                await self._follow_catalogue()
                await self._finish_drop(spec.name)
                free()
                await self._lay_down(uuid, spec.shard_count)
                limit.reschedule(None)  # from here on a timeout would not tell whether there is a collection now
                await self._append_catalogue(record(Created.of(uuid, spec)), free)
        except TimeoutError as late:
            if isinstance(late, AkiDBError):
                raise
            message = f"{self.location} did not answer within {self._write_timeout_secs:g} s; nothing was created"
            raise UnavailableError(message) from late
        return await self.collection(spec.name)

    async def collection(self, name: str, *, at_hand: bool = False) -> Collection:
        """The collection of that name. Raises NotFoundError `collection_not_found`.

        Args:
            at_hand: one that this process has open is given without asking the store. Where another node dropped it,
                who uses it gets NotFoundError and finds it `sealed`; asking again then gives what has the name now.
        """
        created = self._catalogue.collections.get(name)
        opened = None if created is None else self._open.get(created.uuid)
        if at_hand and opened is not None and not opened.sealed:
            return opened
        await self._follow_catalogue()
        await self._let_go()
        created = self._catalogue.collections.get(name)
        if created is None:
            raise NotFoundError(f"there is no collection {name!r}", code="collection_not_found")
        return await self._opened(created)

    async def list_collections(self) -> list[Collection]:
        """All collections, by name."""
        await self._follow_catalogue()
        found = []
        for _, created in sorted(self._catalogue.collections.items()):
            with contextlib.suppress(NotFoundError):  # dropped meanwhile
                found.append(await self._opened(created))
        return found

    async def drop_collection(self, name: str) -> None:
        """Seals the collection's log, then takes its name out of the catalogue. Raises NotFoundError."""
        if self._read_only:
            raise ReadOnlyError(f"{self.location} is open read-only")
        await self._follow_catalogue()
        created = self._catalogue.collections.get(name)
        if created is None:
            raise NotFoundError(f"there is no collection {name!r}", code="collection_not_found")
        collection = await self._opened(created)
        await collection.seal()
        await collection.clear()
        await self._append_catalogue(record(Dropped(created.uuid)), None)
        await self._forget(created.uuid)

    async def collect_garbage(self, *, interval_secs: float | None = None, force: bool = False) -> list[Round]:
        """One round of garbage collection over all collections, as it else happens in the background.

        Args:
            interval_secs: only where the last round is so long ago; None is storage.gc_interval_secs.
            force: delete also more than half of the bytes.
        """
        if self._read_only:
            raise ReadOnlyError(f"{self.location} is open read-only")
        since = self._settings.storage.gc_interval_secs if interval_secs is None else interval_secs
        return [each async for each in self._garbage.rounds(interval_secs=since, force=force)]

    async def alter_index(self, name: str, changes: Mapping[str, Any]) -> Collection:
        """Changes some of a collection's index parameters, durably and for every node; graphs are built anew, where
        they need to be, in the background, and those of before answer meanwhile.

        Raises:
            NotFoundError: `collection_not_found`.
            InvalidInputError: `invalid_collection`: no parameter, an unknown one, or a value that cannot be.
        """
        if self._read_only:
            raise ReadOnlyError(f"{self.location} is open read-only")
        collection = await self.collection(name)
        if not changes:
            msg = f"is empty, expected some of {', '.join(INDEX_FIELDS)}"
            raise InvalidInputError(f"index {msg}", code="invalid_collection", faults=[Fault(("index",), msg)])
        spec = collection.spec
        validate_spec(replace(spec, index=IndexParams.parse(changes, spec.index)), self._settings)

        def still_there() -> None:
            if self._catalogue.named(collection.uuid) is None:
                raise NotFoundError(f"there is no collection {name!r}", code="collection_not_found")

        await self._append_catalogue(record(Altered.of(collection.uuid, changes)), still_there)
        return collection

    async def _finish_drop(self, name: str) -> None:
        """Takes the name out of the catalogue if its collection is sealed: whoever dropped it may be dead."""
        for _ in range(2):  # the first look may find the seal, opening again finishes the drop
            created = self._catalogue.collections.get(name)
            if created is None:
                return
            with contextlib.suppress(NotFoundError):
                await (await self._opened(created)).snapshot(STRONG)
                return

    async def _opened(self, created: Created) -> Collection:
        lock = self._opening.setdefault(created.uuid, asyncio.Lock())
        async with lock:
            if created.uuid not in self._open:
                shards = await self._open_shards(created)
                if self._closed:
                    raise UnavailableError(f"{self.location} was closed meanwhile", code="closing")
                self._open[created.uuid] = Collection(created.uuid, shards, read_only=self._read_only)
                self._catalogue.altered.add(created.uuid)  # it may have been, since `created` was read
            collection = self._open[created.uuid]
            await self._tell_altered()
        if collection.sealed:  # whoever meets a seal finishes the drop
            if not self._read_only and created.uuid in {entry.uuid for entry in self._catalogue.collections.values()}:
                await collection.seal()
                await collection.clear()
                await self._append_catalogue(record(Dropped(created.uuid)), None)
            await self._forget(created.uuid)
            raise NotFoundError(f"there is no collection {created.name!r}", code="collection_not_found")
        return collection

    async def _let_go(self) -> None:
        """Closes what other nodes dropped, once it knows: who still holds it shall be told that, not that it closed."""
        named = {created.uuid for created in self._catalogue.collections.values()}
        for uuid, collection in list(self._open.items()):
            if uuid not in named:
                with contextlib.suppress(AkiDBError):
                    await collection.snapshot(STRONG)
                if collection.sealed:
                    await self._forget(uuid)

    async def _forget(self, uuid: UUID) -> None:
        self._opening.pop(uuid, None)
        gone = self._open.pop(uuid, None)
        if gone is not None:
            await gone.close()

    async def _lay_down(self, uuid: UUID, shards: int) -> None:
        """Puts each shard's HEAD, before anything names the collection."""
        heads = [
            HeadStore(self._store, self._prefix(uuid, number), shard_uuid(uuid, number)) for number in range(shards)
        ]
        await asyncio.gather(*(head.create() for head in heads))

    async def _open_shards(self, created: Created) -> list[Shard]:
        shards = [
            Shard(
                self._store,
                shard_uuid(created.uuid, number),
                self._prefix(created.uuid, number),
                created.spec(),
                self._settings,
                self._workers,
            )
            for number in range(created.shard_count)
        ]
        for shard in shards:
            shard.follow_spec = self._follow_catalogue
        await asyncio.gather(*(shard.open() for shard in shards))
        return shards

    def _prefix(self, uuid: UUID, shard: int) -> str:
        return f"t/{TENANT}/c/{uuid}/{shard:04x}"

    # The catalogue's log

    async def _follow_catalogue(self) -> None:
        if self._closed:
            raise UnavailableError("the connection is closed", code="closing")
        try:
            await self._watched(self._appender.catch_up(deadline=time.monotonic() + CATALOGUE_TIMEOUT_SECS))
        except DeadlineExceededError as late:
            message = f"{self.location} did not say within {CATALOGUE_TIMEOUT_SECS:g} s which collections there are"
            raise UnavailableError(message) from late
        await self._tell_altered()

    async def _tell_altered(self) -> None:
        while self._catalogue.altered:
            uuid = self._catalogue.altered.pop()
            created, opened = self._catalogue.named(uuid), self._open.get(uuid)
            if created is not None and opened is not None:
                await opened.take_spec(created.spec())

    async def _append_catalogue(self, entry: Entry, check: Callable[[], None] | None) -> None:
        deadline = time.monotonic() + self._write_timeout_secs
        await self._watched(self._appender.append([entry], deadline=deadline, check=check, exact=True))
        await self._tell_altered()

    async def _watched(self, answer: Awaitable[object]) -> None:
        """Remembers whether the store answers, for readiness."""
        try:
            await answer
        except ConflictError:
            raise
        except AkiDBError as error:
            self._last_failure = error
            raise
        self._last_failure, self._last_answer = None, time.monotonic()

    # Health

    async def ready(self, *, for_read: bool = False) -> bool:
        """Whether writes (or at least reads of what is here) can be served; asks the store at most once per 10 s, and
        each time while something is wrong, so that a load balancer's looks are what brings a node back."""
        if for_read:
            return True
        heard = max([self._last_answer, *(collection.last_answer for collection in self._open.values())])
        refused = not self._read_only and writes_refused(self._store)
        if time.monotonic() - heard > PROBE_EVERY_SECS or self._last_failure is not None or refused:
            try:
                await self._watched(self._appender.catch_up(deadline=time.monotonic() + PROBE_TIMEOUT_SECS))
                if refused:
                    await self._watched(self._try_writing())
            except AkiDBError:
                return False
        return True

    async def _try_writing(self) -> None:
        """One small write, since gets say nothing of puts: what an open breaker lets through once its time has come.
        Without it nothing would, as nobody sends writes to a node that is not ready."""
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_SECS):
                await self._store.put(f"{PROBE_FOLDER}/write", b"akidb")
        except TimeoutError as late:
            raise UnavailableError(f"{self.location} took no write within {PROBE_TIMEOUT_SECS:g} s") from late

    async def health(self) -> dict[str, str | None]:
        """What is wrong with `storage`, `wal` and `index`, None for each that is operational."""
        storage = None if await self.ready() else str(self._last_failure)
        failures = [collection.background_error for collection in self._open.values()]
        index = next((str(failure) for failure in failures if failure is not None), None)
        return {"storage": storage, "wal": storage, "index": index}

    async def close(self) -> None:
        """Decides the writes under way and lets go of threads and the store. What comes later gets UnavailableError."""
        if self._closed:
            return
        self._closed = True
        if self._collecting is not None:
            self._collecting.cancel()
            await asyncio.gather(self._collecting, return_exceptions=True)
        await asyncio.gather(*(self._forget(uuid) for uuid in list(self._open)))
        await self._appender.close()
        await asyncio.to_thread(self._workers.close)
        await self._store.close()


def validate_spec(spec: CollectionSpec, settings: Settings) -> None:
    """Refuses names, dimensions and index parameters that cannot be. Raises InvalidInputError."""
    limits = settings.api.validation
    faults: list[Fault] = []
    if (
        not isinstance(spec.name, str)
        or not NAME.match(spec.name)
        or len(spec.name) > limits.collection_name_max_length
    ):
        faults.append(
            Fault(
                ("name",),
                f"is {spec.name!r}, expected 1 to {limits.collection_name_max_length} characters: a letter or digit, "
                "then letters, digits, '.', '_', '-'",
            )
        )
    for loc, value, low, high in (
        (("vector_dim",), spec.dim, 1, limits.vector_dimension_max),
        (("shard_count",), spec.shard_count, 1, SHARDS_MAX),
        (("index", "m"), spec.index.m, M_MIN, M_MAX),
        (("index", "ef_construction"), spec.index.ef_construction, 1, EF_MAX),
        (("index", "ef_search"), spec.index.ef_search, 1, EF_MAX),
    ):
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            faults.append(Fault(loc, f"is {value!r}, expected an integer from {low} to {high}"))
    PayloadSchema.parse(spec.payload_schema)
    for loc, word, words in (
        (("index", "type"), spec.index.type, ("auto", "hnsw", "flat")),
        (("index", "quantization"), spec.index.quantization, tuple(CODE_BITS)),
    ):
        if word not in words:
            faults.append(Fault(loc, f"is {word!r}, expected {', '.join(words[:-1])} or {words[-1]}"))
    if faults:
        first = faults[0]
        raise InvalidInputError(
            f"{'.'.join(map(str, first.loc))} {first.msg}", code="invalid_collection", faults=faults
        )
