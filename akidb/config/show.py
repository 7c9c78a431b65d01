"""The table for readers: the effective configuration as YAML, and the rows of docs/configuration.md."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

from akidb.config.load import TABLE, Configuration
from akidb.config.setting import Setting
from akidb.config.settings import Settings

MASK = "********"


def value_at(settings: Settings, path: str) -> Any:
    """The value of one setting by its YAML path."""
    value: Any = settings
    for name in path.split("."):
        value = getattr(value, name)
    return value


def effective(configuration: Configuration) -> str:
    """Valid YAML of every setting, secrets masked; comments say where a value came from."""
    lines: list[str] = []
    shown: tuple[str, ...] = ()
    for row in TABLE:
        *sections, name = row.path.split(".")
        for depth, section in enumerate(sections):
            if tuple(sections[: depth + 1]) != shown[: depth + 1]:
                lines.append("  " * depth + section + ":")
        shown = tuple(sections)
        source = configuration.sources.get(row.path)
        value = _yaml(row, value_at(configuration.settings, row.path))
        lines.append("  " * len(sections) + f"{name}: {value}" + (f"  # {source}" if source else ""))
    return "\n".join(lines) + "\n"


def _yaml(row: Setting, value: Any) -> str:
    if row.secret and value:
        value = [MASK] * len(value) if isinstance(value, tuple) else MASK
    if isinstance(value, tuple):
        value = list(value)
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")


def table() -> Iterator[str]:
    """The Markdown rows of docs/configuration.md, in table order."""
    yield "| YAML key | environment | default | takes | meaning |"
    yield "|---|---|---|---|---|"
    for row in TABLE:
        names = "<br>".join(f"`{name}`" for name in row.env)
        default = "unset" if row.default in (None, "", ()) else f"`{_yaml(row, row.default)}`"
        secret = " Secret." if row.secret else ""
        yield f"| `{row.path}` | {names} | {default} | {row.expected} | {row.help}{secret} |"
