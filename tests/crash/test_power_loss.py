"""Power fails at any moment: whatever the disk then holds, all acknowledged writes are there and nothing is damaged.

Each moment has all its states looked at, 64 at the most. AKIDB_TEST_POWER_OPERATIONS=60 makes a longer run of it.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

import akidb
from akidb.config import Settings
from akidb.config.settings import Hnsw, Index
from akidb.errors import AkiDBError, NotFoundError
from akidb.storage import durable_folder, files
from akidb.storage.durable_folder import DurableFolder
from tests.crash import power
from tests.crash.power import Disk, State
from tests.crash.writer import DIM, Operation, replay

SEED = 20260102
MOST = 64
OPERATIONS = int(os.environ.get("AKIDB_TEST_POWER_OPERATIONS", "40" if os.environ.get("CI") else "8"))
SETTINGS = Settings(index=Index(hnsw=Hnsw(m=4, ef_construction=16, min_vectors_threshold=8)))
Points = dict[str, np.ndarray]


@dataclass
class Moment:
    """What may be on the disk after one step, and what a client may find there: one of `candidates`, None: nothing."""

    step: str
    states: list[State]
    candidates: list[Points | None]


@dataclass
class Film:
    """Every moment of a run, with what was acknowledged by then."""

    disk: Disk
    candidates: list[Points | None] = field(default_factory=lambda: [None])
    moments: list[Moment] = field(default_factory=list)
    rng: random.Random = field(default_factory=lambda: random.Random(SEED))

    def take(self, step: str) -> None:
        self.moments.append(Moment(step, list(self.disk.states(self.rng, MOST)), self.candidates))

    async def during(self, points: Points | None, work: Callable[[], object]) -> None:
        """Awaits work that makes `points` of what is there; until it is done, both are right."""
        self.candidates = [*self.candidates[-1:], points]
        await work()  # type: ignore[misc]
        self.candidates = [points]


def _operation(n: int) -> Operation:
    rng = np.random.default_rng((SEED, n))
    ids = [f"point-{i}" for i in rng.choice(24, size=int(rng.integers(1, 12)), replace=False)]
    return Operation(ids, None if n % 4 == 3 else rng.standard_normal((len(ids), DIM)).astype(np.float32))


async def _film(root: Path, operations: int) -> Film:
    """Two nodes over the folder `root` take turns; they fold, build graphs and remove what is no longer needed."""
    disk = Disk(root)
    film = Film(disk)
    with disk.recording():
        disk.at_step = film.take
        nodes = [await akidb.connect_async(root / "data", settings=SETTINGS) for _ in range(2)]
        points: Points = {}
        await film.during(points, lambda: nodes[0].create_collection("points", DIM, metric="euclidean"))
        collections = [await node.collection("points") for node in nodes]
        for n in range(operations):
            step, collection = _operation(n), collections[n % 2]
            points = replay(points, step)
            if step.vectors is None:
                await film.during(points, lambda ids=step.ids, at=collection: at.delete(ids))
            else:
                await film.during(points, lambda step=step, at=collection: at.upsert(step.ids, step.vectors))
            if n % 3 == 2:
                await film.during(points, collection.wait_indexed)
        for node in nodes:
            await node.close()
        film.take("the end")
    return film


async def _look(film: Film, folder: Path) -> tuple[int, int]:
    """Opens every state that is new. Returns how many there were, and how many differed."""
    seen: set[tuple[bytes, int]] = set()
    count = 0
    for moment in film.moments:
        for state in moment.states:
            count += 1
            known = (power.digest(state), id(moment.candidates))
            if known not in seen:
                seen.add(known)
                await _check(state, moment, folder)
    return count, len(seen)


async def _check(state: State, moment: Moment, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    os.mkdir(folder)
    power.write_out(state, folder)
    told = f"after {moment.step}, with {sorted(path for path in state if state[path] is not None)}"
    try:
        found = await _found(folder / "data")
    except AkiDBError as error:
        raise AssertionError(f"{told}: {error}") from error
    assert any(_same(found, points) for points in moment.candidates), f"{told}: other points than were acknowledged"


async def _found(root: Path) -> Points | None:
    database = await akidb.connect_async(root, settings=SETTINGS)
    try:
        collection = await database.collection("points")
        page = await collection.scroll(limit=1000, with_vector=True)
        assert await collection.count() == len(page)
        return {point.id: point.vector for point in page}
    except NotFoundError:
        return None
    finally:
        await database.close()


def _same(found: Points | None, points: Points | None) -> bool:
    if found is None or points is None:
        return found is points
    return found.keys() == points.keys() and all(np.array_equal(found[id_], points[id_]) for id_ in points)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    (tmp_path / "disk").mkdir()
    return tmp_path / "disk"


@pytest.fixture
def after() -> Iterator[Path]:
    """In memory where that can be had: hundreds of stores are opened there, and each syncs what it finds."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        yield Path(folder) / "after"


async def test_whatever_the_disk_holds_is_right(disk: Path, after: Path) -> None:
    film = await _film(disk, operations=OPERATIONS)
    count, differing = await _look(film, after)
    print(f"{len(film.moments)} moments, {count} states, {differing} of them different")
    steps = {moment.step.split()[0] for moment in film.moments}
    assert steps >= {"create", "write", "sync", "mkdir", "link", "replace", "unlink"}
    kinds = ("format", "/cat/head", "/wal/", "/seg/", "/head")
    told = " ".join(moment.step for moment in film.moments)
    assert [kind for kind in kinds if kind not in told] == []


def _nothing(*_: object) -> None: ...


@pytest.mark.parametrize(
    ("where", "name", "instead"),
    [
        (files, "sync", _nothing),
        (durable_folder, "sync", _nothing),
        (DurableFolder, "_sync_chain", lambda self, folder, create=False: folder.mkdir(parents=True, exist_ok=True)),
    ],
    ids=["files are not synced", "folders are not synced", "new folders are not"],
)
async def test_an_omitted_sync_is_found(
    disk: Path, after: Path, monkeypatch: pytest.MonkeyPatch, where: object, name: str, instead: object
) -> None:
    with monkeypatch.context() as planted:
        planted.setattr(where, name, instead)
        film = await _film(disk, operations=4)
    with pytest.raises(AssertionError, match="after "):
        await _look(film, after)


@pytest.mark.parametrize("omitted", [False, True], ids=["as it is", "names others made are not synced"])
async def test_what_another_node_was_told_is_there(
    disk: Path, after: Path, monkeypatch: pytest.MonkeyPatch, omitted: bool
) -> None:
    """A node stands still between linking a slot and syncing its folder; another reads the slot; the power fails."""
    if omitted:
        monkeypatch.setattr(DurableFolder, "is_durable", lambda *_: True)
    film, linked, released = Film(Disk(disk)), threading.Event(), threading.Event()

    def stand_still(step: str) -> None:
        if step.startswith("link ") and "/c/" in step and "/wal/" in step:
            linked.set()
            assert released.wait(60), "nobody lets the writer go on"

    with film.disk.recording():
        writer, reader = [await akidb.connect_async(disk / "data", settings=SETTINGS) for _ in range(2)]
        await writer.create_collection("points", DIM, metric="euclidean")
        collections = [await node.collection("points") for node in (writer, reader)]
        film.disk.at_step = stand_still
        writing = asyncio.create_task(collections[0].upsert(["a"], np.ones((1, DIM), np.float32)))
        assert await asyncio.to_thread(linked.wait, 60)
        (told,) = await collections[1].scroll(limit=10, with_vector=True)
        film.candidates = [{told.id: told.vector}]
        film.take("a read of what is not synced by its writer")
        released.set()
        await writing
        for node in (writer, reader):
            await node.close()
    if omitted:
        with pytest.raises(AssertionError, match="other points"):
            await _look(film, after)
    else:
        await _look(film, after)
