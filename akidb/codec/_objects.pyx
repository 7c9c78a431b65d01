# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, freethreading_compatible=True
"""Cython twin of objects.py. It lets go of the GIL: the event loop runs while a body of many megabytes is looked through."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t
from libc.stdlib cimport free, realloc

import numpy as np


cdef struct Bounds:
    int64_t* data
    Py_ssize_t count
    Py_ssize_t capacity


def find_objects(bytes text not None, bytes key not None):
    cdef Bounds found = Bounds(NULL, 0, 0)
    cdef const char* begin = PyBytes_AS_STRING(text)
    cdef const char* name = PyBytes_AS_STRING(key)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(text), name_size = PyBytes_GET_SIZE(key)
    cdef int told
    try:
        with nogil:
            told = _find(begin, size, name, name_size, &found)
        if told < 0:
            raise MemoryError
        if told == 0:
            return None
        raw = PyBytes_FromStringAndSize(<const char*>found.data, found.count * sizeof(int64_t)) if found.count else b""
        return np.frombuffer(raw, np.int64).reshape(-1, 2)
    finally:
        free(found.data)


# A bytes object ends in a zero byte that is not counted, which is no character looked for here: reading text[size] is fine.
cdef int _find(const char* text, Py_ssize_t size, const char* key, Py_ssize_t key_size, Bounds* found) noexcept nogil:
    """1 if the text has the shape, 0 if not, -1 without memory."""
    cdef Py_ssize_t at = _blank(text, _one(text, _blank(text, 0), b"{")), end, i
    at = _one(text, at, b'"')
    for i in range(key_size):
        at = _one(text, at, key[i])
    at = _blank(text, _one(text, at, b'"'))
    at = _blank(text, _one(text, at, b":"))
    at = _blank(text, _one(text, at, b"["))
    if at < 0:
        return 0
    while text[at] == b"{":
        end = _end_of_object(text, at, size)
        if end < 0:
            return 0
        if not _append(found, at, end):
            return -1
        at = _blank(text, end)
        if text[at] != b",":
            break
        at = _blank(text, at + 1)
    else:
        if found.count:  # a comma, and no object after it
            return 0
    at = _blank(text, _one(text, at, b"]"))
    at = _blank(text, _one(text, at, b"}"))
    return at == size


cdef inline Py_ssize_t _blank(const char* text, Py_ssize_t at) noexcept nogil:
    """Behind the white space at `at`; -1 stays -1."""
    while at >= 0 and (text[at] == b" " or text[at] == b"\n" or text[at] == b"\r" or text[at] == b"\t"):
        at += 1
    return at


cdef inline Py_ssize_t _one(const char* text, Py_ssize_t at, char wanted) noexcept nogil:
    """Behind the character at `at` if it is `wanted` (which is not the zero byte), else -1."""
    return at + 1 if at >= 0 and text[at] == wanted else -1


cdef Py_ssize_t _end_of_object(const char* text, Py_ssize_t at, Py_ssize_t size) noexcept nogil:
    """Where the object that begins at `at` ends: behind the bracket that closes its first one; -1 if it does not."""
    cdef Py_ssize_t depth = 0
    cdef char c
    while at < size:
        c = text[at]
        at += 1
        if c == b'"':
            while at < size and text[at] != b'"':
                at += 2 if text[at] == b"\\" else 1
            at += 1
            if at > size:
                return -1  # a string without an end
        elif c == b"{" or c == b"[":
            depth += 1
        elif c == b"}" or c == b"]":
            depth -= 1
            if depth == 0:
                return at
    return -1


cdef bint _append(Bounds* found, Py_ssize_t start, Py_ssize_t end) noexcept nogil:
    cdef int64_t* grown
    if found.count + 2 > found.capacity:
        found.capacity = 2 * found.capacity + 512
        grown = <int64_t*>realloc(found.data, found.capacity * sizeof(int64_t))
        if grown == NULL:
            return False
        found.data = grown
    found.data[found.count] = start
    found.data[found.count + 1] = end
    found.count += 2
    return True
