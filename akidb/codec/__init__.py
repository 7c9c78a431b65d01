"""Bytes of objects: frames with checksums, packed strings, the bounds of objects in JSON. Knows no meaning."""

import contextlib
import os
from typing import TYPE_CHECKING

from akidb.codec.frame import Frame, crc32c, decode, encode
from akidb.codec.objects import find_objects
from akidb.codec.strings import pack, pack_text, unpack, unpack_text

if not TYPE_CHECKING and os.environ.get("AKIDB_PURE_PYTHON") != "1":
    with contextlib.suppress(ImportError):  # not built: the twins give the same answers, slower
        from akidb.codec._objects import find_objects
        from akidb.codec._strings import pack, pack_text, unpack, unpack_text

__all__ = ["Frame", "crc32c", "decode", "encode", "find_objects", "pack", "pack_text", "unpack", "unpack_text"]
