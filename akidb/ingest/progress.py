"""How far a run has come, so that the next one goes on there.

A marker says that all rows up to a place in the list of files are stored. What a killed run had stored beyond it is
stored again, in the same order and under the same ids, so nothing is lost or doubled. A run that is done removes its
marker.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

SAVE_EVERY_SECS = 1.0


class Place(msgspec.Struct, frozen=True):
    """All rows of the files before `file`, and the first `row` rows of it, are stored or rejected.

    `witnesses` are ids of the last points stored: if one is gone, the collection is not the one that was filled.
    """

    file: int = 0
    row: int = 0
    stored: int = 0
    rejected: int = 0
    rejects_bytes: int = 0
    witnesses: list[str] = []


class _Marker(msgspec.Struct):
    identities: list[str]
    place: Place


class Progress:
    """The marker of one run: these files into that collection. `folder` None keeps none."""

    def __init__(self, folder: Path | None, run: Sequence[object], identities: Sequence[str]) -> None:
        name = hashlib.sha256(msgspec.json.encode(list(run))).hexdigest()[:32]
        self._path = None if folder is None else folder / f"{name}.json"
        self._identities = list(identities)
        self._next_save = 0.0

    def load(self) -> Place:
        """Where the last run came to; the beginning if there was none, or the files have changed since."""
        if self._path is None:
            return Place()
        try:
            marker = msgspec.json.decode(self._path.read_bytes(), type=_Marker)
        except (OSError, msgspec.DecodeError):
            return Place()
        return marker.place if marker.identities == self._identities else Place()

    def save(self, place: Place) -> None:
        """Once a second at most: the rest of a second is stored again after a kill, which does no harm."""
        if self._path is None or time.monotonic() < self._next_save:
            return
        self._next_save = time.monotonic() + SAVE_EVERY_SECS
        fresh = self._path.with_suffix(f".{os.getpid()}")
        fresh.write_bytes(msgspec.json.encode(_Marker(self._identities, place)))
        fresh.replace(self._path)

    def forget(self) -> None:
        if self._path is not None:
            self._path.unlink(missing_ok=True)


def state_folder() -> Path | None:
    """Where markers are kept: akidb/ingest below XDG_STATE_HOME or ~/.local/state; None if that cannot be written."""
    base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    folder = Path(base) / "akidb" / "ingest"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None
