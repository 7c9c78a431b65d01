"""Where the objects of a JSON text `{"key": [{...}, {...}]}` begin and end, so that they can be decoded in pieces.

No parser: it follows strings, escapes and depth, and takes no look at anything else, so it is right about the bounds of
objects that are JSON, and whoever decodes them finds those that are not. A text of any other shape is told by None.

`akidb.codec` exports this, or its Cython twin of `_objects.pyx`, which leaves the GIL to others; see strings.py.
"""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

_MARK = re.compile(rb'"(?:[^"\\]+|\\.)*+"|["{}\[\]]', re.DOTALL)
_COMMA = re.compile(rb"[ \t\n\r]*,[ \t\n\r]*")
_END = re.compile(rb"[ \t\n\r]*\][ \t\n\r]*\}[ \t\n\r]*\Z")


def find_objects(text: bytes, key: bytes) -> npt.NDArray[np.int64] | None:
    """Begin and end of each object, (n, 2); None where `text` is not one object with only `key` (of plain ASCII), a
    list of objects."""
    start = re.match(rb'[ \t\n\r]*\{[ \t\n\r]*"%s"[ \t\n\r]*:[ \t\n\r]*\[[ \t\n\r]*' % re.escape(key), text)
    if start is None:
        return None
    found: list[tuple[int, int]] = []
    at = start.end()
    while text.startswith(b"{", at):
        end = _end_of_object(text, at)
        if end is None:
            return None
        found.append((at, end))
        comma = _COMMA.match(text, end)
        if comma is None:
            break
        at = comma.end()
    else:
        if found:  # a comma, and no object after it
            return None
    if _END.match(text, found[-1][1] if found else at) is None:
        return None
    return np.array(found, np.int64).reshape(-1, 2)


def _end_of_object(text: bytes, at: int) -> int | None:
    """Where the object that begins at `at` ends: behind the bracket that closes its first one."""
    depth = 0
    for mark in _MARK.finditer(text, at):
        match mark[0]:
            case b"{" | b"[":
                depth += 1
            case b"}" | b"]":
                depth -= 1
                if depth == 0:
                    return mark.end()
            case b'"':
                return None  # a string without an end
    return None
