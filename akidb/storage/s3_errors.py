"""What an answer or a failure of an S3-compatible store means, and which setting to look at."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from akidb.errors import AkiDBError, ConfigurationError, InvalidInputError, StorageFullError, UnavailableError
from akidb.storage.object_store import Reply, Status
from akidb.storage.s3_client import S3Options

_STATUSES = {
    304: Status.NOT_MODIFIED,
    404: Status.NOT_FOUND,
    409: Status.CONFLICT,
    412: Status.CONDITION_FAILED,
}
_FULL = {"XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "QuotaExceeded", "InsufficientStorage"}
_BUSY = {"RequestTimeout", "Throttling", "ThrottlingException", "RequestLimitExceeded"}  # some stores send them as 400
_BAD_KEYS = {
    "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken", "TokenRefreshRequired",
    "InvalidTokenId",  # MinIO, for temporary keys without their token
    "XAdminUserNotFound",  # versitygw, with status 404
}  # fmt: skip
_BAD_REGION = {
    "AuthorizationHeaderMalformed",
    "PermanentRedirect",
    "IllegalLocationConstraintException",
    "InvalidRegion",
}

_GET = "Get, or List of the whole bucket, without which what is not there is denied as well"
_RIGHTS = {
    "GetObject": _GET, "HeadObject": _GET, "ListObjectsV2": "List", "DeleteObjects": "Delete",
    "PutObject": "Put", "CreateMultipartUpload": "Put", "UploadPart": "Put", "CompleteMultipartUpload": "Put",
    "CreateBucket": "CreateBucket (or create the bucket yourself)",
}  # fmt: skip


def status_of(failed: Exception) -> Reply | None:
    """The answer that the library raised as an error; None if it is no answer."""
    code, http_status, headers = _parts(failed)
    if http_status not in _STATUSES:
        return None
    # A strong read takes a missing slot for the end of the log, so a 404 must say that it means the object, and not the
    # bucket, the keys' owner or a proxy's route. An answer to HEAD has no body to say it in.
    if http_status == 404 and code != "NoSuchKey" and getattr(failed, "operation_name", "") != "HeadObject":
        return None
    return Reply(
        _STATUSES[http_status],
        etag=headers.get("etag"),
        date=http_time(headers.get("date")),
        last_modified=http_time(headers.get("last-modified")),
    )


def reply_of(headers: Mapping[str, str], body: bytes = b"") -> Reply:
    """The answer whose status is 2xx, of its headers, their names in small letters, and its body."""
    _, _, size = headers.get("content-range", "").rpartition("/")
    dates = http_time(headers.get("date")), http_time(headers.get("last-modified"))
    return Reply(Status.OK, body, headers.get("etag"), int(size or len(body)), *dates)


def is_missing_bucket(failed: Exception) -> bool:
    return _parts(failed)[0] == "NoSuchBucket"


@functools.lru_cache(maxsize=64)  # many answers are of one object and of the same second
def http_time(text: str | None) -> float | None:
    """Seconds since 1970 of an HTTP date; None if there is none or it is garbled."""
    if text is None:
        return None
    try:
        return parsedate_to_datetime(text).timestamp()
    except ValueError:
        return None


def translated(failed: Exception, options: S3Options) -> AkiDBError:
    """The error to raise. No message holds a key or a secret: of the store's answer only code and text are used."""
    code, http_status, _ = _parts(failed)
    where = options.location
    if getattr(failed, "operation_name", "").startswith("AssumeRole"):
        return ConfigurationError(
            f"{where}: the role was not given ({code}: {_text(failed)}); check AWS_ROLE_ARN and its trust policy, or "
            "set AKIDB_S3_ACCESS_KEY and AKIDB_S3_SECRET_KEY"
        )
    if code is not None:
        return refused(getattr(failed, "operation_name", ""), code, http_status, _text(failed), options)
    from botocore.exceptions import (
        ConnectTimeoutError,
        EndpointConnectionError,
        NoCredentialsError,
        PartialCredentialsError,
        ProfileNotFound,
        ReadTimeoutError,
        SSLError,
    )

    if isinstance(failed, NoCredentialsError | PartialCredentialsError | ProfileNotFound):
        return ConfigurationError(
            f"{where}: no credentials ({failed}); set AKIDB_S3_ACCESS_KEY and AKIDB_S3_SECRET_KEY, or what the "
            "standard credential chain reads"
        )
    if isinstance(failed, SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(failed):
        return ConfigurationError(
            f"{where} shows a certificate that no known authority signed; name yours in AKIDB_S3_CA_FILE"
        )
    if isinstance(failed, SSLError):
        return UnavailableError(
            f"{where} speaks no TLS that fits ({failed}); is it https in AKIDB_S3_ENDPOINT, or http?"
        )
    if isinstance(failed, ConnectTimeoutError | EndpointConnectionError):
        return UnavailableError(
            f"{where} cannot be reached: {failed}; is AKIDB_S3_ENDPOINT right, is the store running?"
        )
    if isinstance(failed, ReadTimeoutError | TimeoutError):
        return UnavailableError(f"{where} did not answer within {options.read_timeout_secs:g} s")
    return UnavailableError(f"{where} failed: {type(failed).__name__}: {failed}")


def no_object_lock(failed: Exception, options: S3Options) -> AkiDBError:
    """The error where asking for the bucket's Object Lock failed."""
    code, http_status, _ = _parts(failed)
    if code is None or http_status >= 500:
        return translated(failed, options)
    return ConfigurationError(
        f"{options.location}: AKIDB_S3_OBJECT_LOCK_ENABLED is true, but the bucket has no Object Lock that can be seen "
        f"({code}: {_text(failed)}); make a bucket with Object Lock, or switch the setting off"
    )


def refused(operation: str, code: str, http_status: int, text: str, options: S3Options) -> AkiDBError:
    """The error for an answer of the store, to an operation of S3, that is none of `status_of`'s."""
    where = options.location
    if code == "NoSuchBucket":
        return ConfigurationError(
            f"{where}: there is no bucket {options.bucket!r}; create it or correct AKIDB_S3_BUCKET",
            code="no_such_bucket",
        )
    if code == "InvalidBucketName":
        return ConfigurationError(f"{where}: {options.bucket!r} can't name a bucket ({text}); correct AKIDB_S3_BUCKET")
    if code in _BAD_KEYS:
        return ConfigurationError(
            f"{where} refused the keys ({code}): check AKIDB_S3_ACCESS_KEY and AKIDB_S3_SECRET_KEY, and "
            "AKIDB_S3_SESSION_TOKEN where they are temporary"
        )
    if code == "RequestTimeTooSkewed":
        return ConfigurationError(f"{where} says this machine's clock is wrong ({code}): set it, for instance by NTP")
    if code in _BAD_REGION or http_status == 301:
        return ConfigurationError(f"{where} is in another region ({code}: {text}): check AKIDB_S3_REGION")
    if code in _FULL or http_status == 507:
        return StorageFullError(f"{where} has no room left ({code})")
    if http_status == 403:
        lacking = f"AKIDB_S3_ACCESS_KEY lacks the right {_right(operation, options)}"
        return ConfigurationError(
            f"{where} denied {operation} ({code}: {text}): {lacking}; it needs Get, Put, Delete and List"
        )
    if http_status == 416:
        return InvalidInputError(f"the byte range lies past the object's end ({code})", code="bad_range")
    if http_status == 501:
        return ConfigurationError(f"{where} lacks what AkiDB needs ({code}: {text})")
    if http_status == 404:
        return ConfigurationError(
            f"{where} answered 404 {code} ({text}), as no S3 store does: AKIDB_S3_ENDPOINT should be the scheme, "
            "host and port of one, and a path only where its documentation says so"
        )
    if 400 <= http_status < 500 and http_status not in (408, 409, 425, 429) and code not in _BUSY:
        return ConfigurationError(
            f"{where} refused the request ({http_status} {code}: {text}): check the AKIDB_S3_ settings"
        )
    return UnavailableError(f"{where} answered {http_status} {code}: {text}")


def _right(operation: str, options: S3Options) -> str:
    right = _RIGHTS.get(operation, operation)
    if right != "Put":
        return right
    locks = ["PutObjectRetention, which AKIDB_S3_OBJECT_LOCK_ENABLED takes"] if options.retention is not None else []
    keys = ["the use of the key in AKIDB_S3_KMS_KEY_ID"] if options.kms_key_id is not None else []
    return ", or ".join([right, *locks, *keys])


def _parts(failed: Exception) -> tuple[str | None, int, dict[str, str]]:
    """(S3's code, HTTP status, headers) of an error the store answered with; code None for all other errors."""
    response: dict[str, Any] = getattr(failed, "response", None) or {}
    if "Error" not in response:
        return None, 0, {}
    meta = response.get("ResponseMetadata", {})
    return str(response["Error"].get("Code", "")), int(meta.get("HTTPStatusCode", 0)), meta.get("HTTPHeaders", {})


def _text(failed: Exception) -> str:
    text: str = getattr(failed, "response", {})["Error"].get("Message", "")
    return text
