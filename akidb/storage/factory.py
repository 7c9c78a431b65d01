"""From settings, or from what a user passes to `akidb.connect`, to a store with its wrappers."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict, replace
from pathlib import Path

from akidb.config import Settings
from akidb.errors import ConfigurationError, InvalidInputError
from akidb.storage.breaking import BreakingStore
from akidb.storage.file_cache import FileCachedStore
from akidb.storage.hedging import HedgingStore
from akidb.storage.instrumented import InstrumentedStore
from akidb.storage.keys import FORMAT_KEY, PROBE_FOLDER
from akidb.storage.local import LocalStore
from akidb.storage.memory import MemoryStore
from akidb.storage.object_store import ObjectStore
from akidb.storage.retrying import Backoff, RetryingStore
from akidb.storage.s3 import S3Store
from akidb.storage.s3_client import Retention, S3Options
from akidb.storage.single_writer import SingleWriterStore

_NOT_FOREIGN = ("lost+found", PROBE_FOLDER)
_S3_SCHEME = "s3://"
_SERVICE_CACHE = Path("/var/lib/akidb/cache")


def open_store(settings: Settings) -> ObjectStore:
    """The store the settings name: memory, a bucket, or the embedded one in `storage.data_dir`. Nothing is changed yet.

    Raises:
        ConfigurationError: the folder is a file, or holds things but no store.
    """
    storage = settings.storage
    if storage.use_memory_backend:
        return InstrumentedStore(MemoryStore())
    if storage.s3_endpoint is None:
        return _local(Path(storage.data_dir))
    return _over_s3(s3_options(settings), settings)


def open_location(where: str | Path, settings: Settings) -> ObjectStore:
    """The store at `:memory:`, at a path, or at `s3://bucket/prefix`, whose endpoint and keys come from the settings.

    Without `storage.s3_endpoint` a bucket is Amazon's.

    Raises:
        InvalidInputError: `where` is none of these.
        ConfigurationError: the folder is a file, or holds things but no store.
    """
    if where == ":memory:":
        return InstrumentedStore(MemoryStore())
    if isinstance(where, str) and where.startswith(_S3_SCHEME):
        bucket, _, prefix = where.removeprefix(_S3_SCHEME).partition("/")
        if not bucket:
            raise InvalidInputError(f"{where!r} names no bucket, expected s3://bucket/prefix", code="bad_location")
        return _over_s3(replace(s3_options(settings), bucket=bucket, prefix=prefix), settings)
    if not str(where) or "://" in str(where):
        expected = "expected :memory:, a folder, s3://bucket/prefix or http://host:port"
        raise InvalidInputError(f"{str(where)!r} is no store: {expected}", code="bad_location")
    return _local(Path(where).expanduser())


def _local(folder: Path) -> ObjectStore:
    """The store in a folder. Raises ConfigurationError for one that is in use for something else."""
    what = None
    if folder.exists() and not folder.is_dir():
        what = "is a file"
    elif folder.is_dir() and os.access(folder, os.R_OK | os.X_OK) and _is_foreign(folder):
        what = f"is not empty and holds no AkiDB store (no file {FORMAT_KEY!r})"
    if what is not None:
        raise ConfigurationError(
            f"{folder.absolute()} {what}, expected an empty folder, one that is not there yet or one that AkiDB made; "
            "name another",
            code="not_a_store",
        )
    return InstrumentedStore(LocalStore(folder))


def _is_foreign(folder: Path) -> bool:
    """Whether there are other things than a store in it. Hidden files, our temporary ones among them, are no reason."""
    others = any(name[0] != "." and name not in _NOT_FOREIGN for name in os.listdir(folder))
    return others and not (folder / FORMAT_KEY).exists()  # asked last: another process may be laying it down


def s3_options(settings: Settings) -> S3Options:
    storage = settings.storage
    retention = Retention(storage.s3_object_lock_retention_days, storage.s3_object_lock_mode)
    return S3Options(
        bucket=storage.s3_bucket,
        endpoint=None if storage.s3_endpoint in (None, "aws") else storage.s3_endpoint,
        region=storage.s3_region,
        prefix=storage.s3_prefix,
        access_key=storage.s3_access_key,
        secret_key=storage.s3_secret_key,
        session_token=storage.s3_session_token,
        addressing=storage.s3_addressing,
        ca_file=storage.s3_ca_file,
        create_bucket=storage.create_bucket,
        encryption=storage.s3_encryption,
        kms_key_id=storage.s3_kms_key_id,
        retention=retention if storage.s3_object_lock_enabled else None,
    )


def cache_path(settings: Settings) -> Path:
    """`cache.hot_path`; unset: /var/lib/akidb/cache if it can be written, else the user's cache folder."""
    if settings.cache.hot_path is not None:
        return Path(settings.cache.hot_path).expanduser()
    if os.access(_SERVICE_CACHE, os.W_OK):
        return _SERVICE_CACHE
    if sys.platform == "darwin":
        return Path.home() / "Library/Caches/akidb"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "akidb/hot"


def as_judged(settings: Settings) -> Settings:
    """The settings of who tries a store out: its conditions are its own, and no lease is needed."""
    return replace(settings, storage=replace(settings.storage, conditional_writes="require"))


def as_found(settings: Settings) -> Settings:
    """The settings of who only looks at a store, or tends one that is there: a bucket that is missing is not made."""
    return replace(settings, storage=replace(settings.storage, create_bucket=False))


def _over_s3(options: S3Options, settings: Settings) -> ObjectStore:
    return over_network(S3Store(options), settings)


def over_network(store: ObjectStore, settings: Settings) -> ObjectStore:
    """`store` with what stands above one that is far away. Each attempt is counted and judged by the breakers; what
    reads ranges into the file cache is repeated range by range, and what is repeated is hedged."""
    breaker = settings.storage.circuit_breaker
    counted = InstrumentedStore(store)
    guarded: ObjectStore = BreakingStore(counted, breaker.failure_threshold, breaker.recovery_timeout_secs)
    if settings.storage.conditional_writes == "single-writer":
        guarded = SingleWriterStore(guarded)
    retried = RetryingStore(HedgingStore(guarded), Backoff(**asdict(settings.storage.retry)))
    return FileCachedStore(retried, cache_path(settings), int(settings.cache.hot_size_gb * (1 << 30)))
