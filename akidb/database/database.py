"""A store opened as a database: its catalogue, and the collections this process has at hand."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import Context
from dataclasses import asdict, replace
from functools import partial
from typing import Any
from uuid import UUID, uuid4

from akidb.collection import Collection, Peers, Shard, Workers, drop_unopened
from akidb.collection.requests import Request
from akidb.config import Settings
from akidb.database.catalogue import TENANT, Altered, Asked, Created, Dropped, Dropping, record, shard_prefix
from akidb.database.catalogue_log import CatalogueLog
from akidb.database.format import ensure_format
from akidb.database.garbage import Garbage, Round
from akidb.database.readiness import Readiness
from akidb.database.shards import lay_down, open_all, shards_of
from akidb.database.unopened import Unopened
from akidb.database.validate import validate_spec
from akidb.errors import (
    AkiDBError,
    ConflictError,
    CorruptionError,
    DeadlineExceededError,
    Fault,
    InvalidInputError,
    NotFoundError,
    ReadOnlyError,
    UnavailableError,
)
from akidb.manifest import Head
from akidb.storage.object_store import ObjectStore
from akidb.types import INDEX_FIELDS, STRONG, CollectionSpec, IndexParams
from akidb.wal import Entry


class Database:
    """Collections over one store. Any number of processes may have the same store open, reading and writing."""

    def __init__(self, store: ObjectStore, settings: Settings, read_only: bool) -> None:
        self._store = store
        self._settings = settings
        self._read_only = read_only
        self.peers: Peers | None = None
        """Nodes that put writes for one another, to be set before a collection is opened."""
        self._log = CatalogueLog(store, TENANT, settings)
        self._catalogue = self._log.catalogue
        self._open: dict[UUID, Collection] = {}
        self._opening: dict[UUID, asyncio.Lock] = {}
        self._unopened = Unopened()
        self._creating = asyncio.Lock()
        self._workers = Workers.start()
        self._readiness = Readiness(store, self._log, self._open, read_only=read_only)
        self._closed = False
        interval_secs = settings.storage.gc_interval_secs
        self._garbage = Garbage(
            store, self._catalogue, self._prefix, self._follow_catalogue, self._forbid, interval_secs
        )
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
            await self._log.close()
            await asyncio.to_thread(self._workers.close)
            raise
        return self

    async def _begin(self) -> None:
        if self._store.can_delete:
            await self._take_store()
            await self._log.read()
        else:  # far away: the catalogue is read beside FORMAT, whose refusal comes first
            following = asyncio.create_task(self._log.read_beside_head())
            try:
                await self._take_store()
            except BaseException:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)
                raise
            try:
                await following
            except AkiDBError:  # of a store that was new: now there is a catalogue to read
                await self._log.read()
        self._log.last_answer = time.monotonic()
        if not self._read_only and self._settings.storage.gc_interval_secs:
            self._collecting = asyncio.create_task(self._garbage.run(), context=Context())

    async def _take_store(self) -> None:
        await ensure_format(self._store, create=not self._read_only)
        if not self._read_only:
            await self._log.lay_down()

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

    async def create_collection(self, spec: CollectionSpec, *, idempotency_key: str | None = None) -> Collection:
        """Makes a collection; it is durable and visible to every node on return.

        Args:
            idempotency_key: the caller's name for the request: asked again under it, on any node, it is not done again,
                and the collection that was made is returned.

        Raises:
            ConflictError: `collection_exists`.
            InvalidInputError: bad name, dimension or index parameters; `idempotency_key_reused`.
            NotFoundError: it was made under this key, and dropped since.
        """
        if self._read_only:
            raise ReadOnlyError(f"{self.location} is open read-only")
        validate_spec(spec, self._settings)
        schema = None if spec.payload_schema is None else dict(spec.payload_schema)
        told = (spec.name, spec.dim, spec.metric.value, asdict(spec.index), schema, spec.shard_count)
        request = Request.of(idempotency_key, "create", told)
        asked = await self._asked(request) or await self._create(uuid4(), spec, request)
        return await self._made(spec.name, asked)

    async def clone_collection(
        self, source: str, name: str, *, as_of: str | None = None, idempotency_key: str | None = None
    ) -> Collection:
        """Makes a collection with the points of another, of which nothing is copied: what both name is kept until
        neither needs it, whatever becomes of the other. From then on they have nothing to do with each other.

        Args:
            as_of: a snapshot of the other, or a time as of Consistency, whose points are taken instead of the present.
            idempotency_key: as of `create_collection`.

        Raises:
            ConflictError: `collection_exists`; `too_many_snapshots`: clones count as snapshots of what they are made
                from until they have objects of their own. Nothing was created.
            InvalidInputError: a bad name; `idempotency_key_reused`.
            NotFoundError: `collection_not_found`, also where the other was dropped meanwhile; `snapshot_not_found`.
        """
        if self._read_only:
            raise ReadOnlyError(f"{self.location} is open read-only")
        request = Request.of(idempotency_key, "clone", (source, name, as_of))
        asked = await self._asked(request)
        if asked is None:
            parent = await self.collection(source)
            spec = replace(self._named(source).spec(), name=name)
            validate_spec(spec, self._settings)
            await self._finish_drop(name)
            self._refuse_taken(name)  # before anything is kept for it
            uuid = uuid4()
            asked = await self._create(uuid, spec, request, parent.uuid, await parent.lend(uuid, as_of))
        return await self._made(name, asked)

    async def _made(self, name: str, asked: Asked | None) -> Collection:
        """What was made, of a request the very one."""
        if asked is None:
            return await self.collection(name)
        created = self._catalogue.named(asked.collection)
        if created is None:
            message = f"collection {name!r} was made under this key and dropped since"
            raise NotFoundError(message, code="collection_not_found")
        return await self._opened(created)

    async def _create(
        self,
        uuid: UUID,
        spec: CollectionSpec,
        request: Request | None,
        parent: UUID | None = None,
        heads: Sequence[Head] = (),
    ) -> Asked | None:
        """Makes it, a clone with the HEADs that `parent` lent to it; of a request the answer."""

        def free() -> None:
            self._refuse_taken(spec.name)
            if parent is not None and self._catalogue.named(parent) is None:  # then nothing may be kept for it
                raise NotFoundError("the collection to clone was dropped meanwhile", code="collection_not_found")
            if uuid in self._catalogue.dropped:
                raise DeadlineExceededError(f"making collection {spec.name!r} took so long that it was given up")

        try:
            async with asyncio.timeout(self._write_timeout_secs) as limit, self._creating:
                await self._follow_catalogue()
                await self._finish_drop(spec.name)
                asked = self._log.known(request)
                if asked is not None:  # the same request came twice at once
                    return asked
                free()
                await lay_down(self._store, uuid, heads or [None] * spec.shard_count)
                limit.reschedule(None)  # from here on a timeout would not tell whether there is a collection now
                return await self._append_catalogue(record(Created.of(uuid, spec)), free, request)
        except TimeoutError as late:
            if isinstance(late, AkiDBError):
                raise
            message = f"{self.location} did not answer within {self._write_timeout_secs:g} s; nothing was created"
            raise UnavailableError(message) from late

    def _refuse_taken(self, name: str) -> None:
        if name in self._catalogue.collections:
            raise ConflictError(f"collection {name!r} exists", code="collection_exists")

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
        damage = await self._follow_while_opening(created)
        await self._let_go()
        present = self._named(name)
        if damage is not None and created is not None and present.uuid == created.uuid:
            raise damage
        return await self._opened(present)

    async def _follow_while_opening(self, created: Created | None) -> CorruptionError | None:
        """Follows the catalogue, and beside it opens what most likely still has the name: a round less to wait for.
        Returns what is damaged of it: to open it again would find the same. What else fails is tried again."""
        if created is None or created.uuid in self._open:
            await self._follow_catalogue()
            return None
        opening = asyncio.create_task(self._opened(created))
        try:
            await self._follow_catalogue()
        finally:
            (found,) = await asyncio.gather(opening, return_exceptions=True)
        return found if isinstance(found, CorruptionError) else None

    async def list_collections(self) -> dict[str, Collection | AkiDBError]:
        """By name, in order, each collection, or why this node can't open it now: one must not hide the others."""
        await self._follow_catalogue()
        found: dict[str, Collection | AkiDBError] = {}
        for name, created in sorted(self._catalogue.collections.items()):
            try:
                found[name] = await self._opened(created)
            except NotFoundError:  # dropped meanwhile
                continue
            except AkiDBError as failure:
                found[name] = failure
        return found

    @property
    def unopened(self) -> dict[str, CorruptionError]:
        """Collections that could not be opened when they were last asked for, by name, and what is damaged of them."""
        named = ((self._catalogue.named(uuid), damage) for uuid, damage in self._unopened.found().items())
        return {created.name: damage for created, damage in named if created is not None}

    async def drop_collection(self, name: str, *, idempotency_key: str | None = None) -> None:
        """Seals the collection's logs, then takes its name out of the catalogue.

        Args:
            idempotency_key: the caller's name for the request: asked again under it, on any node, it is not done again,
                whatever has the name by then.

        Raises:
            NotFoundError: `collection_not_found`.
            InvalidInputError: `idempotency_key_reused`.
        """
        if self._read_only:
            raise ReadOnlyError(f"{self.location} is open read-only")
        request = Request.of(idempotency_key, "drop", name)
        asked = await self._asked(request)
        await self._follow_catalogue()
        if asked is None:
            created = self._named(name)
            if request is None:
                await self._drop(created)
                return

            def still_there() -> None:
                if self._catalogue.named(created.uuid) is None:
                    raise NotFoundError(f"there is no collection {name!r}", code="collection_not_found")

            asked = await self._append_catalogue(record(Dropping(created.uuid)), still_there, request)
            assert asked is not None, "of a request there is an answer"
        present = self._catalogue.named(asked.collection)
        if present is not None:
            with contextlib.suppress(NotFoundError):  # another node dropped it meanwhile
                await self._drop(present)

    def _named(self, name: str) -> Created:
        created = self._catalogue.collections.get(name)
        if created is None:
            raise NotFoundError(f"there is no collection {name!r}", code="collection_not_found")
        return created

    async def _drop(self, created: Created) -> None:
        try:
            collection = await self._opened(created)
            await collection.seal()
            await collection.clear()
        except CorruptionError:  # to go it need not be whole
            await drop_unopened(self._shards(created), deadline=time.monotonic() + self._write_timeout_secs)
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
                self._unopened.refuse(created.uuid)
                try:
                    shards = await open_all(self._shards(created))
                except CorruptionError as damage:
                    self._unopened.note(created.uuid, created.name, damage)
                    raise
                self._unopened.forget(created.uuid)
                if self._closed:
                    raise UnavailableError(f"{self.location} was closed meanwhile", code="closing")
                self._open[created.uuid] = Collection(created.uuid, shards, read_only=self._read_only, peers=self.peers)
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

    async def _forbid(self, uuid: UUID) -> None:
        """Records that a collection which somebody began to make is not to come to be, if it did not."""

        def absent() -> None:
            if self._catalogue.named(uuid) is not None or uuid in self._catalogue.dropped:
                raise ConflictError(f"collection {uuid} came to be")

        with contextlib.suppress(ConflictError):
            await self._append_catalogue(record(Dropped(uuid)), absent)

    def _shards(self, created: Created) -> list[Shard]:
        shards = shards_of(created, self._store, self._settings, self._workers)
        for number, shard in enumerate(shards):
            shard.follow_spec = self._follow_catalogue
            shard.release = partial(self._garbage.release, created.uuid, number)
        return shards

    def _prefix(self, uuid: UUID, shard: int) -> str:
        return shard_prefix(TENANT, uuid, shard)

    # The catalogue's log

    async def _follow_catalogue(self) -> None:
        if self._closed:
            raise UnavailableError("the connection is closed", code="closing")
        await self._log.follow()
        await self._tell_altered()

    async def _tell_altered(self) -> None:
        while self._catalogue.altered:
            uuid = self._catalogue.altered.pop()
            created, opened = self._catalogue.named(uuid), self._open.get(uuid)
            if created is not None and opened is not None:
                await opened.take_spec(created.spec())

    async def _append_catalogue(
        self, entry: Entry, check: Callable[[], None] | None, request: Request | None = None
    ) -> Asked | None:
        asked = await self._log.append(entry, check, request)
        await self._tell_altered()
        return asked

    async def _asked(self, request: Request | None) -> Asked | None:
        """The answer of a request that was made before."""
        if request is None:
            return None
        await self._follow_catalogue()
        return self._log.known(request)

    # Health

    async def ready(self, *, for_read: bool = False) -> bool:
        """Whether writes (or at least reads of what is here) can be served; asks the store where it was not heard from
        for a while."""
        return for_read or await self._readiness.ready()

    async def health(self) -> dict[str, str | None]:
        """What is wrong with `storage`, `wal` and `index`, None for each that is operational."""
        return await self._readiness.health(self.unopened)

    async def close(self) -> None:
        """Decides the writes under way and lets go of threads and the store. What comes later gets UnavailableError."""
        if self._closed:
            return
        self._closed = True
        if self._collecting is not None:
            self._collecting.cancel()
            await asyncio.gather(self._collecting, return_exceptions=True)
        outcomes = await asyncio.gather(*(self._forget(uuid) for uuid in list(self._open)), return_exceptions=True)
        await self._log.close()
        await asyncio.to_thread(self._workers.close)
        await self._store.close()
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
