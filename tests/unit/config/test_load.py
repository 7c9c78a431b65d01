import os
from pathlib import Path

import pytest

from akidb.config import Configuration, Settings, from_s3_variables, load
from akidb.config.settings import Storage
from akidb.errors import ConfigurationError

EMPTY = Path("/nonexistent")


def read(environ: dict[str, str] | None = None, **rest: object) -> Configuration:
    return load(environ=environ or {}, **{"system_dir": EMPTY, **rest})


@pytest.fixture
def file(tmp_path):
    def write(text: str, name: str = "akidb.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def test_without_anything_the_defaults_stand():
    assert read().settings == Settings()


def test_each_layer_overrides_the_one_below(file):
    path = file("api: {workers: 2, bind_address: '127.0.0.1:1'}\nquery: {slow_query_ms: 9}\n")
    found = read({"AKIDB_WORKERS": "3", "AKIDB_BIND_ADDRESS": "127.0.0.1:2"}, config=path, flags={"api.workers": 4})
    assert (found.settings.api.workers, found.settings.api.bind_address) == (4, "127.0.0.1:2")
    assert found.settings.query.slow_query_ms == 9
    assert found.sources["query.slow_query_ms"] == f"{path}: query.slow_query_ms"


def test_the_system_file_is_read_and_named_ones_replace_it(file, tmp_path):
    file("api: {workers: 2}")
    other = file("api: {workers: 5}", "other.yaml")
    assert read(system_dir=tmp_path).settings.api.workers == 2
    assert read({"AKIDB_CONFIG": str(other)}, system_dir=tmp_path).settings.api.workers == 5
    third = file("api: {workers: 6}", "third.yaml")
    assert read({"AKIDB_CONFIG": str(other)}, config=third, system_dir=tmp_path).settings.api.workers == 6


def test_the_environment_file_lies_beneath_the_environment(file, tmp_path):
    file("# comment\nexport AKIDB_WORKERS=2\nAKIDB_S3_ENDPOINT='http://10.0.0.1:9000'\nAKIDB_LOG_LEVEL=\n", "akidb.env")
    found = read({"AKIDB_WORKERS": "3"}, system_dir=tmp_path)
    assert found.settings.api.workers == 3
    assert found.settings.storage.s3_endpoint == "http://10.0.0.1:9000"
    assert found.settings.log.level == "info"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_environment_file_that_may_not_be_read_is_passed_over(file, tmp_path):
    file("AKIDB_WORKERS=2\n", "akidb.env").chmod(0)
    assert read(system_dir=tmp_path).settings.api.workers == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("storage: {retry: {max_atempts: 3}}", "storage.retry.max_atempts is unknown; did you mean max_attempts?"),
        ("fruit: red", "fruit is unknown; expected one of storage, cache, wal, compaction, index, api"),
        ("api: {workers: two}", "api.workers is 'two', expected an integer from 1 to 256"),
        ("api: {workers: yes}", "api.workers is True, expected an integer"),
        ("api: {workers: 2.0}", "api.workers is 2.0, expected an integer"),
        ("api: {workers: 0}", "api.workers is 0, expected an integer from 1 to 256"),
        ("api: {drain_delay_secs: .nan}", "api.drain_delay_secs is nan, expected a number from 0 to 20 (s)"),
        ("api: 3", "api is 3, expected a mapping with the keys bind_address, workers"),
        ("- a\n- b\n", "the file is ['a', 'b'], expected a mapping"),
        ("api: {workers: 2, workers: 3}", "key workers is given twice"),
        ("api: {workers: 2", "line 1, column"),
        ("storage: {use_memory_backend: 'false'}", "storage.use_memory_backend is 'false', expected true or false"),
        ("log: {level: loud}", "log.level is 'loud', expected one of trace, debug, info"),
        ("auth: {api_keys: secret-text}", "auth.api_keys is a value that is not shown, expected a list of texts"),
    ],
)
def test_a_mistake_in_the_file_names_file_key_and_expectation(file, text, message):
    path = file(text)
    with pytest.raises(ConfigurationError) as error:
        read(config=path)
    assert str(path) in str(error.value)
    assert message in str(error.value)


def test_all_mistakes_are_told_at_once(file):
    path = file("api: {workers: 0}\nlog: {level: loud}")
    with pytest.raises(ConfigurationError) as error:
        read({"AKIDB_TELEMETRY_ENABLED": "maybe"}, config=path)
    assert [line.rpartition(" is ")[0] for line in str(error.value).splitlines()] == [
        f"{path}: api.workers",
        f"{path}: log.level",
        "environment: AKIDB_TELEMETRY_ENABLED",
    ]


def test_broken_yaml_does_not_quote_the_line_it_stands_in(file):
    with pytest.raises(ConfigurationError) as error:
        read(config=file("cluster:\n  token: hush: hush\n"))
    assert "hush" not in str(error.value)


def test_a_named_file_that_is_missing_stops_the_start(tmp_path):
    with pytest.raises(ConfigurationError, match=r"none\.yaml: the file cannot be read"):
        read(config=tmp_path / "none.yaml")


def test_a_section_with_everything_commented_out_is_empty(file):
    assert read(config=file("storage:\napi:\n  workers: 2\n")).settings.api.workers == 2
    assert read(config=file("# nothing\n")).settings == Settings()


@pytest.mark.parametrize(
    ("word", "value"), [("true", True), ("TRUE # yes", True), ("on", True), ("0", False), ("No", False)]
)
def test_booleans_of_the_environment(word, value):
    assert read({"AKIDB_TELEMETRY_ENABLED": word}).settings.telemetry.enabled is value


def test_trailing_comments_are_cut_from_numbers_booleans_and_words_but_not_from_texts():
    found = read(
        {
            "AKIDB_WORKERS": "2  # per core",
            "AKIDB_SAMPLING_RATIO": "0.5\t# half",
            "AKIDB_LOG_LEVEL": "WARN # less",
            "AKIDB_DATA_DIR": "/data # 1",
        }
    ).settings
    assert (found.api.workers, found.telemetry.sampling_ratio, found.log.level) == (2, 0.5, "warn")
    assert found.storage.data_dir == "/data # 1"


@pytest.mark.parametrize("word", ["1_000", "nan", "inf", "1e999", "-1", "", "0x10", "١"])
def test_numbers_that_only_python_understands_are_refused_or_unset(word):
    if not word:
        assert read({"AKIDB_SAMPLING_RATIO": word}).settings.telemetry.sampling_ratio == 1.0
        return
    with pytest.raises(ConfigurationError, match="AKIDB_SAMPLING_RATIO"):
        read({"AKIDB_SAMPLING_RATIO": word})


def test_an_alias_and_the_canonical_name_must_agree():
    assert read({"AKIDB_DATA_DIR": "a", "AKIDB_STORAGE_DATA_DIR": "a"}).settings.storage.data_dir == "a"
    with pytest.raises(ConfigurationError, match="AKIDB_STORAGE_DATA_DIR and AKIDB_DATA_DIR mean the same"):
        read({"AKIDB_DATA_DIR": "a", "AKIDB_STORAGE_DATA_DIR": "b"})


def test_an_unknown_variable_warns_and_its_value_is_not_shown():
    (warning,) = read({"AKIDB_S3_SECRETKEY": "hush"}).warnings
    assert warning == "environment: AKIDB_S3_SECRETKEY is unknown and ignored; did you mean AKIDB_S3_SECRET_KEY?"


@pytest.mark.parametrize(
    ("text", "level"),
    [("debug", "debug"), ("warn,akidb=trace", "trace"), ("hyper=trace,error", "error"), ("akidb_api=info", "info")],
)
def test_rust_log_is_heard_with_a_hint(text, level):
    found = read({"RUST_LOG": text})
    assert found.settings.log.level == level
    assert "AKIDB_LOG_LEVEL" in found.warnings[0]


def test_rust_log_yields_to_the_own_variable_and_survives_nonsense():
    assert read({"RUST_LOG": "debug", "AKIDB_LOG_LEVEL": "error"}).settings.log.level == "error"
    found = read({"RUST_LOG": "hyper=loud"})
    assert found.settings.log.level == "info"
    assert "ignored" in found.warnings[0]


def test_a_program_that_names_its_bucket_takes_only_the_s3_variables():
    given = {"AKIDB_S3_REGION": "eu-west-1", "AKIDB_S3_BUCKET": " ", "AKIDB_WORKERS": "none", "AKIDB_CONFIG": "/none"}
    assert from_s3_variables(given) == Settings(storage=Storage(s3_endpoint="aws", s3_region="eu-west-1"))
    assert from_s3_variables({"AKIDB_STORAGE_S3_ENDPOINT": "http://here:1"}).storage.s3_endpoint == "http://here:1"
    with pytest.raises(ConfigurationError, match="only one is set, expected both"):
        from_s3_variables({"AKIDB_S3_ACCESS_KEY": "k"})
