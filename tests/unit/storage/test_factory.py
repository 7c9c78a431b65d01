from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from akidb.config import Settings
from akidb.errors import ConfigurationError, InvalidInputError
from akidb.storage.breaking import BreakingStore
from akidb.storage.factory import cache_path, open_location, open_store, s3_options
from akidb.storage.file_cache import FileCachedStore
from akidb.storage.hedging import HedgingStore
from akidb.storage.instrumented import InstrumentedStore
from akidb.storage.local import LocalStore
from akidb.storage.memory import MemoryStore
from akidb.storage.object_store import ObjectStore
from akidb.storage.retrying import RetryingStore
from akidb.storage.s3 import S3Store
from akidb.storage.s3_client import Retention
from akidb.storage.wrapper import StoreWrapper
from tests.servers import Minio


def _settings(tmp_path: Path, **storage: object) -> Settings:
    settings = Settings()
    return replace(
        settings,
        storage=replace(settings.storage, data_dir=str(tmp_path / "data"), **storage),
        cache=replace(settings.cache, hot_path=str(tmp_path / "cache")),
    )


def _stack(store: ObjectStore) -> list[type]:
    kinds: list[type] = [type(store)]
    while isinstance(store, StoreWrapper):
        store = store.inner
        kinds.append(type(store))
    return kinds


def test_settings_choose_the_store(tmp_path: Path) -> None:
    local = open_store(_settings(tmp_path))
    assert _stack(local) == [InstrumentedStore, LocalStore]
    assert local.location == str(tmp_path / "data")
    memory = open_store(_settings(tmp_path, use_memory_backend=True, s3_endpoint="http://127.0.0.1:1"))
    assert _stack(memory) == [InstrumentedStore, MemoryStore]
    s3 = open_store(_settings(tmp_path, s3_endpoint="http://127.0.0.1:1", s3_bucket="b", s3_prefix="p"))
    assert _stack(s3) == [FileCachedStore, RetryingStore, HedgingStore, BreakingStore, InstrumentedStore, S3Store]
    assert s3.location == "s3://b/p at http://127.0.0.1:1"
    assert not (tmp_path / "data").exists()


def test_a_folder_that_is_something_else_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    for name in (".DS_Store", ".tmp/1-a", "lost+found"):
        (folder / name).mkdir(parents=True)
    open_location(folder, _settings(tmp_path))
    (folder / "passwd").touch()
    for opened in (
        lambda: open_location(folder, _settings(tmp_path)),
        lambda: open_location(str(folder), _settings(tmp_path)),
        lambda: open_store(_settings(tmp_path)),
    ):
        with pytest.raises(ConfigurationError, match=f"{folder} is not empty and holds no AkiDB store"):
            opened()
    (folder / "format").touch()
    open_location(folder, _settings(tmp_path))
    with pytest.raises(ConfigurationError, match="is a file, expected an empty folder"):
        open_location(folder / "passwd", _settings(tmp_path))


def test_a_location_chooses_the_store(tmp_path: Path) -> None:
    settings = _settings(tmp_path, s3_endpoint="http://127.0.0.1:1", s3_prefix="ignored")
    assert open_location(":memory:", settings).location == ":memory:"
    assert open_location(tmp_path, settings).location == str(tmp_path)
    assert open_location("relative/folder", settings).location == str(Path("relative/folder").absolute())
    assert open_location("s3://other/some/prefix", settings).location == "s3://other/some/prefix at http://127.0.0.1:1"
    assert open_location("s3://other", settings).location == "s3://other at http://127.0.0.1:1"
    assert open_location("s3://other", _settings(tmp_path)).location == "s3://other at aws"


@pytest.mark.parametrize("where", ["", "s3://", "s3:///prefix", "http://127.0.0.1:8080", "gs://bucket"])
def test_what_is_no_store_is_refused(tmp_path: Path, where: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        open_location(where, _settings(tmp_path))
    assert refused.value.code == "bad_location"


def test_every_s3_setting_arrives(tmp_path: Path) -> None:
    given = {
        "s3_endpoint": "aws", "s3_region": "eu-central-1", "s3_bucket": "b", "s3_prefix": "p", "s3_access_key": "k",
        "s3_secret_key": "s", "create_bucket": False, "s3_encryption": "sse-kms", "s3_kms_key_id": "id",
        "s3_session_token": "t", "s3_addressing": "virtual", "s3_ca_file": "ca.pem", "s3_object_lock_enabled": True,
        "s3_object_lock_retention_days": 7, "s3_object_lock_mode": "COMPLIANCE",
    }  # fmt: skip
    options = s3_options(_settings(tmp_path, **given))
    assert options.endpoint is None
    told = (options.region, options.bucket, options.prefix, options.access_key, options.secret_key)
    assert told == ("eu-central-1", "b", "p", "k", "s")
    assert (options.create_bucket, options.encryption, options.kms_key_id) == (False, "sse-kms", "id")
    assert (options.session_token, options.addressing, options.ca_file) == ("t", "virtual", "ca.pem")
    assert options.retention == Retention(7, "COMPLIANCE")
    assert s3_options(_settings(tmp_path)).retention is None


def test_the_cache_has_a_folder_without_a_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_path(_settings(tmp_path)) == tmp_path / "cache"
    monkeypatch.setattr("akidb.storage.factory._SERVICE_CACHE", tmp_path / "service")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_path(Settings()) == tmp_path / "xdg/akidb/hot"
    (tmp_path / "service").mkdir()
    assert cache_path(Settings()) == tmp_path / "service"


@pytest.mark.s3
async def test_the_whole_stack_works_over_a_real_store(minio: Minio, tmp_path: Path) -> None:
    keys = {"s3_endpoint": minio.endpoint, "s3_access_key": minio.access_key, "s3_secret_key": minio.secret_key}
    store = open_location("s3://stack-test/prefix", _settings(tmp_path, **keys))
    body = bytes(range(256)) * 100_000
    assert (await store.put("seg/1", body)).ok
    path = await store.local_path("seg/1")
    assert path is not None
    assert tmp_path / "cache" in path.parents
    assert path.read_bytes() == body
    await store.close()
