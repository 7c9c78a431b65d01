"""Sending a large body in parts, several at a time. Not conditional: for keys that hold a fresh uuid."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from akidb.storage.files import opened, read_at
from akidb.storage.object_store import Body

MULTIPART_BYTES_MIN = 16 << 20
_PART_BYTES = 8 << 20  # signing hashes a part on the event loop; this much takes a few milliseconds
_PARTS_MAX = 10_000
_AT_ONCE = 4

Limit: TypeAlias = Callable[[int], asyncio.Timeout]
"""The time limit of a request that sends so many bytes."""


async def upload(
    client: Any, address: Mapping[str, str], kept: Mapping[str, Any], body: Body, size: int, limit: Limit, *, md5: bool
) -> str:
    """Returns the ETag. `kept` says how the object is to be kept; `md5`: every part carries its own, as Object Lock
    asks for. Raises what the library raises, or TimeoutError, after telling the store to forget the parts."""
    started = await client.create_multipart_upload(**address, **kept)
    address = {**address, "UploadId": started["UploadId"]}
    try:
        parts = await _send_parts(client, address, body, size, limit, md5)
        async with limit(size):  # a store may copy the parts together before it answers
            done = await client.complete_multipart_upload(**address, MultipartUpload={"Parts": parts})
    except BaseException:
        with contextlib.suppress(Exception):
            await asyncio.shield(client.abort_multipart_upload(**address))
        raise
    etag: str = done["ETag"]
    return etag


def content_md5(data: bytes) -> str:
    """The Content-MD5 header of a body."""
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


async def _send_parts(
    client: Any, address: Mapping[str, str], body: Body, size: int, limit: Limit, md5: bool
) -> list[dict[str, Any]]:
    part_bytes = max(_PART_BYTES, -(-size // _PARTS_MAX))
    slots = asyncio.Semaphore(_AT_ONCE)

    async def send(number: int, start: int) -> dict[str, Any]:
        async with slots:
            data = await asyncio.to_thread(_slice, body, start, min(start + part_bytes, size))
            sums = {"ContentMD5": await asyncio.to_thread(content_md5, data)} if md5 else {}
            async with limit(len(data)):
                answer = await client.upload_part(**address, PartNumber=number, Body=data, **sums)
        return {"PartNumber": number, "ETag": answer["ETag"]}

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(send(i + 1, start)) for i, start in enumerate(range(0, size, part_bytes))]
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in tasks]


def _slice(body: Body, start: int, end: int) -> bytes:
    if isinstance(body, Path):
        with opened(body) as descriptor:
            return read_at(descriptor, start, end)
    return bytes(memoryview(body).cast("B")[start:end])
