"""The nodes over one store that put writes for one another: who is there, and which of them owns a shard.

Each puts an object that says where it is reached, again and again. Who sees one unchanged in LOOKS_MAX looks of its own
takes that node for gone: no clock is asked. All of it is a hint. Nodes may differ on who is there, or be wrong, and
writes go a longer way then; what is in the log does not depend on it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from contextvars import Context
from dataclasses import dataclass
from uuid import UUID, uuid4

from xxhash import xxh3_64_intdigest, xxh3_128_hexdigest

from akidb.codec import decode, encode
from akidb.codec.frame import KIND_NODE, Buffer
from akidb.config.rules import is_node_address
from akidb.errors import AkiDBError, CorruptionError
from akidb.storage.keys import is_key
from akidb.storage.object_store import ObjectInfo, ObjectStore
from akidb.telemetry.metrics import METRICS

log = logging.getLogger(__name__)

FOLDER = "nodes"

BEAT_SECS_MIN, BEAT_SECS = 0.5, 5.0
"""Pauses between looks: short at first, since nodes often start together."""

LOOKS_MAX = 4
"""Looks in a row that find a node's object as it was, before the node is taken for gone."""

DOUBT_SECS = 15.0
"""How long nothing is sent to a node that did not take what it was sent."""

_ADDRESS = "address"
_NODE_BYTES_MAX = 2048


@dataclass(slots=True)
class _Seen:
    """Another node's object: what the store tells of its state, in how many looks it was that, and if it ever changed:
    in a copy of a bucket lie the objects of nodes that write to the original."""

    address: str | None
    version: tuple[str | None, float | None, int]
    looks: int = 0
    changed: bool = False


class Members:
    """This node, reached at `address`, and the others over `store`."""

    def __init__(self, store: ObjectStore, address: str) -> None:
        self._store = store
        self._address = address
        self._key = f"{FOLDER}/{xxh3_128_hexdigest(address.encode())}"
        self._seen: dict[str, _Seen] = {}
        self._doubted: dict[str, float] = {}
        self._leaving = False
        self._beating: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Tells of this node, and looks for others, until `leave`."""
        self._beating = asyncio.create_task(self._run(), context=Context())

    async def leave(self) -> None:
        """This node owns nothing any more: others are told, as far as the store answers."""
        self._leaving = True
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.gather(self._beating, return_exceptions=True)
            self._beating = None
        with contextlib.suppress(AkiDBError, TimeoutError):  # then they find out
            async with asyncio.timeout(1.0):
                await self._store.delete_many([self._key])

    @property
    def alive(self) -> list[str]:
        """Addresses of the other nodes."""
        there = [seen for seen in self._seen.values() if seen.changed and seen.looks < LOOKS_MAX]
        return [seen.address for seen in there if seen.address is not None]

    def owner(self, shard: UUID) -> str | None:
        """The address of the node that owns the shard; None if it is this one.

        Of all nodes the one with the largest hash of its address and the shard: when one comes or goes, only the shards
        that it has then or had change hands (rendezvous hashing, Thaler and Ravishankar 1998).
        """
        now = time.monotonic()
        nodes = [address for address in self.alive if self._doubted.get(address, now) <= now]
        if not self._leaving or not nodes:
            nodes.append(self._address)
        owner = max(nodes, key=lambda address: (xxh3_64_intdigest(address.encode() + shard.bytes), address))
        return None if owner == self._address else owner

    def doubt(self, address: str, why: object) -> None:
        """Leaves a node alone that did not take what it was sent."""
        now = time.monotonic()
        if self._doubted.get(address, now) <= now:
            log.warning("node %s takes no writes for now: %s", address, why)
        self._doubted[address] = now + DOUBT_SECS

    async def _run(self) -> None:
        pause = BEAT_SECS_MIN
        while True:
            try:
                await self.look()
            except AkiDBError as failed:  # a hint only; whoever needs the store tells of it
                log.debug("the nodes were not looked for: %s", failed)
            await asyncio.sleep(pause)
            pause = min(2 * pause, BEAT_SECS)

    async def look(self) -> None:
        """Tells of this node once, and looks once who else is there. Raises UnavailableError."""
        before = set(self.alive)
        await self._store.put(self._key, encode_node(self._address, uuid=uuid4()))
        listed = {info.key: info async for info in self._store.list_from(f"{FOLDER}/") if is_key(info.key)}
        self._seen = {key: seen for key, seen in self._seen.items() if key in listed}
        for key, info in listed.items():
            if key != self._key:
                await self._note(key, info)
        gone = [key for key, seen in self._seen.items() if seen.looks == LOOKS_MAX]
        if gone:  # a node that only stood still puts its object again
            await self._store.delete_many(gone)
        alive = set(self.alive)
        METRICS.cluster_nodes.set(1 + len(alive))
        for change, addresses in (("came", alive - before), ("went", before - alive)):
            for address in sorted(addresses):
                log.info("node %s %s", address, change)

    async def _note(self, key: str, info: ObjectInfo) -> None:
        version = (info.etag, info.last_modified, info.size)
        seen = self._seen.get(key)
        if seen is not None and seen.version == version:
            seen.looks += 1
            return
        if info.size > _NODE_BYTES_MAX:
            return  # nothing of ours
        reply = await self._store.get(key)
        if not reply.ok:
            return
        try:
            address = decode_node(reply.body, name=key)
        except CorruptionError as damaged:
            log.debug("%s", damaged)
            address = None
        self._seen[key] = _Seen(address, version, changed=seen is not None)


def encode_node(address: str, *, uuid: UUID) -> bytes:
    """The object's bytes (docs/formats/node.md); `uuid` makes no two alike."""
    return encode(KIND_NODE, uuid, {_ADDRESS: address.encode()})


def decode_node(body: Buffer, *, name: str) -> str:
    """The address. Raises CorruptionError naming the object."""
    frame = decode(body, kind=KIND_NODE, name=name)
    try:
        address = bytes(frame.sections[_ADDRESS]).decode()
    except (KeyError, UnicodeDecodeError) as error:
        raise CorruptionError(f"it tells no address: {error}", key=name) from error
    if not is_node_address(address):
        raise CorruptionError(f"{address!r:.80} is no address of a node", key=name)
    return address
