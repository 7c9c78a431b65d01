"""Settings from defaults < YAML file < environment < flags, every value checked, every mistake named with its place."""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from akidb.config.rules import contradictions, remarks
from akidb.config.setting import Setting, rows
from akidb.config.settings import Settings
from akidb.errors import ConfigurationError

SYSTEM_DIR = Path("/etc/akidb")
TABLE: tuple[Setting, ...] = tuple(rows(Settings))
"""Every setting, in the order of docs/configuration.md."""

BY_PATH = {row.path: row for row in TABLE}
BY_ENV = {name: row for row in TABLE for name in row.env}

OTHER_VARIABLES = ("AKIDB_CONFIG", "AKIDB_API_KEY", "AKIDB_SIMD_LEVEL", "AKIDB_PURE_PYTHON")
"""Variables that are no settings: where the file is, the key of a client, switches of the native core and codecs."""

FLAGS = {"api.bind_address": "--bind", "api.workers": "--workers"}
"""What akidb-api calls the settings that its command line can set."""


@dataclasses.dataclass(frozen=True, slots=True)
class Configuration:
    """What `load` found. `sources` names, per YAML path, where a value that is not the default's came from."""

    settings: Settings
    sources: Mapping[str, str]
    warnings: tuple[str, ...]


class _Given:
    """Values collected so far, later ones replacing earlier ones, and what was wrong."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.sources: dict[str, str] = {}
        self.faults: list[str] = []
        self.warnings: list[str] = []

    def take(self, row: Setting, raw: Any, source: str, *, text: bool) -> None:
        try:
            value = row.parse(raw) if text else row.check(raw)
        except ValueError:
            shown = "a value that is not shown" if row.secret else repr(raw)
            self.faults.append(f"{source} is {shown}, expected {row.expected}")
        else:
            self.values[row.path] = value
            self.sources[row.path] = source


def load(
    *,
    config: str | os.PathLike[str] | None = None,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
    system_dir: Path | None = SYSTEM_DIR,
) -> Configuration:
    """The effective configuration.

    Args:
        config: the YAML file (`--config`); otherwise AKIDB_CONFIG, otherwise akidb.yaml in `system_dir` if it is there.
        environ: the environment, os.environ by default; akidb.env in `system_dir`, where readable, lies beneath it.
        system_dir: None: no files are looked for.
        flags: values by YAML path, as texts or typed; None means the flag was not given.

    Raises:
        ConfigurationError: one line for each mistake: file or variable, key, what was found and what was expected.
    """
    beneath = {} if system_dir is None else _env_file(system_dir / "akidb.env")
    environment = {**beneath, **(os.environ if environ is None else environ)}
    environment = {name: value for name, value in environment.items() if value.strip()}  # compose passes unset as empty
    given = _Given()
    path = _file(config, environment, system_dir)
    if path is not None:
        _take_section(_read(path), "", str(path), given)
    _take_environment(environment, given)
    for key, value in (flags or {}).items():
        if value is not None:
            given.take(BY_PATH[key], value, f"flag {FLAGS.get(key, key)}", text=isinstance(value, str))
    if not given.faults:
        settings: Settings = _build(Settings, "", given.values)
        given.faults += contradictions(settings, given.sources)
    if given.faults:
        raise ConfigurationError("\n".join(given.faults))
    given.warnings += remarks(settings, given.sources)
    return Configuration(settings, given.sources, tuple(given.warnings))


def from_s3_variables(environ: Mapping[str, str] | None = None) -> Settings:
    """The defaults with what the environment says about S3, for a program that names its bucket itself.

    Without AKIDB_S3_ENDPOINT the bucket is Amazon's. No file is read, no other variable heard.

    Raises:
        ConfigurationError: as `load`.
    """
    given = {
        name: value
        for name, value in (os.environ if environ is None else environ).items()
        if name in BY_ENV and BY_ENV[name].path.startswith("storage.s3_") and value.strip()
    }
    if not any(BY_ENV[name].path == "storage.s3_endpoint" for name in given):
        given["AKIDB_S3_ENDPOINT"] = "aws"
    return load(environ=given, system_dir=None).settings


def _file(
    config: str | os.PathLike[str] | None, environment: Mapping[str, str], system_dir: Path | None
) -> Path | None:
    if config is not None:
        return Path(config)
    if "AKIDB_CONFIG" in environment:
        return Path(environment["AKIDB_CONFIG"])
    default = None if system_dir is None else system_dir / "akidb.yaml"
    return default if default is not None and default.exists() else None


class _UniqueKeys(yaml.SafeLoader):
    """The safe loader, except that a key given twice is an error instead of the last one winning unseen."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = key_node.value
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key} is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _read(path: Path) -> Any:
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: the file cannot be read: {error}") from error
    try:
        return yaml.load(text, _UniqueKeys)  # noqa: S506  a SafeLoader
    except yaml.MarkedYAMLError as error:
        # Not the whole text of the error: it quotes the line, which may hold a secret.
        mark = error.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ConfigurationError(f"{path}: {place}{error.problem or 'this is not YAML'}") from None
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path}: this is not YAML: {error}") from None


def _take_section(section: Any, path: str, file: str, given: _Given) -> None:
    if section is None:  # a heading with every line below it commented out
        return
    where = f"{file}: {path or 'the file'}"
    if not isinstance(section, dict):
        given.faults.append(f"{where} is {section!r}, expected a mapping with the keys {', '.join(_keys(path))}")
        return
    for key, value in section.items():
        here = f"{path}.{key}" if path else str(key)
        if here in BY_PATH:
            given.take(BY_PATH[here], value, f"{file}: {here}", text=False)
        elif _keys(here):
            _take_section(value, here, file, given)
        else:
            keys = _keys(path)
            near = difflib.get_close_matches(str(key), keys, 1)
            hint = f"did you mean {near[0]}?" if near else "expected one of " + ", ".join(keys)
            given.faults.append(f"{file}: {here} is unknown; {hint}")


def _keys(path: str) -> list[str]:
    """The keys directly below a section, in order; empty if it is no section."""
    start = f"{path}." if path else ""
    return list(dict.fromkeys(row.path[len(start) :].split(".")[0] for row in TABLE if row.path.startswith(start)))


def _take_environment(environment: Mapping[str, str], given: _Given) -> None:
    for row in TABLE:
        names = [name for name in row.env if name in environment]
        if len({environment[name] for name in names}) > 1:
            given.faults.append(f"environment: {' and '.join(names)} mean the same setting and differ; unset one")
        elif names:
            given.take(row, environment[names[0]], f"environment: {names[0]}", text=True)
    if "log.level" not in given.sources and "RUST_LOG" in environment:
        _take_rust_log(environment["RUST_LOG"], given)
    for name in sorted(environment):
        if name.startswith("AKIDB_") and name not in BY_ENV and name not in OTHER_VARIABLES and "_TEST_" not in name:
            near = difflib.get_close_matches(name, BY_ENV, 1)
            given.warnings.append(
                f"environment: {name} is unknown and ignored" + (f"; did you mean {near[0]}?" if near else "")
            )


def _take_rust_log(text: str, given: _Given) -> None:
    """RUST_LOG as env_logger has it: `info`, or directives such as `warn,akidb=debug`, of which ours counts."""
    level = ""
    for directive in text.split(","):
        target, _, word = directive.strip().rpartition("=")
        if not target or target.replace("-", "_").startswith("akidb"):
            level = {"off": "error"}.get(word.lower(), word.lower())
    if level in BY_PATH["log.level"].choices:
        given.take(BY_PATH["log.level"], level, "environment: RUST_LOG", text=True)
        given.warnings.append(
            f"environment: the log level {level} is taken from RUST_LOG; AKIDB_LOG_LEVEL is the name AkiDB reads first"
        )
    else:
        given.warnings.append(
            f"environment: RUST_LOG {text!r} names no level for akidb and is ignored; set AKIDB_LOG_LEVEL"
        )


_ASSIGNMENT = re.compile(r"^\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)$")


def _env_file(path: Path) -> dict[str, str]:
    """Assignments of a service manager's environment file; nothing if it is missing or this user may not read it."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    found = (_ASSIGNMENT.match(line) for line in lines)
    pairs = ((match[1], match[2].strip()) for match in found if match)
    return {
        name: value[1:-1] if value[:1] == value[-1:] and value[:1] in ("'", '"') and len(value) > 1 else value
        for name, value in pairs
    }


def _build(section: type, path: str, values: Mapping[str, Any]) -> Any:
    hints = typing.get_type_hints(section)
    made: dict[str, Any] = {}
    for field in dataclasses.fields(section):
        here = f"{path}.{field.name}" if path else field.name
        if dataclasses.is_dataclass(hints[field.name]):
            made[field.name] = _build(hints[field.name], here, values)
        elif here in values:
            made[field.name] = values[here]
    return section(**made)
