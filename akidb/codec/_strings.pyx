# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, freethreading_compatible=True
"""Cython twin of strings.py: the same four functions, without a Python object per step."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport uint64_t
from libc.string cimport memcpy

import numpy as np

from akidb.errors import CorruptionError

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL


def pack(items):
    cdef Py_ssize_t n = len(items), i
    cdef uint64_t total = 0
    offsets = np.empty(n + 1, np.uint64)
    cdef uint64_t[::1] bounds = offsets
    cdef list held = list(items)
    bounds[0] = 0
    for i in range(n):
        item = held[i]
        if item is not None:
            if not isinstance(item, bytes):
                raise TypeError(f"item {i} is {type(item).__name__}, expected bytes or None")
            total += <uint64_t>PyBytes_GET_SIZE(item)
        bounds[i + 1] = total
    blob = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>total)
    cdef char* out = PyBytes_AS_STRING(blob)
    for i in range(n):
        item = held[i]
        if item is not None:
            memcpy(out + bounds[i], PyBytes_AS_STRING(item), <size_t>(bounds[i + 1] - bounds[i]))
    return offsets, blob


def pack_text(items):
    cdef Py_ssize_t n = len(items), i, size
    cdef uint64_t total = 0
    offsets = np.empty(n + 1, np.uint64)
    cdef uint64_t[::1] bounds = offsets
    cdef list held = list(items)  # keeps every text, and the UTF-8 form that it caches, alive for the second pass
    bounds[0] = 0
    for i in range(n):
        PyUnicode_AsUTF8AndSize(held[i], &size)
        total += <uint64_t>size
        bounds[i + 1] = total
    blob = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>total)
    cdef char* out = PyBytes_AS_STRING(blob)
    for i in range(n):
        memcpy(out + bounds[i], PyUnicode_AsUTF8AndSize(held[i], &size), <size_t>(bounds[i + 1] - bounds[i]))
    return offsets, blob


def unpack(offsets, blob):
    cdef const uint64_t[::1] bounds = np.ascontiguousarray(offsets, np.uint64)
    cdef const unsigned char[::1] data = blob
    cdef Py_ssize_t n = check(bounds, data.shape[0]), i
    cdef const char* base = <const char*>&data[0] if data.shape[0] else NULL
    cdef list out = [None] * n
    for i in range(n):
        out[i] = PyBytes_FromStringAndSize(base + bounds[i], <Py_ssize_t>(bounds[i + 1] - bounds[i])) if base else b""
    return out


def unpack_text(offsets, blob):
    cdef const uint64_t[::1] bounds = np.ascontiguousarray(offsets, np.uint64)
    cdef const unsigned char[::1] data = blob
    cdef Py_ssize_t n = check(bounds, data.shape[0]), i
    cdef const char* base = <const char*>&data[0] if data.shape[0] else NULL
    cdef list out = [None] * n
    try:
        for i in range(n):
            size = <Py_ssize_t>(bounds[i + 1] - bounds[i])
            out[i] = PyUnicode_DecodeUTF8(<char*>base + bounds[i], size, NULL) if base else ""
    except UnicodeDecodeError as error:
        raise CorruptionError(f"packed strings: {error}") from error
    return out


cdef Py_ssize_t check(const uint64_t[::1] bounds, Py_ssize_t size) except -1:
    """Number of items. Without it a damaged object could make the loops above read outside the buffer."""
    cdef Py_ssize_t n = bounds.shape[0] - 1, i
    if n >= 0:
        for i in range(n):
            if bounds[i] > bounds[i + 1]:
                break
        else:
            if bounds[n] <= <uint64_t>size:
                return n
    raise CorruptionError(f"packed strings: offsets do not rise inside {size} bytes")
