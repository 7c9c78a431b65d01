"""Bytes of objects: frames with checksums, and packed strings. Knows no meaning of what it packs."""

from akidb.codec.frame import Frame, crc32c, decode, encode
from akidb.codec.strings import pack, pack_text, unpack, unpack_text

__all__ = ["Frame", "crc32c", "decode", "encode", "pack", "pack_text", "unpack", "unpack_text"]
