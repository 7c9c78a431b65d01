import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from akidb.telemetry.metrics import METRICS, Metrics

DOCUMENT = Path(__file__).parents[3] / "docs/monitoring.md"
PROMISED = {
    "akidb_api_requests_total": ("counter", {"method", "endpoint", "status"}),
    "akidb_storage_operations_total": ("counter", {"operation", "status"}),
    "akidb_wal_operations_total": ("counter", {"operation", "status"}),
    "akidb_compactions_total": ("counter", {"status"}),
    "akidb_compaction_seconds_total": ("counter", set()),
    "akidb_compaction_pending_points": ("gauge", {"collection"}),
    "akidb_index_pending_points": ("gauge", {"collection"}),
    "akidb_log_tail_points": ("gauge", {"collection"}),
    "akidb_segments": ("gauge", {"collection"}),
    "akidb_cache_pinned_bytes": ("gauge", {"collection"}),
    "akidb_gc_deleted_objects_total": ("counter", set()),
    "akidb_gc_deleted_bytes_total": ("counter", set()),
    "akidb_gc_refused_total": ("counter", {"reason"}),
    "akidb_checksum_failures_total": ("counter", {"source"}),
    "akidb_verified_bytes_total": ("counter", set()),
    "akidb_slow_queries_total": ("counter", set()),
    "akidb_cluster_batches_total": ("counter", {"outcome"}),
    "akidb_cluster_nodes": ("gauge", set()),
    "akidb_cache_hits_total": ("counter", {"tier"}),
    "akidb_cache_misses_total": ("counter", {"tier"}),
    "akidb_cache_failures_total": ("counter", set()),
    "akidb_api_request_duration_seconds": ("histogram", {"method", "endpoint"}),
    "akidb_storage_latency_seconds": ("histogram", {"operation"}),
    "akidb_index_search_duration_seconds": ("histogram", set()),
    "akidb_active_connections": ("gauge", set()),
    "akidb_index_vectors_total": ("gauge", {"collection"}),
    "akidb_circuit_breaker_state": ("gauge", {"backend"}),
}


@pytest.fixture
def metrics():
    return Metrics(CollectorRegistry())


def test_every_promised_metric_exists_with_its_kind_and_labels(metrics):
    found = {}
    for metric in vars(metrics).values():
        if isinstance(metric, CollectorRegistry):
            continue
        suffix = "_total" if metric._type == "counter" else ""
        found[metric._name + suffix] = (metric._type, set(metric._labelnames))
    assert found == PROMISED


def test_every_metric_is_explained_with_its_labels():
    rows = re.findall(r"^\| `(akidb_\w+)`(?: by ([^|]+?))? \|", DOCUMENT.read_text("utf-8"), re.MULTILINE)
    assert {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows} == {
        name: labels for name, (_, labels) in PROMISED.items()
    }


def test_two_sets_do_not_share_values(metrics):
    metrics.api_requests.labels("GET", "/health", "200").inc()
    mine = generate_latest(metrics.registry).decode()
    assert 'akidb_api_requests_total{endpoint="/health",method="GET",status="200"} 1.0' in mine
    other = Metrics(CollectorRegistry())
    assert 'status="200"' not in generate_latest(other.registry).decode()
    assert METRICS.registry is not metrics.registry


def test_the_gauge_of_vectors_keeps_the_name_dashboards_ask_for(metrics):
    metrics.index_vectors.labels("books").set(3)
    assert 'akidb_index_vectors_total{collection="books"} 3.0' in generate_latest(metrics.registry).decode()
