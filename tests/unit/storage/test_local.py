"""What only a folder on a disk can do wrong: power loss, full disks, failing syncs, other processes, what the dead
left."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from akidb.errors import AkiDBError, ConfigurationError, InvalidInputError, StorageFullError, UnavailableError
from akidb.storage import durable_folder, files
from akidb.storage.local import LocalStore
from akidb.storage.object_store import Status
from tests.unit.stores import refuse_writing

_STEPS = ("open", "write", "fsync", "link", "replace", "mkdir")


@contextlib.contextmanager
def _failing(monkeypatch: pytest.MonkeyPatch, step: int, number: int) -> Iterator[list[str]]:
    """The `step`-th system call that a store's thread makes fails with `number`; yields the names of those made."""
    made: list[str] = []

    def wrap(name: str, real: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            if threading.current_thread().name.startswith("akidb-local-store"):
                made.append(name)
                if len(made) == step:
                    raise OSError(number, os.strerror(number))
            return real(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        for name in _STEPS:
            patch.setattr(os, name, wrap(name, getattr(os, name)))
        yield made


def _leftovers(root: Path) -> list[Path]:
    return [path for path in (root / ".tmp").rglob("*") if path.is_file()]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EMFILE])
@pytest.mark.parametrize("operation", ["put", "put_if_absent", "put_if_match"])
async def test_a_failure_at_any_step_leaves_old_or_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str, number: int
) -> None:
    for step in range(1, 100):
        root = tmp_path / f"{step}"
        async with _opened(root) as before:
            old = await before.put("t/head", b"old")
            assert old.etag is not None
        calls = {
            "put": lambda store: store.put("t/head", b"new"),
            "put_if_absent": lambda store: store.put_if_absent("t/deep/slot", b"new"),
            "put_if_match": lambda store, etag=old.etag: store.put_if_match("t/head", b"new", etag),
        }
        failed: AkiDBError | None = None
        async with _opened(root) as store:
            with _failing(monkeypatch, step, number) as made:
                try:
                    assert (await calls[operation](store)).ok
                except AkiDBError as raised:
                    failed = raised
            if failed is not None and failed.code != "storage_poisoned":
                assert (await store.put("t/other", b"goes on")).ok
            if failed is not None:
                assert isinstance(failed, StorageFullError) == (
                    number == errno.ENOSPC and failed.code == "storage_full"
                )
        assert _leftovers(root) == []
        async with _opened(root) as after:
            head, slot = await after.get("t/head"), await after.get("t/deep/slot")
            assert (head.body, slot.body) in {
                "put": [(b"old", b""), (b"new", b"")],
                "put_if_absent": [(b"old", b""), (b"old", b"new")],
                "put_if_match": [(b"old", b""), (b"new", b"")],
            }[operation]
            if failed is None:
                assert b"new" in (head.body, slot.body)
        if step > len(made):
            assert failed is None
            return
    pytest.fail("the operation never ran to its end")


@contextlib.asynccontextmanager
async def _opened(root: Path) -> AsyncIterator[LocalStore]:
    store = LocalStore(root)
    try:
        yield store
    finally:
        await store.close()


async def test_an_unsynced_folder_poisons_the_store(local: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    await local.put("t/a", b"x")

    def broken(descriptor: int) -> None:
        raise OSError(errno.EIO, "broken")

    with monkeypatch.context() as patch:
        patch.setattr(durable_folder, "sync", broken)
        with pytest.raises(UnavailableError) as failed:
            await local.put_if_absent("t/b", b"x")
    assert failed.value.code == "storage_poisoned"
    assert not failed.value.retryable
    for call in (local.get("t/a"), local.put("t/c", b"x"), local.head("t/a"), local.delete_many(["t/a"])):
        with pytest.raises(UnavailableError, match="restart"):
            await call
    with pytest.raises(UnavailableError):
        _ = [info async for info in local.list_from("")]


async def test_an_unsynced_file_is_not_written_and_the_store_goes_on(
    local: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(descriptor: int) -> None:
        raise OSError(errno.EIO, "broken")

    with monkeypatch.context() as patch:
        patch.setattr(files, "sync", broken)
        with pytest.raises(UnavailableError):
            await local.put_if_absent("t/a", b"x")
    assert (await local.get("t/a")).status is Status.NOT_FOUND
    assert (await local.put_if_absent("t/a", b"x")).ok


async def test_a_put_is_synced_file_first_then_link_then_folder(
    local: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await local.put("t/first", b"makes the folders")
    with _failing(monkeypatch, 0, 0) as made:
        assert (await local.put_if_absent("t/a", b"x")).ok
    assert [name for name in made if name != "open"] == ["write", "fsync", "link", "fsync"]


async def test_new_folders_are_synced_up_to_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(durable_folder, "sync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    async with _opened(tmp_path / "new" / "root") as store:
        await store.put_if_absent("a/b/c", b"x")
    expected = [tmp_path, tmp_path / "new", tmp_path / "new/root", tmp_path / "new/root/a", tmp_path / "new/root/a/b"]
    assert {os.stat(folder).st_ino for folder in expected} <= set(synced)
    assert synced[-1] == os.stat(expected[-1]).st_ino


async def test_a_name_that_another_process_made_is_synced_before_it_is_used(
    local: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    async with _opened(tmp_path / "store") as other:
        assert (await local.get("t/slot")).status is Status.NOT_FOUND
        await other.put_if_absent("t/slot", b"x")
        monkeypatch.setattr(local._folder, "make_durable", synced.append)
        assert (await local.get("t/slot")).ok
    assert synced == [tmp_path / "store/t"]


async def test_waiting_for_the_disk_does_not_stop_the_loop(local: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    await local.put("t/a", b"x")
    reached, released = threading.Event(), threading.Event()

    def slow(descriptor: int) -> None:
        reached.set()
        assert released.wait(30), "the loop stood still"

    monkeypatch.setattr(files, "sync", slow)
    putting = asyncio.create_task(local.put_if_absent("t/b", b"x"))
    assert await asyncio.to_thread(reached.wait, 30)
    assert (await local.get("t/a")).ok
    assert (await local.get("t/b")).status is Status.NOT_FOUND
    released.set()
    assert (await putting).ok


async def test_a_store_nobody_wrote_to_touches_nothing(tmp_path: Path) -> None:
    async with _opened(tmp_path / "none") as store:
        assert (await store.get("a")).status is Status.NOT_FOUND
        assert [info async for info in store.list_from("")] == []
        await store.delete_many(["a/b"])
    assert not (tmp_path / "none").exists()


async def test_files_are_for_the_owner_only(local: LocalStore, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"y")
    source.chmod(0o644)
    await local.put("t/a", b"x")
    await local.put("t/b", source)
    async with local.lock("t", exclusive=False):
        pass
    for path in (tmp_path / "store").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


async def test_a_key_below_a_key_is_refused(local: LocalStore) -> None:
    await local.put("a/b", b"x")
    for call in (local.put("a/b/c", b"x"), local.put_if_absent("a/b/c", b"x"), local.put("a", b"x")):
        with pytest.raises(InvalidInputError):
            await call
    assert (await local.get("a/b")).body == b"x"


@pytest.fixture
def sealed_folder(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    tmp_path.chmod(0o500)
    yield tmp_path
    tmp_path.chmod(0o700)


async def test_a_folder_of_somebody_else_names_the_setting(sealed_folder: Path) -> None:
    async with _opened(sealed_folder / "store") as store:
        with pytest.raises(ConfigurationError, match="AKIDB_DATA_DIR"):
            await store.put("a", b"x")


async def test_a_lock_in_a_folder_mounted_read_only_names_the_setting(
    local: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with local.lock("t", exclusive=False):
        pass
    refuse_writing(monkeypatch)
    with pytest.raises(ConfigurationError, match=r"Read-only file system .*AKIDB_DATA_DIR and how it is mounted"):
        await local.lock("t", exclusive=False).__aenter__()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", tmp_path]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small file system")
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


async def test_a_full_disk_refuses_writes_and_goes_on_reading(small_disk: Path) -> None:
    async with _opened(small_disk / "store") as store:
        await store.put("t/a", b"kept")
        for _ in range(3):
            with pytest.raises(StorageFullError, match="AKIDB_DATA_DIR"):
                await store.put_if_absent("t/b", bytes(400_000))
        assert (await store.get("t/a")).body == b"kept"
        assert (await store.get("t/b")).status is Status.NOT_FOUND
        assert (await store.put_if_absent("t/b", b"small")).ok


_CRASH = """
import asyncio, os, signal, sys
from akidb.storage.local import LocalStore

async def main():
    store = LocalStore(sys.argv[1])
    await store.put("t/before", b"acknowledged")
    setattr(os, sys.argv[2], lambda *args, **kwargs: os.kill(os.getpid(), signal.SIGKILL))
    await store.put_if_absent("t/slot", b"never acknowledged")

asyncio.run(main())
"""


@pytest.mark.parametrize("step", ["write", "fsync", "link"])
async def test_what_a_killed_process_left_is_swept(tmp_path: Path, step: str) -> None:
    root = tmp_path / "store"
    async with _opened(root) as living:
        await living.put("t/living", b"x")  # has its staging folder now, which the sweep must leave alone
        crashed = await asyncio.create_subprocess_exec(sys.executable, "-c", _CRASH, str(root), step)
        assert await crashed.wait() == -signal.SIGKILL
        assert len(_leftovers(root)) == 1
        async with _opened(root) as store:
            assert (await store.get("t/before")).body == b"acknowledged"
            assert (await store.get("t/slot")).status is Status.NOT_FOUND
            assert [info.key async for info in store.list_from("")] == ["t/before", "t/living"]
            assert (await store.put_if_absent("t/slot", b"again")).ok
        assert _leftovers(root) == []
        assert (await living.put("t/living", b"y")).ok


_RACE = """
import asyncio, sys
from akidb.storage.local import LocalStore

async def main():
    store, me = LocalStore(sys.argv[1]), sys.argv[2].encode()
    print("ready", flush=True)
    sys.stdin.readline()
    won = 0
    for slot in range(100):
        won += (await store.put_if_absent(f"wal/{slot:04}", me)).ok
    for step in range(40):
        while True:
            seen = await store.get("counter")
            body = b"%d %s-%d" % (int(seen.body.split()[0]) + 1, me, step)
            if (await store.put_if_match("counter", body, seen.etag)).ok:
                break
    await store.close()
    print(won)

asyncio.run(main())
"""


async def test_processes_share_a_folder(local: LocalStore, tmp_path: Path) -> None:
    """Three processes: one winner for each of 100 slots, and no lost update of 120."""
    await local.put("counter", b"0 start")
    names = ["one", "two", "three"]
    command = [sys.executable, "-c", _RACE, str(tmp_path / "store")]
    pipes = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE}
    racers = [await asyncio.create_subprocess_exec(*command, name, **pipes) for name in names]
    for racer in racers:
        assert racer.stdout is not None
        assert await racer.stdout.readline() == b"ready\n"
    told = await asyncio.gather(*(racer.communicate(b"go\n") for racer in racers))
    won = {name: int(out) for name, (out, _) in zip(names, told, strict=True)}
    held = [(await local.get(f"wal/{slot:04}")).body.decode() for slot in range(100)]
    assert {name: held.count(name) for name in names} == won
    assert sum(won.values()) == 100
    assert (await local.get("counter")).body.split()[0] == b"120"


async def test_what_comes_after_the_closing_is_refused(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    await store.put("a", b"1")
    await store.close()
    with pytest.raises(UnavailableError, match="was closed meanwhile") as refused:
        await store.put("a", b"2")
    assert refused.value.code == "closing"
