from pathlib import Path

import pytest

from akidb.config import host_and_port, is_loopback, load
from akidb.errors import ConfigurationError

S3 = {"AKIDB_S3_ENDPOINT": "http://10.0.0.1:9000"}
KEYS = {"AKIDB_S3_ACCESS_KEY": "a", "AKIDB_S3_SECRET_KEY": "b"}
ALONE = {"AKIDB_STORAGE_CONDITIONAL_WRITES": "single-writer"}
NODE, TOKEN = {"AKIDB_CLUSTER_NODE_ADDRESS": "http://10.0.0.5:8080"}, {"AKIDB_CLUSTER_TOKEN": "hush" * 4}


def read(**environ: str):
    return load(environ=environ, system_dir=Path("/nonexistent"))


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"AKIDB_S3_BUCKET": "b"}, "AKIDB_S3_BUCKET: set without AKIDB_S3_ENDPOINT.*`aws` names Amazon S3 itself"),
        ({"AKIDB_S3_ENDPOINT": "minio:9000"}, "expected http://host:port, https://host or aws"),
        ({"AKIDB_S3_ENDPOINT": "http://me:hush@minio:9000"}, "holds credentials"),
        (S3 | {"AKIDB_S3_ACCESS_KEY": "a"}, "only one is set"),
        (S3 | {"AKIDB_S3_SESSION_TOKEN": "hush"}, "s3_session_token is set without the keys"),
        (S3 | {"AKIDB_S3_KMS_KEY_ID": "id"}, "expected storage.s3_encryption to be sse-kms"),
        (S3 | {"AKIDB_S3_KMS_KEY_ID": "id", "AKIDB_S3_ENCRYPTION": "sse-s3"}, "to be sse-kms"),
        ({"AKIDB_STORAGE_RETRY_MAX_BACKOFF_MS": "5"}, r"expected at least initial_backoff_ms \(100\)"),
        ({"AKIDB_BIND_ADDRESS": "8080"}, "AKIDB_BIND_ADDRESS is '8080', expected host:port"),
        ({"AKIDB_BIND_ADDRESS": "::1:8080"}, "expected host:port"),
        ({"AKIDB_BIND_ADDRESS": "localhost:99999"}, "expected host:port"),
        ({"AKIDB_USE_MEMORY_BACKEND": "true", "AKIDB_WORKERS": "2"}, "processes cannot share it"),
        ({"AKIDB_AUTH_ENABLED": "true"}, "nobody could get in"),
        ({"AKIDB_AUTH_ENABLED": "true", "AKIDB_API_KEYS": "short"}, "at least 16 characters"),
        (ALONE | {"AKIDB_WORKERS": "2"}, "api.workers is 2 with storage.conditional_writes single-writer"),
        (ALONE | NODE | TOKEN, "there can't be other nodes"),
        ({"AKIDB_STORAGE_SNAPSHOT_INTERVAL_MINS": "2"}, "which makes 720 snapshots, expected at most 500"),
        (NODE, "cluster.node_address and cluster.token: only one is set"),
        (TOKEN, "cluster.node_address and cluster.token: only one is set"),
        (NODE | {"AKIDB_CLUSTER_TOKEN": "hush"}, "AKIDB_CLUSTER_TOKEN can be guessed, expected at least 16"),
        *(
            (TOKEN | {"AKIDB_CLUSTER_NODE_ADDRESS": address}, "AKIDB_CLUSTER_NODE_ADDRESS is no address of a node")
            for address in (
                "10.0.0.5:8080",
                "ftp://a:1",
                "http://",
                "http://a:b",
                "http://a/path",
                "http://a?q",
                "http://me:hush@a",
            )
        ),
    ],
)
def test_contradictions_stop_the_start(environ, message):
    with pytest.raises(ConfigurationError, match=message) as error:
        read(**environ)
    assert "hush" not in str(error.value)


def test_aws_names_amazon():
    assert read(AKIDB_S3_ENDPOINT="aws", AKIDB_S3_BUCKET="b").settings.storage.s3_endpoint == "aws"


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"AKIDB_BIND_ADDRESS": "0.0.0.0:8080"}, "auth is off"),
        ({"AKIDB_BIND_ADDRESS": ":8080"}, "auth is off"),
        ({"AKIDB_API_KEYS": "k" * 16}, "keys are not asked for"),
        (S3 | {"AKIDB_USE_MEMORY_BACKEND": "1"}, "nothing is durable"),
        (KEYS | {"AKIDB_S3_ENDPOINT": "http://s3.example.com"}, "unencrypted"),
        (KEYS | {"AKIDB_S3_ENDPOINT": "http://8.8.8.8"}, "unencrypted"),
        (TOKEN | {"AKIDB_CLUSTER_NODE_ADDRESS": "http://8.8.8.8:80"}, "unencrypted"),
        (S3 | ALONE, "nothing fences a late put"),
        (ALONE, "which is of buckets: a folder keeps conditions"),
    ],
)
def test_doubtful_combinations_warn(environ, message):
    (warning,) = read(**environ).warnings
    assert message in warning


@pytest.mark.parametrize(
    "endpoint", ["http://minio:9000", "http://10.1.2.3", "https://s3.example.com", "http://[fd00::1]:9000"]
)
def test_endpoints_that_stay_private_or_encrypted_do_not_warn(endpoint):
    assert read(**KEYS, AKIDB_S3_ENDPOINT=endpoint).warnings == ()


def test_addresses():
    assert host_and_port("[::1]:80") == ("::1", 80)
    assert host_and_port(":80") == ("0.0.0.0", 80)
    assert is_loopback("::1")
    assert is_loopback("localhost")
    assert not is_loopback("0.0.0.0")
    assert not is_loopback("example.com")
