"""What reaches the collection: everything once, in file order, also after an interruption."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from akidb.config import Settings
from akidb.connection import connect_async
from akidb.errors import ConfigurationError, ConflictError, InvalidInputError, NotFoundError, UnavailableError
from akidb.ingest import Columns, Job, Place, Source, load, progress
from akidb.types import Metric


class Watcher:
    def __init__(self, *, stop_after: int | None = None) -> None:
        self.location = ""
        self.total: int | None = None
        self.seen: list[int] = []
        self.resumed_at: tuple[str, int] | None = None
        self._stop_after = stop_after

    def opened(self, location: str, sources: Sequence[Source], rows: int | None) -> None:
        self.location, self.total = location, rows

    def resumed(self, source: Source, place: Place) -> None:
        self.resumed_at = (Path(source.path).name, place.row)

    def rows(self, count: int) -> None:
        self.seen.append(count)
        if self._stop_after is not None and sum(self.seen) >= self._stop_after:
            raise ConnectionError("stopped by the test")


@pytest.fixture(autouse=True)
def _own_state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(progress, "SAVE_EVERY_SECS", 0.0)


def write(path: Path, rows: Sequence[dict[str, Any] | str]) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def point(number: int, **payload: Any) -> dict[str, Any]:
    return {"id": number, "vector": [1.0, float(number)], **payload}


def job(tmp_path: Path, where: Path | tuple[str, ...], **changed: Any) -> Job:
    given: dict[str, Any] = {
        "collection": "c",
        "where": where if isinstance(where, tuple) else (str(where),),
        "columns": Columns("vector", "id"),
        "rejects": tmp_path / "rejects.jsonl",
        "to": str(tmp_path / "data"),
        "create": True,
        "rows_per_batch": 10,
    }
    return Job(**given | changed)


async def stored(tmp_path: Path, ids: Sequence[str | int]) -> list[Any]:
    database = await connect_async(tmp_path / "data", read_only=True)
    found = await (await database.collection("c")).get(list(ids))
    await database.close()
    return [None if entry is None else (entry.vector.tolist(), entry.payload) for entry in found]


def rejected(tmp_path: Path) -> list[tuple[str, int]]:
    lines = (tmp_path / "rejects.jsonl").read_text().splitlines()
    return [(Path(entry["file"]).name, entry["line"]) for entry in map(json.loads, lines)]


async def test_all_rows_arrive_and_the_rest_is_told(tmp_path: Path) -> None:
    rows: list[Any] = [point(number, n=number) for number in range(95)]
    rows[13], rows[50], rows[51] = "{", {"id": 50, "vector": [0, 0]}, {"id": "x" * 513, "vector": [1, 2]}
    watcher = Watcher()
    place = await job(tmp_path, write(tmp_path / "rows.jsonl", rows)).run(Settings(), watcher)
    assert (place.stored, place.rejected) == (92, 3)
    assert (sum(watcher.seen), watcher.total) == (95, 95)
    assert watcher.location.endswith("data")
    good = [number for number in range(95) if number not in (13, 50, 51)]
    assert await stored(tmp_path, good) == [([1.0, number], {"n": number}) for number in good]
    assert await stored(tmp_path, [13, 50]) == [None, None]
    assert rejected(tmp_path) == [("rows.jsonl", line) for line in (14, 51, 52)]


@pytest.mark.parametrize("parallel", [1, 8])
async def test_the_last_row_of_an_id_wins(tmp_path: Path, parallel: int) -> None:
    numbers = np.random.default_rng(0).integers(0, 40, 600).tolist()
    rows = [point(number, at=at) for at, number in enumerate(numbers)]
    place = await job(tmp_path, write(tmp_path / "rows.jsonl", rows), parallel=parallel, rows_per_batch=7).run(
        Settings(), Watcher()
    )
    assert place.rejected == 0
    last = {number: at for at, number in enumerate(numbers)}
    assert [payload["at"] for _, payload in await stored(tmp_path, list(last))] == list(last.values())


async def test_files_of_a_folder_are_taken_in_order(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "2.jsonl", [point(1, of="2"), "["])
    write(tmp_path / "in" / "1.jsonl", ["[", point(1, of="1"), point(2, of="1")])
    await job(tmp_path, tmp_path / "in").run(Settings(), Watcher())
    assert await stored(tmp_path, [1, 2]) == [([1, 1], {"of": "2"}), ([1, 2], {"of": "1"})]
    assert rejected(tmp_path) == [("1.jsonl", 1), ("2.jsonl", 2)]


async def test_several_places_are_taken_in_the_order_given(tmp_path: Path) -> None:
    first = write(tmp_path / "z.jsonl", [point(1, of="z"), point(2, of="z")])
    second = write(tmp_path / "a.jsonl", [point(1, of="a")])
    place = await job(tmp_path, (str(first), str(second))).run(Settings(), Watcher())
    assert place.stored == 3
    assert await stored(tmp_path, [1, 2]) == [([1, 1], {"of": "a"}), ([1, 2], {"of": "z"})]


async def test_a_place_for_rejects_is_asked_for_before_the_first_row(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [point(1)])
    for rejects in (tmp_path / "missing" / "x", tmp_path):
        with pytest.raises(InvalidInputError, match=f"rejects file {rejects}"):
            await job(tmp_path, path, rejects=rejects).run(Settings(), Watcher())
    assert not (tmp_path / "data").exists()


async def test_a_stopped_run_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    for name in range(3):
        rows: list[Any] = [point(name * 100 + number, n=number) for number in range(100)]
        rows[7] = rows[93] = "{"
        write(tmp_path / "in" / f"{name}.jsonl", rows)
    run = job(tmp_path, tmp_path / "in", parallel=2)
    with pytest.raises(ConnectionError):
        await run.run(Settings(), Watcher(stop_after=150))
    started: list[tuple[str, int]] = []
    original = Source.read

    def read(self: Source, columns: Columns, *, rows_per_batch: int, skip: int, dim: int | None) -> Any:
        started.append((Path(self.path).name, skip))
        return original(self, columns, rows_per_batch=rows_per_batch, skip=skip, dim=dim)

    monkeypatch.setattr(Source, "read", read)
    watcher = Watcher()
    place = await run.run(Settings(), watcher)
    assert started == [("1.jsonl", 40), ("2.jsonl", 0)]
    assert watcher.resumed_at == ("1.jsonl", 40)
    assert sum(watcher.seen) == 300
    assert (place.stored, place.rejected) == (294, 6)
    assert rejected(tmp_path) == [(f"{name}.jsonl", line) for name in range(3) for line in (8, 94)]
    assert None not in await stored(tmp_path, [n for n in range(300) if n % 100 not in (7, 93)])
    assert list((tmp_path / "state/akidb/ingest").iterdir()) == []


@pytest.mark.parametrize("change", ["file", "collection", "restart"])
async def test_what_has_changed_since_is_read_from_the_start(tmp_path: Path, change: str) -> None:
    path = write(tmp_path / "rows.jsonl", [point(number) for number in range(100)])
    with pytest.raises(ConnectionError):
        await job(tmp_path, path).run(Settings(), Watcher(stop_after=60))
    if change == "file":
        write(path, [point(number, new=True) for number in range(100)])
    if change == "collection":
        database = await connect_async(tmp_path / "data")
        await database.drop_collection("c")
        await database.close()
    place = await job(tmp_path, path, restart=change == "restart").run(Settings(), Watcher())
    assert place.stored == 100
    assert None not in await stored(tmp_path, range(100))


async def test_rows_that_the_collection_refuses_are_rejected_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "storable", lambda batch, metric: batch)  # so that the refusal is the collection's
    rows = [point(number) for number in range(20)]
    rows[3]["vector"] = [0, 0]
    rows[15]["vector"] = [1e300, 0]
    place = await job(tmp_path, write(tmp_path / "rows.jsonl", rows)).run(Settings(), Watcher())
    assert (place.stored, place.rejected) == (18, 2)
    assert rejected(tmp_path) == [("rows.jsonl", 4), ("rows.jsonl", 16)]


async def test_a_store_that_is_away_for_a_while_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from akidb.connection.embedded import EmbeddedCollection

    pauses: list[float] = []
    sleep = asyncio.sleep

    async def noted(secs: float) -> None:
        pauses.append(secs)
        await sleep(0)

    monkeypatch.setattr(load, "BACKOFF_FIRST_SECS", 0.0)
    monkeypatch.setattr(asyncio, "sleep", noted)
    failures = [UnavailableError("away", retry_after_secs=secs) for secs in (0.0, 1.0, 30.0)]
    original = EmbeddedCollection.upsert

    async def upsert(self: EmbeddedCollection, *arguments: Any) -> int:
        if failures:
            raise failures.pop()
        return await original(self, *arguments)

    monkeypatch.setattr(EmbeddedCollection, "upsert", upsert)
    path = write(tmp_path / "rows.jsonl", [point(number) for number in range(5)])
    assert (await job(tmp_path, path).run(Settings(), Watcher())).stored == 5
    assert [secs for secs in pauses if 1.0 <= secs < 3600.0] == [30.0, 1.0], "not before the store said"
    failures += [UnavailableError("away")] * load.ATTEMPTS_MAX
    with pytest.raises(UnavailableError):
        await job(tmp_path, path).run(Settings(), Watcher())


async def test_a_collection_is_made_only_when_asked_and_as_asked(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [point(1)])
    with pytest.raises(NotFoundError, match="--create makes it"):
        await job(tmp_path, path, create=False).run(Settings(), Watcher())
    await job(tmp_path, path, metric=Metric.DOT).run(Settings(), Watcher())
    with pytest.raises(ConflictError, match="is under Dot, asked for Cosine"):
        await job(tmp_path, path, metric=Metric.COSINE).run(Settings(), Watcher())
    assert (await job(tmp_path, path, create=False).run(Settings(), Watcher())).stored == 1


async def test_the_dimension_of_the_collection_counts(tmp_path: Path) -> None:
    await job(tmp_path, write(tmp_path / "a.jsonl", [point(1)])).run(Settings(), Watcher())
    path = write(tmp_path / "b.jsonl", [{"id": 2, "vector": [1]}, point(3)])
    place = await job(tmp_path, path).run(Settings(), Watcher())
    assert (place.stored, place.rejected) == (1, 1)


async def test_a_stale_rejects_file_goes_away(tmp_path: Path) -> None:
    (tmp_path / "rejects.jsonl").write_text("old\n")
    await job(tmp_path, write(tmp_path / "a.jsonl", [point(1)])).run(Settings(), Watcher())
    assert not (tmp_path / "rejects.jsonl").exists()


async def test_a_run_that_cannot_begin_leaves_the_rejects_of_the_last_one(tmp_path: Path) -> None:
    (tmp_path / "rejects.jsonl").write_text("old\n")
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": "a", "emb": [1, 2]}\n')
    with pytest.raises(NotFoundError):
        await job(tmp_path, path, create=False, collection="nobody made this").run(Settings(), Watcher())
    assert (tmp_path / "rejects.jsonl").read_text() == "old\n"


async def test_the_configured_store_is_the_default_and_memory_is_refused(tmp_path: Path) -> None:
    from dataclasses import replace

    path = write(tmp_path / "a.jsonl", [point(1)])
    settings = Settings()
    local = replace(settings, storage=replace(settings.storage, data_dir=str(tmp_path / "data")))
    await job(tmp_path, path, to=None).run(local, Watcher())
    assert None not in await stored(tmp_path, [1])
    memory = replace(settings, storage=replace(settings.storage, use_memory_backend=True))
    with pytest.raises(ConfigurationError, match="name another with --to"):
        await job(tmp_path, path, to=None).run(memory, Watcher())


async def test_a_missing_column_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("id,v\n1,1 2\n")
    with pytest.raises(InvalidInputError, match="no column 'vector'"):
        await job(tmp_path, path).run(Settings(), Watcher())
    with pytest.raises(NotFoundError):
        await stored(tmp_path, [1])


async def test_the_rejects_file_of_an_earlier_run_is_no_source_of_the_next(tmp_path: Path) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    write(folder / "a.jsonl", [point(0), "broken"])
    for _ in range(2):
        await job(tmp_path, folder, rejects=folder / "things.rejects.jsonl").run(Settings(), Watcher())
        assert len((folder / "things.rejects.jsonl").read_text().splitlines()) == 1


async def test_a_file_that_rejects_would_overwrite_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [point(0), "broken"])
    before = path.read_bytes()
    with pytest.raises(InvalidInputError, match="is the rejects file too"):
        await job(tmp_path, path, rejects=path).run(Settings(), Watcher())
    assert path.read_bytes() == before
