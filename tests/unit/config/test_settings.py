"""The table against the product's promise: names, defaults, and that every environment variable has a YAML twin."""

import dataclasses
from pathlib import Path

import pytest

from akidb.config import TABLE, Settings, effective, load
from akidb.config.show import value_at

PROMISED_VARIABLES = {
    "AKIDB_S3_ENDPOINT": None,
    "AKIDB_S3_REGION": "us-east-1",
    "AKIDB_S3_BUCKET": "akidb",
    "AKIDB_S3_ACCESS_KEY": None,
    "AKIDB_S3_SECRET_KEY": None,
    "AKIDB_S3_ENCRYPTION": None,
    "AKIDB_S3_KMS_KEY_ID": None,
    "AKIDB_S3_OBJECT_LOCK_ENABLED": False,
    "AKIDB_S3_OBJECT_LOCK_RETENTION_DAYS": 30,
    "AKIDB_S3_OBJECT_LOCK_MODE": "GOVERNANCE",
    "AKIDB_DATA_DIR": "./akidb-data",
    "AKIDB_USE_MEMORY_BACKEND": False,
    "AKIDB_BIND_ADDRESS": "127.0.0.1:8080",
    "AKIDB_WORKERS": 1,
    "AKIDB_LOG_LEVEL": "info",
    "AKIDB_LOG_FORMAT": "auto",
    "AKIDB_CACHE_HOT_PATH": None,
    "AKIDB_CACHE_HOT_SIZE_GB": 10,
    "AKIDB_TELEMETRY_ENABLED": False,
    "AKIDB_JAEGER_ENDPOINT": "http://localhost:4317",
    "AKIDB_SERVICE_NAME": "akidb-api",
    "AKIDB_SAMPLING_RATIO": 1.0,
    "AKIDB_EXPORT_TIMEOUT_SECS": 10,
    "AKIDB_AUTH_ENABLED": False,
    "AKIDB_API_KEYS": (),
}
PROMISED_KEYS = {
    "storage.circuit_breaker.failure_threshold": 5,
    "storage.circuit_breaker.recovery_timeout_secs": 30,
    "storage.retry.max_attempts": 10,
    "storage.retry.initial_backoff_ms": 100,
    "storage.retry.max_backoff_ms": 5000,
    "storage.retry.backoff_multiplier": 2.0,
    "storage.manifest_retry.max_attempts": 20,
    "storage.manifest_retry.initial_backoff_ms": 50,
    "storage.manifest_retry.max_backoff_ms": 2000,
    "index.hnsw.m": 16,
    "index.hnsw.ef_construction": 400,
    "index.hnsw.ef_search": 200,
    "index.hnsw.min_vectors_threshold": 100,
    "api.validation.collection_name_max_length": 255,
    "api.validation.vector_dimension_max": 4096,
    "api.validation.top_k_max": 1000,
    "query.max_filter_depth": 32,
    "query.max_filter_clauses": 100,
    "query.parallel_segments": True,
    "query.max_parallel_segments": 8,
    "storage.s3_prefix": "",
    "storage.create_bucket": True,
    "storage.conditional_writes": "require",
    "wal.commit_interval_ms": 0,
    "api.body_limit_bytes": 64 * 2**20,
    "api.drain_delay_secs": 7,
    "api.write_timeout_ms": 30_000,
    "query.slow_query_ms": 500,
    "query.consistency": "strong",
    "cluster.node_address": None,
    "cluster.token": None,
}


@pytest.mark.parametrize("name", PROMISED_VARIABLES)
def test_promised_variables_exist_with_their_default(name):
    (row,) = [row for row in TABLE if name in row.env]
    assert value_at(Settings(), row.path) == PROMISED_VARIABLES[name]


@pytest.mark.parametrize("path", PROMISED_KEYS)
def test_promised_keys_exist_with_their_default(path):
    assert value_at(Settings(), path) == PROMISED_KEYS[path]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.path)
def test_rows_are_whole(row):
    assert row.env[0] == "AKIDB_" + row.path.upper().replace(".", "_")
    assert row.check(row.default) == row.default
    assert row.help.endswith((".", "!", "?"))
    if row.type in (int, float):
        assert row.low is not None
        assert row.high is not None
        for beyond in (row.low - 1, row.high * 2 + 1):
            with pytest.raises(ValueError):
                row.check(row.type(beyond))


def test_no_variable_means_two_settings():
    names = [name for row in TABLE for name in row.env]
    assert len(names) == len(set(names))


def test_the_tuning_that_the_guide_promises_is_in_range():
    for m, build, search, parallel in ((32, 800, 400, 8), (48, 1000, 600, 16)):
        environ = {"M": m, "EF_CONSTRUCTION": build, "EF_SEARCH": search}
        found = load(
            environ={f"AKIDB_INDEX_HNSW_{key}": str(value) for key, value in environ.items()},
            flags={"query.max_parallel_segments": parallel},
            system_dir=Path("/nonexistent"),
        ).settings
        assert (found.index.hnsw.m, found.query.max_parallel_segments) == (m, parallel)


def test_settings_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().api.workers = 2


def test_what_check_config_prints_is_yaml_that_loads_to_the_same_settings(tmp_path):
    file = tmp_path / "akidb.yaml"
    file.write_text("api: {workers: 3}\nstorage: {s3_endpoint: aws}\nquery: {slow_query_ms: 7}\n")
    found = load(config=file, environ={"AKIDB_LOG_LEVEL": "debug"}, system_dir=tmp_path / "none")
    text = effective(found)
    again = tmp_path / "again.yaml"
    again.write_text(text)
    assert load(config=again, environ={}, system_dir=tmp_path / "none").settings == found.settings
    assert "level: debug  # environment: AKIDB_LOG_LEVEL" in text
    assert f"slow_query_ms: 7  # {file}: query.slow_query_ms\n" in text


def test_secrets_are_masked():
    environ = {
        "AKIDB_S3_ENDPOINT": "http://10.0.0.1:9000",
        "AKIDB_S3_ACCESS_KEY": "hush-access",
        "AKIDB_S3_SECRET_KEY": "hush-secret",
        "AKIDB_CLUSTER_NODE_ADDRESS": "http://10.0.0.5:8080",
        "AKIDB_CLUSTER_TOKEN": "hush-token-of-nodes",
        "AKIDB_API_KEYS": "hush-hush-hush-hush,hush-hush-hush-hush-2",
    }
    text = effective(load(environ=environ, system_dir=Path("/nonexistent")))
    assert "hush" not in text
    assert text.count("********") == 5
