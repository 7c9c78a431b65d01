"""Every akidb_* metric, in one place. `METRICS` is the process's; tests make theirs: `Metrics(CollectorRegistry())`.

Names and labels are part of the product: dashboards and alerts are written against them.
"""

from __future__ import annotations

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_REQUEST_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_STORAGE_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_SEARCH_SECONDS = (
    0.00005,
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
)


class Metrics:
    """The metrics over one registry, named as on the wire without akidb_, _total and the unit."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=registry)

        def histogram(name: str, text: str, labels: tuple[str, ...], buckets: tuple[float, ...]) -> Histogram:
            return Histogram(name, text, labels, buckets=buckets, registry=registry)

        self.api_requests = counter(
            "akidb_api_requests_total", "HTTP requests answered, by route template.", "method", "endpoint", "status"
        )
        self.api_request_duration = histogram(
            "akidb_api_request_duration_seconds",
            "Time from a request's head to the end of its answer.",
            ("method", "endpoint"),
            _REQUEST_SECONDS,
        )
        self.active_connections = Gauge(
            "akidb_active_connections", "Open client connections.", registry=registry, multiprocess_mode="livesum"
        )
        self.storage_operations = counter(
            "akidb_storage_operations_total",
            "Operations on the store: get, put, delete, list, head.",
            "operation",
            "status",
        )
        self.storage_latency = histogram(
            "akidb_storage_latency_seconds",
            "Time of one operation on the store; each repeat counts by itself.",
            ("operation",),
            _STORAGE_SECONDS,
        )
        self.wal_operations = counter(
            "akidb_wal_operations_total", "Operations on the write-ahead log.", "operation", "status"
        )
        self.index_search_duration = histogram(
            "akidb_index_search_duration_seconds",
            "Time of one search over all segments of a collection.",
            (),
            _SEARCH_SECONDS,
        )
        self.compactions = counter(
            "akidb_compactions_total",
            "Merges of segments: merged, dropped because a segment was gone, failed.",
            "status",
        )
        self.compaction_seconds = counter("akidb_compaction_seconds_total", "Time that merges of segments took.")
        self.gc_objects = counter("akidb_gc_deleted_objects_total", "Objects that garbage collection deleted.")
        self.gc_bytes = counter("akidb_gc_deleted_bytes_total", "Bytes that garbage collection deleted.")
        self.gc_refused = counter(
            "akidb_gc_refused_total", "Rounds that deleted nothing because something was amiss.", "reason"
        )
        self.slow_queries = counter("akidb_slow_queries_total", "Queries that took longer than query.slow_query_ms.")
        self.cache_hits = counter("akidb_cache_hits_total", "Lookups that a cache answered.", "tier")
        self.cache_misses = counter("akidb_cache_misses_total", "Lookups that a cache could not answer.", "tier")
        self.cache_failures = counter(
            "akidb_cache_failures_total", "What the file cache could not take: its disk is full, or can't be written."
        )
        self.circuit_breaker_state = Gauge(
            "akidb_circuit_breaker_state",
            "0 closed, 1 open, 2 half-open.",
            ["backend"],
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._add_of_verification(registry)
        self._add_per_collection(registry)
        self._add_cluster(registry)

    def _add_cluster(self, registry: CollectorRegistry) -> None:
        self.cluster_batches = Counter(
            "akidb_cluster_batches_total",
            "Batches of shards that another node owns: forwarded; direct or unknown, and put here. And received ones.",
            ["outcome"],
            registry=registry,
        )
        self.cluster_nodes = Gauge(
            "akidb_cluster_nodes", "Nodes alive, this one included.", registry=registry, multiprocess_mode="livemax"
        )

    def _add_of_verification(self, registry: CollectorRegistry) -> None:
        self.checksum_failures = Counter(
            "akidb_checksum_failures_total",
            "Segments whose bytes failed their checks: a copy in the file cache, or the object in the store.",
            ["source"],
            registry=registry,
        )
        self.verified_bytes = Counter(
            "akidb_verified_bytes_total",
            "Bytes of segments compared with their checksums in the background.",
            registry=registry,
        )

    def _add_per_collection(self, registry: CollectorRegistry) -> None:
        def per_collection(name: str, text: str) -> Gauge:
            return Gauge(name, text, ["collection"], registry=registry, multiprocess_mode="livemostrecent")

        # A gauge with the name of a counter: dashboards of the deployment guide ask for it so.
        self.index_vectors = per_collection("akidb_index_vectors_total", "Points in a collection.")
        self.index_pending = per_collection(
            "akidb_index_pending_points", "Points that are searched exactly until their graph is built."
        )
        self.segments = per_collection("akidb_segments", "Segments of a collection.")
        self.tail = per_collection("akidb_log_tail_points", "Points that are in the log and in no segment yet.")
        self.cache_pinned = per_collection(
            "akidb_cache_pinned_bytes", "Bytes of a pinned collection that the file cache holds; 0 of one not pinned."
        )
        self.compaction_pending = per_collection(
            "akidb_compaction_pending_points", "Points of the segments that are to be merged next or being merged."
        )


METRICS = Metrics(CollectorRegistry())
"""The process's metrics, on their own registry: a program that embeds AkiDB keeps its default registry to itself."""


def shared_registry() -> CollectorRegistry | None:
    """The sums of all processes that write to PROMETHEUS_MULTIPROC_DIR; None where a process counts for itself.

    prometheus_client looks at the variable when it is imported, so it is set before a worker starts, not by one.
    """
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return None
    from prometheus_client.multiprocess import MultiProcessCollector

    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return registry
