"""Clients of clones: they make them of the collection, of its snapshots and of each other, and use and drop them."""

from __future__ import annotations

import asyncio

from akidb.collection import Collection
from akidb.errors import AkiDBError, NotFoundError
from tests.simulation.client import CALL_SECS, NAME, SNAPSHOTS, TRIES, Client
from tests.simulation.history import Cloned
from tests.simulation.node import CrashedError, Node

CLONES = ("k0", "k1")


class Cloner(Client):
    """Does to clones what other clients do to the collection."""

    async def live(self, calls: int) -> None:
        actions = (
            (self.clone, 4), (self.upsert, 4), (self.delete, 2), (self.patch, 1), (self.read, 6), (self.tidy, 5),
            (self.snap, 1), (self.look_back, 1), (self.revert, 1), (self.forget, 1), (self.collect, 2),
            (self.drop, 1.5),
        )  # fmt: skip
        for _ in range(calls):
            (action,) = self._rng.choices([a for a, _ in actions], [weight for _, weight in actions])
            await action()
            await asyncio.sleep(self._rng.choice((0.0, 0.02, 0.5)) * self._rng.random())

    async def clone(self) -> None:
        """Clones the collection or a clone, as it is or as of a snapshot; again under the key until that is done."""
        source, name = self._rng.choice((NAME, NAME, *CLONES)), self._rng.choice(CLONES)
        as_of = self._rng.choice((None, None, *SNAPSHOTS))
        began, key = self._loop.time(), self._mark()
        for _ in range(TRIES):
            node = self._node()
            if node.database is None:
                await asyncio.sleep(0.1)
                continue
            cloning = node.database.clone_collection(source, name, as_of=as_of, idempotency_key=key)
            made = await self._try(node, cloning)
            if made is not None:
                self._history.cloned.append(Cloned(made.uuid, began, self._loop.time(), as_of is None))
                return

    async def drop(self) -> None:
        node = self._node()
        if node.database is not None:
            await self._try(node, node.database.drop_collection(self._rng.choice(CLONES)))

    async def _collection(self, node: Node) -> Collection | None:
        database = node.database
        if database is None:
            await asyncio.sleep(0.1)
            return None
        try:
            return await node.run(database.collection(self._rng.choice(CLONES)), CALL_SECS)
        except NotFoundError:
            await self.clone()
        except (CrashedError, TimeoutError, AkiDBError):
            pass
        return None
