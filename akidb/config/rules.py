"""What holds between settings: combinations that are refused, and those that are worth a warning."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from akidb.config.settings import Settings

API_KEY_MIN_LENGTH = 16
CLUSTER_TOKEN_MIN_LENGTH = 16


def contradictions(settings: Settings, sources: Mapping[str, str]) -> Iterator[str]:
    """One line for each combination that stops the start. `sources` says where given values came from, by YAML path."""
    yield from _storage_contradictions(settings, sources)
    for path, backoff in (("retry", settings.storage.retry), ("manifest_retry", settings.storage.manifest_retry)):
        if backoff.max_backoff_ms < backoff.initial_backoff_ms:
            yield (
                f"storage.{path}.max_backoff_ms is {backoff.max_backoff_ms}, expected at least "
                f"initial_backoff_ms ({backoff.initial_backoff_ms})"
            )
    try:
        host_and_port(settings.api.bind_address)
    except ValueError:
        source = sources.get("api.bind_address", "api.bind_address")
        yield f"{source} is {settings.api.bind_address!r}, expected host:port, such as 127.0.0.1:8080 or [::1]:8080"
    if settings.api.workers > 1 and settings.storage.use_memory_backend:
        yield f"api.workers is {settings.api.workers} with the memory store, expected 1: processes cannot share it"
    if settings.auth.enabled and not settings.auth.api_keys:
        yield "auth.enabled is true without a key: nobody could get in; expected AKIDB_API_KEYS (auth.api_keys)"
    if any(len(key) < API_KEY_MIN_LENGTH for key in settings.auth.api_keys):
        source = sources.get("auth.api_keys", "auth.api_keys")
        yield f"{source} holds a key that can be guessed, expected at least {API_KEY_MIN_LENGTH} characters in each"
    yield from _cluster_contradictions(settings, sources)
    if settings.storage.conditional_writes == "single-writer":
        if settings.api.workers > 1:
            yield f"api.workers is {settings.api.workers} with storage.conditional_writes single-writer, expected 1"
        if settings.cluster.node_address is not None:
            yield "cluster.node_address with storage.conditional_writes single-writer: there can't be other nodes"


def _cluster_contradictions(settings: Settings, sources: Mapping[str, str]) -> Iterator[str]:
    address, token = settings.cluster.node_address, settings.cluster.token
    if (address is None) != (token is None):
        yield "cluster.node_address and cluster.token: only one is set, expected both or neither"
    if token is not None and len(token) < CLUSTER_TOKEN_MIN_LENGTH:
        source = sources.get("cluster.token", "cluster.token")
        yield f"{source} can be guessed, expected at least {CLUSTER_TOKEN_MIN_LENGTH} characters"
    if address is not None and not is_node_address(address):
        source = sources.get("cluster.node_address", "cluster.node_address")
        yield f"{source} is no address of a node, expected http://host:port or https://host:port, nothing after it"


def is_node_address(address: str) -> bool:
    """Whether it is an http(s) URL of a host, perhaps with a port, and nothing else."""
    try:
        parts = urlsplit(address)
        named = bool(parts.hostname) and parts.port != 0  # asking for the port raises where it is no number
    except ValueError:
        return False
    bare = not (parts.username or parts.password or parts.query or parts.fragment or parts.path.strip("/"))
    return parts.scheme in ("http", "https") and named and bare


REGULAR_SNAPSHOTS_MAX = 500
"""Of a collection, which has room for 1,000 of all kinds."""


def _storage_contradictions(settings: Settings, sources: Mapping[str, str]) -> Iterator[str]:
    storage = settings.storage
    if storage.s3_endpoint is None and not storage.use_memory_backend:
        stray = [source for path, source in sources.items() if path.startswith("storage.s3_")]
        if stray:
            yield (
                f"{', '.join(stray)}: set without AKIDB_S3_ENDPOINT, so nothing would go to S3; set the endpoint "
                "(`aws` names Amazon S3 itself) or unset this"
            )
    if storage.s3_endpoint not in (None, "aws"):
        parts = urlsplit(storage.s3_endpoint or "")
        source = sources.get("storage.s3_endpoint", "storage.s3_endpoint")
        if parts.username or parts.password:
            yield f"{source} holds credentials, expected them in AKIDB_S3_ACCESS_KEY and AKIDB_S3_SECRET_KEY"
        elif parts.scheme not in ("http", "https") or not parts.hostname:
            yield f"{source} is {storage.s3_endpoint!r}, expected http://host:port, https://host or aws"
    if (storage.s3_access_key is None) != (storage.s3_secret_key is None):
        yield "storage.s3_access_key and storage.s3_secret_key: only one is set, expected both or neither"
    if storage.s3_session_token is not None and storage.s3_access_key is None:
        yield "storage.s3_session_token is set without the keys it belongs to, expected storage.s3_access_key as well"
    interval, keep = storage.snapshot_interval_mins, storage.snapshot_keep_hours
    if interval and keep * 60 > interval * REGULAR_SNAPSHOTS_MAX:
        yield (
            f"storage.snapshot_interval_mins is {interval} and storage.snapshot_keep_hours {keep}, which makes "
            f"{keep * 60 // interval} snapshots, expected at most {REGULAR_SNAPSHOTS_MAX}"
        )
    if storage.s3_kms_key_id is not None and storage.s3_encryption != "sse-kms":
        yield "storage.s3_kms_key_id is set, expected storage.s3_encryption to be sse-kms (AKIDB_S3_ENCRYPTION)"


def remarks(settings: Settings, sources: Mapping[str, str]) -> Iterator[str]:
    """One line for each thing that is allowed but likely not meant."""
    storage = settings.storage
    if storage.use_memory_backend and storage.s3_endpoint is not None:
        yield "AKIDB_USE_MEMORY_BACKEND is true, so AKIDB_S3_ENDPOINT is not used and nothing is durable"
    if storage.conditional_writes == "single-writer" and storage.s3_endpoint is None:
        yield (
            "storage.conditional_writes is single-writer, which is of buckets: a folder keeps conditions, so that any "
            "number of processes may write to it"
        )
    elif storage.conditional_writes == "single-writer":
        yield (
            "storage.conditional_writes is single-writer: a lease keeps a second process from writing, but nothing "
            "fences a late put; use a store with conditional writes for data that must not be lost"
        )
    if storage.s3_endpoint and storage.s3_access_key and not _stays_private(storage.s3_endpoint):
        yield f"{storage.s3_endpoint} is plain http at a public address: data travels unencrypted; use https"
    if not settings.auth.enabled and not is_loopback(host_and_port(settings.api.bind_address)[0]):
        yield (
            f"api.bind_address {settings.api.bind_address} can be reached from other machines and auth is off: "
            "anyone there can read and write everything; set AKIDB_AUTH_ENABLED and AKIDB_API_KEYS"
        )
    if settings.auth.api_keys and not settings.auth.enabled:
        source = sources.get("auth.api_keys", "auth.api_keys")
        yield f"{source} is set but AKIDB_AUTH_ENABLED is not true: keys are not asked for"
    if settings.cluster.node_address and not _stays_private(settings.cluster.node_address):
        yield f"{settings.cluster.node_address} is plain http at a public address: data travels unencrypted; use https"


def host_and_port(address: str) -> tuple[str, int]:
    """("::1", 8080) of "[::1]:8080"; ValueError if it is no address. An empty host means all interfaces."""
    host, colon, port = address.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65_535:
        raise ValueError(address)
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        ipaddress.IPv6Address(host)
    elif ":" in host:
        raise ValueError(address)
    return host or "0.0.0.0", int(port)  # noqa: S104  what ":8080" means everywhere


def is_loopback(host: str) -> bool:
    """Whether only this machine can connect to the host name or address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _stays_private(endpoint: str) -> bool:
    parts = urlsplit(endpoint)
    if parts.scheme != "http" or not parts.hostname:
        return True
    try:
        return ipaddress.ip_address(parts.hostname).is_private
    except ValueError:
        return "." not in parts.hostname or parts.hostname.endswith((".local", ".internal", ".lan", ".localhost"))
