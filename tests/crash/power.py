"""What a disk may hold after the power fails: recorded file operations, and every legal state at each of them.

As in ALICE (Pillai et al., 2014): a file's bytes are on the disk once the file was synced, a name once its folder was;
what was not synced may be there or not, whatever its order. Real file systems keep more; a program may not rely on it.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

State = dict[str, bytes | None]
"""Path below the root -> the file's bytes, None for a folder."""

_STAGING = ".tmp"  # what lies there is no object, and is swept by who comes next


@dataclass(eq=False)
class File:
    content: bytearray = field(default_factory=bytearray)
    synced: bytes = b""


@dataclass(eq=False)
class Folder:
    """`synced` are the names on the disk; `pending` changes of names since, None: removed."""

    synced: dict[str, File | Folder] = field(default_factory=dict)
    pending: list[tuple[str, File | Folder | None]] = field(default_factory=list)

    def names(self) -> dict[str, File | Folder]:
        return _changed(self.synced, self.pending)


class Disk:
    """The files below `root`, as this process sees them and as the disk has them."""

    def __init__(self, root: Path) -> None:
        self._prefix = f"{root}/"
        self.root = Folder()
        self._open: dict[int, File | Folder] = {}
        self._lock = threading.RLock()
        self.at_step: Callable[[str], None] = lambda step: None

    def find(self, path: str) -> File | Folder | None:
        found: File | Folder | None = self.root
        for name in path.split("/") if path else ():
            if not isinstance(found, Folder):
                return None
            found = found.names().get(name)
        return found

    def _place(self, path: str) -> tuple[Folder, str]:
        folder, _, name = path.rpartition("/")
        parent = self.find(folder)
        assert isinstance(parent, Folder), path
        return parent, name

    def inside(self, path: Any) -> str | None:
        """The path below the root, if it is there."""
        text = os.fspath(path)
        if not isinstance(text, str) or not f"{text}/".startswith(self._prefix):
            return None
        return f"{text}/"[len(self._prefix) : -1]

    # What each call does, after it succeeded.

    def opened(self, descriptor: int, path: str, flags: int) -> str | None:
        node = self.find(path)
        if node is None:
            folder, name = self._place(path)
            node = File()
            folder.pending.append((name, node))
        self._open[descriptor] = node
        return f"create {path}" if flags & os.O_CREAT else None

    def closed(self, descriptor: int) -> None:
        self._open.pop(descriptor, None)

    def wrote(self, descriptor: int, data: bytes) -> str | None:
        node = self._open.get(descriptor)
        if not isinstance(node, File):
            return None
        node.content += data
        return "write"

    def synced(self, descriptor: int) -> str | None:
        node = self._open.get(descriptor)
        if isinstance(node, File):
            node.synced = bytes(node.content)
        elif isinstance(node, Folder):
            node.synced, node.pending = node.names(), []
        return None if node is None else "sync"

    def made(self, path: str) -> str:
        folder, name = self._place(path)
        folder.pending.append((name, Folder()))
        return f"mkdir {path}"

    def linked(self, source: str | None, target: str) -> str:
        """`source` None: a file from elsewhere, as it is now; none of its bytes is known to be on the disk."""
        folder, name = self._place(target)
        node = File(bytearray(Path(self._prefix + target).read_bytes())) if source is None else self.find(source)
        folder.pending.append((name, node))
        return f"link {target}"

    def replaced(self, source: str | None, target: str) -> str:
        self.linked(source, target)
        assert source is not None, target
        self.removed(source)
        return f"replace {target}"

    def removed(self, path: str) -> str:
        folder, name = self._place(path)
        folder.pending.append((name, None))
        return f"unlink {path}"

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Follows what this process does below the root; `at_step` hears of each change just after it happened."""

        def following(name: str, follow: Callable[..., str | None]) -> Callable[..., Any]:
            real = getattr(os, name)

            def call(*args: Any, **how: Any) -> Any:
                with self._lock:
                    result = real(*args, **how)
                    step = None if how.get("dir_fd") is not None else follow(result, *args)
                if step is not None:
                    self.at_step(step)
                return result

            return call

        def on_path(follow: Callable[..., str | None]) -> Callable[..., str | None]:
            def told(result: Any, *args: Any) -> str | None:
                path = self.inside(args[0])
                return None if path is None or path == "" else follow(result, path, *args[1:])

            return told

        def on_paths(follow: Callable[[str | None, str], str]) -> Callable[..., str | None]:
            def told(result: Any, source: Any, target: Any) -> str | None:
                inside = self.inside(target)
                return None if inside is None else follow(self.inside(source), inside)

            return told

        def open_root_too(result: int, path: Any, flags: int, *_: Any) -> str | None:
            inside = self.inside(path)
            return None if inside is None else self.opened(result, inside, flags)

        wrapped = {
            "open": following("open", open_root_too),
            "close": following("close", lambda _, descriptor: self.closed(descriptor)),
            "write": following("write", lambda count, descriptor, data: self.wrote(descriptor, bytes(data[:count]))),
            "fsync": following("fsync", lambda _, descriptor: self.synced(descriptor)),
            "mkdir": following("mkdir", on_path(lambda _, path, *__: self.made(path))),
            "unlink": following("unlink", on_path(lambda _, path: self.removed(path))),
            "link": following("link", on_paths(self.linked)),
            "replace": following("replace", on_paths(self.replaced)),
        }
        with patch.multiple(os, **wrapped):
            yield

    def states(self, rng: random.Random, most: int) -> Iterator[State]:
        """Legal states of the disk if the power fails now: all of them, or `most`, the extremes among them."""
        with self._lock:
            changes = [(folder, n) for folder in _folders(self.root) for n in range(len(folder.pending))]
            for kept in itertools.islice(_subsets(len(changes), rng), most):
                chosen = {(id(changes[i][0]), changes[i][1]) for i in kept}
                for share in (0.0, 0.5, 1.0):
                    state: State = {}
                    if not _lay_out(self.root, "", chosen, share, state):
                        yield state
                        break  # every byte was synced
                    yield state


def _changed(names: dict[str, File | Folder], changes: Any) -> dict[str, File | Folder]:
    after = dict(names)
    for name, node in changes:
        if node is None:
            after.pop(name, None)
        else:
            after[name] = node
    return after


def _folders(folder: Folder) -> Iterator[Folder]:
    """All that may be on the disk, staging left out."""
    yield folder
    inside = {id(node): node for node in folder.synced.values()}
    inside |= {id(node): node for name, node in folder.pending if name != _STAGING}
    for node in inside.values():
        if isinstance(node, Folder) and node is not folder.synced.get(_STAGING):
            yield from _folders(node)


def _subsets(count: int, rng: random.Random) -> Iterator[list[int]]:
    """Which of `count` changes reached the disk: all subsets where they are few, else the telling ones, then chance."""
    if count <= 5:
        for size in range(count + 1):
            yield from map(list, itertools.combinations(range(count), size))
        return
    yield []
    yield list(range(count))
    for n in range(count):
        yield [i for i in range(count) if i != n]
        yield [n]
        yield list(range(n))
    while True:
        yield [i for i in range(count) if rng.random() < 0.5]


def _lay_out(folder: Folder, at: str, chosen: set[tuple[int, int]], share: float, state: State) -> bool:
    """Fills `state`; of bytes not synced, `share` is there. Whether there are such."""
    unsure = False
    kept = [change for n, change in enumerate(folder.pending) if (id(folder), n) in chosen]
    for name, node in _changed(folder.synced, kept).items():
        if name == _STAGING:
            continue
        if isinstance(node, Folder):
            state[at + name] = None
            unsure |= _lay_out(node, f"{at}{name}/", chosen, share, state)
        else:
            content = bytes(node.content)
            unsure |= content != node.synced
            state[at + name] = content[: max(len(node.synced), int(share * len(content)))]
    return unsure


def digest(state: State) -> bytes:
    total = hashlib.blake2b()
    for path in sorted(state):
        body = state[path]
        total.update(f"{path}\0{'' if body is None else hashlib.blake2b(body).hexdigest()}\0".encode())
    return total.digest()


def write_out(state: State, folder: Path) -> None:
    for path in sorted(state):
        body = state[path]
        if body is None:
            (folder / path).mkdir(mode=0o700)
        else:
            (folder / path).write_bytes(body)
