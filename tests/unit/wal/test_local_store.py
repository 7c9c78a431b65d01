"""The protocol over real files: writers, folds and deletions at once, each node with a store object of its own."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from akidb.errors import CorruptionError
from akidb.manifest import Head
from akidb.storage.local import LocalStore
from akidb.wal import collect
from tests.unit.wal.nodes import Node


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[list[Node]]:
    stores = [LocalStore(tmp_path) for _ in range(3)]
    made = [await Node.start(store) for store in stores]
    for node in made[1:]:
        node.state.source = made[0].state
    yield made
    for node in made:
        await node.appender.close()
    for store in stores:
        await store.close()


async def _fold_and_collect(node: Node) -> int:
    await node.heard()
    at, chain = node.state.applied + 1, node.state.chain

    def folded(head: Head) -> Head | None:
        return replace(head, folded=at, chain=chain) if at > head.folded else None

    await node.heads.swap(folded)
    return await collect(node.log, node.heads)


async def test_writers_and_a_collector_agree(nodes: list[Node]) -> None:
    chance = random.Random(7)
    acknowledged: dict[bytes, int] = {}
    deleted = 0

    async def client(number: int) -> None:
        for turn in range(8):
            text = f"{number}-{turn}"
            acknowledged[text.encode()] = await nodes[chance.randrange(3)].say(text)
            if chance.random() < 0.3:
                reader = nodes[chance.randrange(3)]
                known = dict(acknowledged)
                await reader.heard()
                assert all(reader.state.at[seen] == lsn for seen, lsn in known.items())

    async def collector() -> None:
        nonlocal deleted
        for _ in range(4):
            deleted += await _fold_and_collect(nodes[0])

    await asyncio.gather(*(client(number) for number in range(6)), collector())
    deleted += await _fold_and_collect(nodes[0])
    logs = [list(await node.heard()) for node in nodes]
    assert logs[0] == logs[1] == logs[2]
    assert {text: nodes[2].state.at[text] for text in acknowledged} == acknowledged
    assert deleted == nodes[0].state.applied


async def test_a_bit_that_flipped_on_disk_stops_the_log(nodes: list[Node], tmp_path: Path) -> None:
    for text in ("a", "b"):
        await nodes[0].say(text)
    file = tmp_path / nodes[0].log.key(2)
    body = bytearray(file.read_bytes())
    body[len(body) // 2] ^= 1
    file.chmod(0o600)
    file.write_bytes(body)
    with pytest.raises(CorruptionError, match=nodes[1].log.key(2)):
        await nodes[1].heard()
    assert nodes[1].state.entries == [b"a"]
