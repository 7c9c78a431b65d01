"""A snapshot, clones and the drop of one, killed before and after each system call that changes the folder.

What was acknowledged is there, and what was under way wholly or not at all. What died half-way keeps the origin
from nothing: it is written anew, and its garbage goes, without taking anything from a clone.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import akidb
from akidb.config import Settings
from akidb.database import Database
from akidb.storage.local import LocalStore
from tests.crash.test_kill import KILLS, SEED, Told, processes, told
from tests.crash.writer import CLONING, DIM, clone_until_step

Points = dict[str, bytes] | None


def expected(done: int, base: Points, written: Points) -> dict[str, Points]:
    """What there is after so many operations of `clone_until_step`; None stands for nothing of that name."""
    return {
        "points": base if done < 3 else written,
        "kept": base if done >= 1 else None,
        "clone": base if 2 <= done < CLONING else None,
        "clone-of-kept": base if done >= 4 else None,
    }


def seen(where: str) -> dict[str, Points]:
    """What a process sees that knows nothing but the folder."""
    with akidb.connect(where) as database:
        names, origin = database.list_collections(), database.collection("points")
        assert set(names) <= {"points", "clone", "clone-of-kept"}
        clones = {name: _points(database.collection(name)) if name in names else None for name in expected(0, {}, {})}
        kept = [made.name for made in origin.list_snapshots()]
        return clones | {"kept": _points(origin, "kept") if "kept" in kept else None}


def _points(collection: akidb.Collection, as_of: str | None = None) -> Points:
    found = collection.scroll(limit=1000, with_vector=True, as_of=as_of)
    assert len(found) == collection.count(as_of=as_of)
    return {point.id: np.asarray(point.vector).tobytes() for point in found}


def rewrite(where: str, rng: np.random.Generator) -> None:
    """Nothing that the origin named before is named by it afterwards, and what nothing names is deleted."""
    with akidb.connect(where) as database:
        origin = database.collection("points")
        if origin.list_snapshots():
            origin.drop_snapshot("kept")
        if "new" in [point.id for point in origin.scroll(limit=1000)]:
            origin.delete(["new"])
        origin.upsert([f"{i}" for i in range(300)], rng.standard_normal((300, DIM)).astype(np.float32))
        origin.wait_indexed()
        origin.upsert(["0"], rng.standard_normal((1, DIM)).astype(np.float32))  # for a snapshot to fold
    asyncio.run(_collect(where))


async def _collect(where: str) -> None:
    database = await Database.open(LocalStore(Path(where)), Settings())
    assert {each.error for each in await database.collect_garbage()} == {None}
    await database.close()


def forget(where: str) -> None:
    with akidb.connect(where) as database:
        for name in {"clone", "clone-of-kept"} & set(database.list_collections()):
            database.drop_collection(name)


def life(where: str, vector: np.ndarray, within: int = -1, step: int = 0) -> Told:
    ours, theirs = processes.Pipe(duplex=False)
    args = (where, Settings(), vector.tolist(), theirs, within, step)
    maker = processes.Process(target=clone_until_step, args=args)
    maker.start()
    theirs.close()
    maker.join()
    return told(ours, 0)


def moments(ends: list[int]) -> Iterator[tuple[int, int]]:
    """Operations and half-steps of theirs to die at: some of each by how many it has, all where kills are many.

    They are counted within the operation, since how many it takes to open depends on what was left there before.
    """
    for n, (before, end) in enumerate(itertools.pairwise([0, *ends]), -1):
        count = end - before
        wanted = max(2, KILLS * count // ends[-1])
        spread = (
            range(1, count + 1) if wanted >= count else np.linspace(1, count, wanted + 2)[1:-1].astype(int).tolist()
        )
        yield from ((n, step) for step in spread)


def test_a_maker_of_clones_killed_at_each_step(tmp_path: Path) -> None:
    where, rng = str(tmp_path / "data"), np.random.default_rng(SEED)
    with akidb.connect(where) as database:
        database.create_collection("points", DIM, metric="euclidean")
    rewrite(where, rng)
    whole = life(where, rng.standard_normal(DIM))
    assert whole.following == CLONING == len(whole.ends) - 1
    forget(where)
    rewrite(where, rng)
    base, died_in = seen(where)["points"], set()
    for within, step in moments(whole.ends):
        assert base is not None
        vector = rng.standard_normal(DIM).astype(np.float32)
        done, begun, last, _ = life(where, vector, within, step)
        found, written = seen(where), base | {"new": vector.tobytes()}
        assert last or done == CLONING, f"it failed, and nobody killed it, in operation {done}"
        assert found in [expected(n, base, written) for n in range(done, done + 1 + begun)], (step, done, last)
        died_in |= {done} if begun else set()
        rewrite(where, rng)
        after = seen(where)
        base = after["points"]
        assert after == {**found, "points": base, "kept": None}, (step, done, last)
        forget(where)
    assert died_in >= set(range(CLONING)), f"none died in some of {whole.ends}"
