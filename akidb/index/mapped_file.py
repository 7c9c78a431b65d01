"""Files that are searched where they lie."""

from __future__ import annotations

import errno
import mmap
import os
import stat
import weakref

import numpy as np
import numpy.typing as npt


class MappedFile:
    """A file, mapped whole and open for reading: closed once nothing refers to it any more, while the mapping lives as
    long as any array of it. Raises OSError.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fsdecode(path)
        self._descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe would wait for who writes to it
        weakref.finalize(self, os.close, self._descriptor).atexit = False  # threads may be at work until the end
        status = os.fstat(self._descriptor)
        if stat.S_ISDIR(status.st_mode):  # mmap refuses it without naming it
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), self.path)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "is no regular file", self.path)
        empty = status.st_size == 0  # which can't be mapped
        if hasattr(os, "posix_fadvise"):  # of reads, which want single rows; what is mapped is still read ahead
            os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        self.data = memoryview(b"" if empty else mmap.mmap(self._descriptor, 0, access=mmap.ACCESS_READ))

    def fileno(self) -> int:
        return self._descriptor

    def place_of(self, array: npt.NDArray[np.generic]) -> int:
        """Where in the file the first byte of an array over `data` is."""
        return array.ctypes.data - np.frombuffer(self.data, np.uint8).ctypes.data
