"""The table of settings: each is one field, its name the YAML path, its default the default.

`Settings()` is a working configuration; `akidb.config.load` makes one from files, environment and flags.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from akidb.config.setting import setting
from akidb.types import EF_MAX, M_MAX, M_MIN


@dataclass(frozen=True, slots=True)
class Retry:
    max_attempts: int = setting(10, "Attempts of one request to the store.", low=1, high=100)
    initial_backoff_ms: int = setting(
        100, "Longest pause before the first repeat; the pause is drawn from 0 to it.", low=1, high=60_000, unit="ms"
    )
    max_backoff_ms: int = setting(5000, "Longest pause before any repeat.", low=1, high=600_000, unit="ms")
    backoff_multiplier: float = setting(2.0, "Growth of the pause from one repeat to the next.", low=1.0, high=10.0)


@dataclass(frozen=True, slots=True)
class ManifestRetry:
    max_attempts: int = setting(20, "Attempts to change a HEAD that other nodes change too.", low=1, high=1000)
    initial_backoff_ms: int = setting(50, "Longest pause before the first repeat.", low=1, high=60_000, unit="ms")
    max_backoff_ms: int = setting(2000, "Longest pause before any repeat.", low=1, high=600_000, unit="ms")


@dataclass(frozen=True, slots=True)
class CircuitBreaker:
    failure_threshold: int = setting(
        5, "Failures in a row of reads, or of writes, that open their breaker.", low=1, high=1000
    )
    recovery_timeout_secs: int = setting(
        30,
        "Time an open breaker waits before it lets one request through.",
        low=1,
        high=3600,
        unit="s",
    )


@dataclass(frozen=True, slots=True)
class Storage:
    s3_endpoint: str | None = setting(
        None,
        "URL of an S3-compatible store, or `aws` for Amazon S3 itself. Unset: the embedded store in data_dir is used.",
        env="AKIDB_S3_ENDPOINT",
    )
    s3_region: str = setting("us-east-1", "Region, part of every request's signature.", env="AKIDB_S3_REGION")
    s3_bucket: str = setting("akidb", "Bucket that holds everything.", env="AKIDB_S3_BUCKET")
    s3_prefix: str = setting(
        "", "Key prefix inside the bucket, so that several AkiDBs can share it.", env="AKIDB_S3_PREFIX"
    )
    s3_addressing: Literal["auto", "path", "virtual"] = setting(
        "auto",
        "Where the bucket's name goes: into the path or before the host. auto is path for an endpoint of one's own and "
        "virtual for Amazon's.",
        env="AKIDB_S3_ADDRESSING",
    )
    s3_ca_file: str | None = setting(
        None,
        "PEM file of the authorities that may sign an https endpoint's certificate. Unset: the usual public ones.",
        env="AKIDB_S3_CA_FILE",
    )
    s3_access_key: str | None = setting(
        None,
        "Access key; without keys the standard credential chain is asked: AWS_ variables, shared files, web identity, "
        "the instance's or container's role.",
        env="AKIDB_S3_ACCESS_KEY",
        secret=True,
    )
    s3_secret_key: str | None = setting(
        None, "Secret key that belongs to the access key.", env="AKIDB_S3_SECRET_KEY", secret=True
    )
    s3_session_token: str | None = setting(None, "Token of temporary keys.", env="AKIDB_S3_SESSION_TOKEN", secret=True)
    s3_encryption: Literal["sse-s3", "sse-kms"] | None = setting(
        None, "Server-side encryption asked for on every write.", env="AKIDB_S3_ENCRYPTION"
    )
    s3_kms_key_id: str | None = setting(
        None, "Key for sse-kms; unset: the store's default key.", env="AKIDB_S3_KMS_KEY_ID"
    )
    s3_object_lock_enabled: bool = setting(
        False,
        "Keep sealed segments from being deleted or overwritten (WORM); the bucket must have Object Lock.",
        env="AKIDB_S3_OBJECT_LOCK_ENABLED",
    )
    s3_object_lock_retention_days: int = setting(
        30, "How long sealed segments are locked.", low=1, high=36_500, unit="days",
        env="AKIDB_S3_OBJECT_LOCK_RETENTION_DAYS",
    )  # fmt: skip
    s3_object_lock_mode: Literal["GOVERNANCE", "COMPLIANCE"] = setting(
        "GOVERNANCE",
        "Who may lift the lock: privileged users, or nobody.",
        env="AKIDB_S3_OBJECT_LOCK_MODE",
    )
    create_bucket: bool = setting(True, "Create the bucket when it is missing.")
    conditional_writes: Literal["require", "single-writer"] = setting(
        "require",
        "What to do with a bucket that ignores conditional writes (a folder keeps them): refuse it, or have one "
        "process write, by a lease that nothing fences.",
    )
    data_dir: str = setting("./akidb-data", "Folder of the embedded store.", env="AKIDB_DATA_DIR")
    use_memory_backend: bool = setting(
        False, "Keep everything in memory: nothing is durable, for tests only.", env="AKIDB_USE_MEMORY_BACKEND"
    )
    gc_interval_secs: int = setting(
        21_600,
        "Time between two rounds of garbage collection in a bucket. Folds and merges have that long for their work, "
        "and what nothing names is deleted two to three rounds later. On a folder, of looks for clones that are gone. "
        "0: never by itself.",
        low=0, high=2_592_000, unit="s",
    )  # fmt: skip
    verify_interval_days: int = setting(
        7,
        "How often segments that are in use are compared with their checksums in the background, besides once after "
        "they were opened. 0: only what a search stumbled over.",
        low=0, high=365, unit="days",
    )  # fmt: skip
    snapshot_interval_mins: int = setting(
        0,
        "How often a node makes a snapshot of each collection that it has open and that was written to, for reads as "
        "of a time. 0: never by itself.",
        low=0, high=10_080, unit="min",
    )  # fmt: skip
    snapshot_keep_hours: int = setting(
        24, "How old these snapshots get before they are dropped.", low=1, high=8760, unit="h"
    )
    circuit_breaker: CircuitBreaker = field(default_factory=CircuitBreaker)
    retry: Retry = field(default_factory=Retry)
    manifest_retry: ManifestRetry = field(default_factory=ManifestRetry)


@dataclass(frozen=True, slots=True)
class Cache:
    hot_path: str | None = setting(
        None,
        "Folder of the file cache. Unset: /var/lib/akidb/cache if it can be written, else the user's cache folder.",
    )
    hot_size_gb: float = setting(10.0, "Room the file cache may take.", low=0.01, high=1_000_000, unit="GiB")


@dataclass(frozen=True, slots=True)
class Wal:
    commit_interval_ms: int = setting(
        0, "Least time between two commits of a shard; 0 joins only what came during the commit before.",
        low=0, high=10_000, unit="ms",
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Compaction:
    target_bytes: int = setting(
        128 << 20,
        "Size that segments are merged up to: larger ones cost more to merge, and more of them cost every search.",
        low=1 << 10, high=1 << 40, unit="bytes",
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Hnsw:
    m: int = setting(16, "Neighbours kept per point and level (twice as many on level 0).", low=M_MIN, high=M_MAX)
    ef_construction: int = setting(400, "Candidates looked at when a point is inserted.", low=1, high=EF_MAX)
    ef_search: int = setting(200, "Candidates looked at by a search; never fewer than top_k.", low=1, high=EF_MAX)
    min_vectors_threshold: int = setting(
        100, "No graph is built over fewer points than this.", low=0, high=1_000_000_000
    )


@dataclass(frozen=True, slots=True)
class Index:
    hnsw: Hnsw = field(default_factory=Hnsw)


@dataclass(frozen=True, slots=True)
class Validation:
    collection_name_max_length: int = setting(255, "Longest name of a collection.", low=1, high=255, unit="characters")
    vector_dimension_max: int = setting(4096, "Largest dimension of a collection.", low=1, high=65_536)
    top_k_max: int = setting(1000, "Most results one query may ask for.", low=1, high=100_000)


@dataclass(frozen=True, slots=True)
class Api:
    bind_address: str = setting("127.0.0.1:8080", "Address and port to listen on.", env="AKIDB_BIND_ADDRESS")
    workers: int = setting(1, "Processes that share the port and the file cache.", low=1, high=256, env="AKIDB_WORKERS")
    body_limit_bytes: int = setting(64 * 1024 * 1024, "Largest request body.", low=1024, high=2**31 - 1, unit="bytes")
    drain_delay_secs: float = setting(
        7.0,
        "After SIGTERM, time in which load balancers see not ready before the port closes.",
        low=0.0,
        high=20.0,
        unit="s",
    )
    write_timeout_ms: int = setting(30_000, "Longest time a write may take.", low=1, high=600_000, unit="ms")
    validation: Validation = field(default_factory=Validation)


@dataclass(frozen=True, slots=True)
class Query:
    max_filter_depth: int = setting(32, "Deepest nesting of a filter.", low=1, high=128)
    max_filter_clauses: int = setting(100, "Most clauses of a filter.", low=1, high=10_000)
    parallel_segments: bool = setting(True, "Search segments in parallel.")
    max_parallel_segments: int = setting(8, "Most segments one search walks at the same time.", low=1, high=256)
    slow_query_ms: int = setting(
        500, "Queries that take longer are logged and counted.", low=0, high=600_000, unit="ms"
    )
    consistency: Literal["strong", "eventual"] = setting("strong", "What a read sees when it does not say.")
    tail_poll_ms: int = setting(
        1000,
        "How often the log is followed while bounded and eventual reads come, which then ask nothing of the store.",
        low=10, high=600_000, unit="ms",
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Log:
    level: Literal["trace", "debug", "info", "warn", "warning", "error"] = setting(
        "info", "Least level that is logged. RUST_LOG is heard where this is unset."
    )
    format: Literal["auto", "json", "text"] = setting(
        "auto", "Shape of a log line; auto is text on a terminal, json elsewhere."
    )


@dataclass(frozen=True, slots=True)
class Telemetry:
    enabled: bool = setting(False, "Send traces.")
    jaeger_endpoint: str = setting(
        "http://localhost:4317", "OTLP gRPC address of the collector.", env="AKIDB_JAEGER_ENDPOINT"
    )
    service_name: str = setting("akidb-api", "Name of this service in traces.", env="AKIDB_SERVICE_NAME")
    sampling_ratio: float = setting(
        1.0, "Share of requests that are traced.", low=0.0, high=1.0, env="AKIDB_SAMPLING_RATIO"
    )
    export_timeout_secs: int = setting(
        10, "Longest time one export may take.", low=1, high=300, unit="s", env="AKIDB_EXPORT_TIMEOUT_SECS"
    )


@dataclass(frozen=True, slots=True)
class Auth:
    enabled: bool = setting(False, "Answer only requests that carry a known API key; health and metrics stay public.")
    api_keys: tuple[str, ...] = setting(
        (),
        "Accepted API keys of at least 16 characters, in the environment separated by commas.",
        env="AKIDB_API_KEYS",
        secret=True,
    )


@dataclass(frozen=True, slots=True)
class Cluster:
    node_address: str | None = setting(
        None,
        "URL at which other nodes reach this one, such as http://10.0.0.5:8080. Of nodes that have one, each shard's "
        "writes go through one; without, each node writes for itself.",
    )
    token: str | None = setting(
        None,
        "Secret of at least 16 characters that all nodes of a store share, by which they know each other.",
        secret=True,
    )


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set; names are the YAML paths."""

    storage: Storage = field(default_factory=Storage)
    cache: Cache = field(default_factory=Cache)
    wal: Wal = field(default_factory=Wal)
    compaction: Compaction = field(default_factory=Compaction)
    index: Index = field(default_factory=Index)
    api: Api = field(default_factory=Api)
    query: Query = field(default_factory=Query)
    log: Log = field(default_factory=Log)
    telemetry: Telemetry = field(default_factory=Telemetry)
    auth: Auth = field(default_factory=Auth)
    cluster: Cluster = field(default_factory=Cluster)
