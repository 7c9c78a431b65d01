"""The client library set up for AkiDB. It is imported inside functions: it costs half a second that other stores need
not pay."""

from __future__ import annotations

import functools
import ssl
from dataclasses import dataclass, field
from typing import Any, Literal

from akidb.errors import ConfigurationError

_CONNECTIONS = 96


@dataclass(frozen=True, slots=True)
class Retention:
    """Object Lock for sealed segments: how long, and who may lift it."""

    days: int
    mode: Literal["GOVERNANCE", "COMPLIANCE"]


@dataclass(frozen=True, slots=True)
class S3Options:
    """Where and how. `endpoint` None is Amazon's own; without keys the standard credential chain is asked."""

    bucket: str
    endpoint: str | None = None
    region: str = "us-east-1"
    prefix: str = ""
    access_key: str | None = field(default=None, repr=False)
    secret_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    addressing: Literal["auto", "path", "virtual"] = "auto"
    ca_file: str | None = None
    create_bucket: bool = True
    encryption: Literal["sse-s3", "sse-kms"] | None = None
    kms_key_id: str | None = None
    retention: Retention | None = None
    connect_timeout_secs: float = 2.0
    read_timeout_secs: float = 10.0  # between two pieces of an answer; MinIO without write quorum hangs for longer
    upload_bytes_per_sec_min: float = 1 << 20  # slower is taken for stalled

    @property
    def location(self) -> str:
        path = "/".join(part for part in (self.bucket, self.prefix.strip("/")) if part)
        return f"s3://{path} at {self.endpoint or 'aws'}"


def new_client(options: S3Options) -> Any:
    """Called in a thread: importing the library and reading its models takes most of a second, entering what this
    returns then 10 ms. The library's own warm-up reads three times as much."""
    from aiobotocore.config import AioConfig
    from aiobotocore.session import get_session

    config = AioConfig(
        connect_timeout=options.connect_timeout_secs,
        read_timeout=options.read_timeout_secs,
        max_pool_connections=_CONNECTIONS,
        retries={"total_max_attempts": 1},
        request_checksum_calculation="when_required",  # SigV4's SHA-256 covers bodies; many stores know no trailers
        response_checksum_validation="when_required",
        parameter_validation=False,
        s3={"addressing_style": _addressing(options)},
    )
    session = get_session()
    session.register_component("data_loader", _models())
    return session.create_client(
        "s3",
        region_name=options.region,
        endpoint_url=options.endpoint,
        aws_access_key_id=options.access_key,
        aws_secret_access_key=options.secret_key,
        aws_session_token=options.session_token,
        verify=_authorities(options.ca_file),
        config=config,
    )


def _addressing(options: S3Options) -> str:
    """An endpoint of one's own seldom has a name per bucket in its DNS."""
    return "path" if options.addressing == "auto" and options.endpoint else options.addressing


def _authorities(ca_file: str | None) -> str | None:
    """The file, once it is known to hold certificates: the library would name neither it nor the setting."""
    if ca_file is not None:
        try:
            ssl.create_default_context(cafile=ca_file)
        except OSError as failed:
            reason = failed.strerror or failed
            raise ConfigurationError(
                f"AKIDB_S3_CA_FILE {ca_file!r} cannot be used: {reason}; expected a PEM file with certificates"
            ) from failed
    return ca_file


@functools.cache
def _models() -> Any:
    """What describes S3 to the library; read once per process."""
    from botocore.session import Session

    loader = Session().get_component("data_loader")
    for model in ("service-2", "endpoint-rule-set-1"):
        loader.load_service_model("s3", model)
    for data in ("endpoints", "partitions", "sdk-default-configuration", "_retry"):
        loader.load_data_with_path(data)
    return loader


def send_bodies_at_once(client: Any) -> None:
    """The library asks "Expect: 100-continue" and waits for the answer: a round trip more in every commit, to spare
    the body of a put that is refused, which is rare and small."""
    from botocore.handlers import add_expect_header

    client.meta.events.unregister("before-call.s3", add_expect_header)
