"""Which keys exist at all. Names typed by users never become keys; this check is the second fence behind that rule."""

from __future__ import annotations

import re

from akidb.errors import InvalidInputError

FORMAT_KEY = "format"
"""The object that every store begins with."""

PROBE_FOLDER = "probe"
"""Where a store is tried out; what is below it may be deleted at any time."""

WRITER_KEY = "lease/writer"
"""Which process writes, where the store keeps no conditions. It may be there before FORMAT is."""

LOCK_NAME = "lock"
"""Last part of the local store's lock files; no object may be called so."""

_PART = r"[a-z0-9][a-z0-9_-]*(?:\.[a-z0-9_-]+)*"
_KEY = re.compile(rf"{_PART}(?:/{_PART})*")
_PREFIX = re.compile(rf"(?:{_PART}/)*(?:{_PART}\.?)?")
_KEY_BYTES_MAX = 512  # S3 allows 1,024 with the configured prefix in front
_PART_BYTES_MAX = 200  # a file name may have 255


def check_key(key: str) -> str:
    """Returns `key`, which is parts of `[a-z0-9._-]` joined by `/`.

    A part begins with a letter or digit and has no `..`, so no key is absolute, hidden, or climbs out of its folder,
    on any file system. Raises InvalidInputError (code `bad_key`).
    """
    if not is_key(key):
        raise InvalidInputError(f"key {key[:80]!r} is not a storage key of [a-z0-9._-] parts", code="bad_key")
    return key


def is_key(key: str) -> bool:
    """Whether `check_key` takes it. A listing may tell of keys that it does not: others put them there."""
    parts = key.split("/")
    long = len(key) > _KEY_BYTES_MAX or max(map(len, parts)) > _PART_BYTES_MAX
    return not long and parts[-1] != LOCK_NAME and _KEY.fullmatch(key) is not None


def is_segment(key: str) -> bool:
    """Whether it is a sealed segment: the only kind of object that is never written again and may be locked."""
    return "/seg/" in key


def check_prefix(prefix: str) -> str:
    """Returns `prefix`, which is the beginning of a key and may end in `/` or inside a part. Raises
    InvalidInputError."""
    if len(prefix) > _KEY_BYTES_MAX or _PREFIX.fullmatch(prefix) is None:
        raise InvalidInputError(f"prefix {prefix[:80]!r} is not the beginning of a storage key", code="bad_key")
    return prefix


def check_range(byte_range: tuple[int, int], size: int | None = None) -> tuple[int, int]:
    """Returns [start, end) if it names at least one byte of an object of `size` bytes. Raises InvalidInputError."""
    start, end = byte_range
    if not 0 <= start < end or (size is not None and start >= size):
        where = "" if size is None else f" of an object of {size} bytes"
        raise InvalidInputError(f"byte range [{start}, {end}){where} names no byte", code="bad_range")
    return start, end
