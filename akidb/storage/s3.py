"""Objects in a bucket of any S3-compatible store, by aiobotocore.

One call here is one request: the library's own retries are off, because a hidden second attempt of a conditional put
that had landed comes back as 412 and looks like somebody else's win. Only `put` of a large body is several requests.
"""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import threading
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from akidb.errors import AkiDBError, ConfigurationError, StorageFullError
from akidb.storage.keys import check_key, check_prefix, check_range, is_segment
from akidb.storage.object_store import Body, ObjectInfo, Reply, Status
from akidb.storage.s3_client import S3Options, new_client, send_bodies_at_once
from akidb.storage.s3_errors import is_missing_bucket, no_object_lock, refused, reply_of, status_of, translated
from akidb.storage.s3_multipart import MULTIPART_BYTES_MIN, content_md5, upload
from akidb.storage.s3_ranges import RangedGets
from akidb.storage.scratch import scratch

_DELETES_MAX = 1000  # per request, by the S3 interface


class S3Store:
    """An ObjectStore over a bucket. It connects at the first call, which also finds or creates the bucket; a call
    that fails leaves it to the next one to try again."""

    def __init__(self, options: S3Options) -> None:
        self._options = options
        prefix = options.prefix.strip("/")
        self._root = f"{prefix}/" if prefix else ""
        self._stack = AsyncExitStack()
        self._client: Any = None
        self._ranges = RangedGets()
        self._bucket_found = False
        self._connecting = asyncio.Lock()
        self._folder: Path | None = None
        self._folder_made = threading.Lock()

    @property
    def location(self) -> str:
        return self._options.location

    @property
    def can_delete(self) -> bool:
        return False

    async def get(
        self, key: str, *, byte_range: tuple[int, int] | None = None, if_none_match: str | None = None
    ) -> Reply:
        full_key = self._key(key)
        parameters = {} if if_none_match is None else {"IfNoneMatch": if_none_match}
        if byte_range is None:
            return await self._get(full_key, parameters)
        start, end = check_range(byte_range)
        asked = f"bytes={start}-{end - 1}"
        if if_none_match is not None:
            return await self._get(full_key, {**parameters, "Range": asked})
        reply = await self._get_again(full_key, asked)
        if reply is not None:
            return reply
        with self._ranges.asking(full_key, asked):
            return await self._get(full_key, parameters)

    async def _get(self, full_key: str, parameters: Mapping[str, Any]) -> Reply:
        answer = await self._request("get_object", full_key, parameters)
        if isinstance(answer, Reply):
            return answer
        try:
            async with answer["Body"] as stream:
                body = await stream.read()
        except Exception as failed:
            raise translated(failed, self._options) from failed
        return reply_of(answer["ResponseMetadata"]["HTTPHeaders"], body)

    async def _get_again(self, full_key: str, asked: str) -> Reply | None:
        """A range of an object of which another was read a moment ago; None where that is not known to be good."""
        try:
            return await self._ranges.send(full_key, asked, self._limit(0))
        except Exception as failed:
            raise translated(failed, self._options) from failed

    def get_now(
        self, key: str, *, byte_range: tuple[int, int] | None = None, if_none_match: str | None = None
    ) -> Reply | None:
        return None

    async def head(self, key: str) -> Reply:
        answer = await self._request("head_object", self._key(key), {})
        if isinstance(answer, Reply):
            return answer
        return replace(reply_of(answer["ResponseMetadata"]["HTTPHeaders"]), size=answer["ContentLength"])

    async def put(self, key: str, body: Body) -> Reply:
        size = body.stat().st_size if isinstance(body, Path) else memoryview(body).nbytes
        if size < MULTIPART_BYTES_MIN:
            return await self._put(key, body, {})
        client = await self._connected()
        address = {"Bucket": self._options.bucket, "Key": self._key(key)}
        try:
            etag = await upload(client, address, self._kept(key), body, size, self._limit, md5=self._is_locked(key))
        except Exception as failed:
            raise translated(failed, self._options) from failed
        return Reply(Status.OK, etag=etag)

    async def put_if_absent(self, key: str, body: Body) -> Reply:
        return await self._put(key, body, {"IfNoneMatch": "*"})

    async def put_if_match(self, key: str, body: Body, etag: str) -> Reply:
        return await self._put(key, body, {"IfMatch": etag})

    async def _put(self, key: str, body: Body, condition: Mapping[str, str]) -> Reply:
        full_key = self._key(key)
        data = await asyncio.to_thread(body.read_bytes) if isinstance(body, Path) else bytes(body)
        parameters = {"Body": data, **condition, **self._kept(key)}
        if self._is_locked(key):
            parameters["ContentMD5"] = await asyncio.to_thread(content_md5, data)
        answer = await self._request("put_object", full_key, parameters, len(data))
        return answer if isinstance(answer, Reply) else reply_of(answer["ResponseMetadata"]["HTTPHeaders"])

    async def list_from(self, prefix: str, start_after: str | None = None) -> AsyncIterator[ObjectInfo]:
        parameters = {"Bucket": self._options.bucket, "Prefix": self._root + check_prefix(prefix)}
        if start_after:
            parameters["StartAfter"] = self._root + start_after
        client = await self._connected()
        while True:
            try:
                page = await client.list_objects_v2(**parameters)
            except Exception as failed:
                raise translated(failed, self._options) from failed
            for found in page.get("Contents", ()):
                key = found["Key"].removeprefix(self._root)
                yield ObjectInfo(key, found["Size"], found["ETag"], found["LastModified"].timestamp())
            if not page["IsTruncated"]:
                return
            parameters["ContinuationToken"] = page["NextContinuationToken"]

    async def delete_many(self, keys: Iterable[str]) -> None:
        client = await self._connected()
        full_keys = [self._key(key) for key in keys]
        for start in range(0, len(full_keys), _DELETES_MAX):
            listed = {"Objects": [{"Key": key} for key in full_keys[start : start + _DELETES_MAX]], "Quiet": True}
            try:
                answer = await client.delete_objects(Bucket=self._options.bucket, Delete=listed)
            except Exception as failed:
                raise translated(failed, self._options) from failed
            for error in answer.get("Errors", ()):
                code = error.get("Code", "")
                status = 403 if code == "AccessDenied" else 500
                text = f"{error.get('Key')}: {error.get('Message')}"
                raise refused("DeleteObjects", code, status, text, self._options)

    async def local_path(self, key: str) -> Path | None:
        """Fetches the whole object into a temporary file, or memory where the disk is full, that lives as long as this
        store; FileCachedStore does better."""
        reply = await self.get(key)
        if not reply.ok:
            return None
        try:
            return await asyncio.to_thread(self._write_temporary, reply.body)
        except OSError as failed:
            message = f"no room for a copy of {key} ({failed.strerror}): give AKIDB_CACHE_HOT_PATH or TMPDIR more"
            raise StorageFullError(message) from failed

    def _write_temporary(self, data: bytes) -> Path:
        with self._folder_made:
            if self._folder is None:
                self._folder = self._stack.enter_context(scratch("s3"))
        path = self._folder / secrets.token_hex(16)
        try:
            path.write_bytes(data)
        except OSError as failed:
            path.unlink(missing_ok=True)
            if failed.errno != errno.ENOSPC or not hasattr(os, "memfd_create"):  # macOS has none
                raise
            return self._write_memory(data)
        return path

    def _write_memory(self, data: bytes) -> Path:
        """A file without a disk: with that full too, memory is what is left to answer from."""
        descriptor = os.memfd_create("akidb-s3")
        self._stack.callback(os.close, descriptor)
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(data)
        return Path(f"/proc/self/fd/{descriptor}")

    async def has_local(self, key: str) -> bool:
        return False

    async def forget_local(self, key: str) -> None:
        """Nothing: each call of `local_path` fetches a copy of its own."""

    def lock(self, prefix: str, *, exclusive: bool) -> AbstractAsyncContextManager[None]:
        return nullcontext()

    async def close(self) -> None:
        await self._stack.aclose()

    async def _request(self, operation: str, key: str, parameters: Mapping[str, Any], upload_bytes: int = 0) -> Any:
        """The library's answer where it is 2xx, a Reply where the store said 304, 404, 409 or 412.

        The first gets do not wait for what is asked about the bucket, which goes beside them.
        """
        if self._bucket_found or operation != "get_object":
            return await self._answer(await self._connected(), operation, key, parameters, upload_bytes)
        call = partial(self._answer, await self._connected(bucket=False), operation, key, parameters, upload_bytes)
        both: tuple[Any, Any] = await asyncio.gather(call(), self._connected(), return_exceptions=True)
        answer, refusal = both
        if isinstance(refusal, BaseException):
            raise refusal
        if isinstance(answer, ConfigurationError):  # the bucket was made only now
            return await call()
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def _answer(
        self, client: Any, operation: str, key: str, parameters: Mapping[str, Any], upload_bytes: int
    ) -> Any:
        try:
            async with self._limit(upload_bytes):
                return await getattr(client, operation)(Bucket=self._options.bucket, Key=key, **parameters)
        except Exception as failed:
            reply = status_of(failed)
            if reply is None:
                raise translated(failed, self._options) from failed
            return reply

    def _limit(self, upload_bytes: int) -> asyncio.Timeout:
        """A time limit of our own: the library's starts when the request has been sent, which a store that does not
        read can put off for ever."""
        options = self._options
        slow = upload_bytes / options.upload_bytes_per_sec_min
        return asyncio.timeout(options.connect_timeout_secs + options.read_timeout_secs + slow)

    async def _connected(self, *, bucket: bool = True) -> Any:
        """The client, and with `bucket` also a bucket that is known to be there."""
        if self._client is None or (bucket and not self._bucket_found):
            async with self._connecting:
                if self._client is None:
                    self._client = await self._new_client()
                if bucket and not self._bucket_found:
                    await self._find_bucket()
                    if self._options.retention is not None:
                        await self._require_object_lock()
                    self._bucket_found = True
        return self._client

    async def _new_client(self) -> Any:
        try:
            opening = await asyncio.to_thread(new_client, self._options)
            client = await self._stack.enter_async_context(opening)
        except AkiDBError:
            raise
        except Exception as failed:
            raise translated(failed, self._options) from failed
        send_bodies_at_once(client)
        self._ranges.watch(client)
        return client

    async def _find_bucket(self) -> None:
        """Lists instead of HeadBucket: that needs a right on the whole bucket, and its refusals do not say why.

        A bucket that vanishes later is never made again: what was in it is not there either.
        """
        try:
            await self._client.list_objects_v2(Bucket=self._options.bucket, Prefix=self._root, MaxKeys=1)
        except Exception as failed:
            if not (is_missing_bucket(failed) and self._options.create_bucket):
                raise translated(failed, self._options) from failed
        else:
            return
        region = self._options.region
        how: dict[str, Any] = {}
        if region != "us-east-1":
            how["CreateBucketConfiguration"] = {"LocationConstraint": region}
        if self._options.retention is not None:
            how["ObjectLockEnabledForBucket"] = True
        try:
            await self._client.create_bucket(Bucket=self._options.bucket, **how)
        except self._client.exceptions.BucketAlreadyOwnedByYou:
            pass  # another node was quicker
        except Exception as failed:
            raise translated(failed, self._options) from failed

    async def _require_object_lock(self) -> None:
        """Asked before anything is written: the first segment would be refused only when there is much to fold."""
        try:
            await self._client.get_object_lock_configuration(Bucket=self._options.bucket)
        except Exception as failed:
            raise no_object_lock(failed, self._options) from failed

    def _key(self, key: str) -> str:
        return self._root + check_key(key)

    def _is_locked(self, key: str) -> bool:
        return self._options.retention is not None and is_segment(key)

    def _kept(self, key: str) -> dict[str, Any]:
        """How the store shall keep the object: encrypted, and, a segment, under Object Lock."""
        options = self._options
        headers: dict[str, Any] = {}
        if options.encryption is not None:
            headers["ServerSideEncryption"] = "AES256" if options.encryption == "sse-s3" else "aws:kms"
        if options.kms_key_id is not None:
            headers["SSEKMSKeyId"] = options.kms_key_id
        if options.retention is not None and is_segment(key):
            headers["ObjectLockMode"] = options.retention.mode
            headers["ObjectLockRetainUntilDate"] = datetime.now(UTC) + timedelta(days=options.retention.days)
        return headers
