"""One setting: what it is called, which values it takes, and how a text or a YAML value becomes one of them.

A setting is declared once, as a field of a dataclass in `settings.py`; loader, environment, `--check-config` and
docs/configuration.md all read the rows that `rows()` finds there.
"""

from __future__ import annotations

import dataclasses
import math
import re
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, cast

T = TypeVar("T")

_COMMENT = re.compile(r"\s+#.*$")
_TRUE = ("true", "1", "yes", "on")
_FALSE = ("false", "0", "no", "off")


@dataclasses.dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table. `path` is the YAML path; `env` holds the variables that set it, the canonical one first."""

    path: str
    type: type
    default: Any
    help: str
    optional: bool = False
    choices: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    unit: str | None = None
    env: tuple[str, ...] = ()
    secret: bool = False

    @property
    def expected(self) -> str:
        """What an error says was expected."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        word = {int: "an integer", float: "a number", bool: "true or false", tuple: "a list of texts"}.get(
            self.type, "a text"
        )
        if self.low is not None and self.high is not None:
            word += (
                f" from {self.low:g} to {self.high:g}" if self.high < 1e6 else f" from {self.low:g} to {self.high:,.0f}"
            )
        elif self.low is not None:
            word += f" of at least {self.low:g}"
        return f"{word} ({self.unit})" if self.unit else word

    def check(self, value: Any) -> Any:
        """A typed value (from YAML, a flag or a caller) as this setting keeps it; ValueError if it is not one."""
        if value is None:
            if self.optional:
                return None
            raise ValueError
        if self.type is tuple:
            if not isinstance(value, list | tuple) or not all(isinstance(item, str) and item for item in value):
                raise ValueError
            return tuple(value)
        if self.type is float and type(value) is int:
            value = float(value)
        # type() and not isinstance: True is an int, and `max_attempts: yes` is a mistake.
        if type(value) is not self.type:
            raise ValueError
        if self.choices and value not in self.choices:
            raise ValueError
        if isinstance(value, int | float) and not self._in_range(value):
            raise ValueError
        return value

    def parse(self, text: str) -> Any:
        """The value of an environment variable or flag; ValueError if it is none.

        Numbers, booleans and choices may carry a trailing ` # comment`, which service managers do not strip.
        """
        if self.type is tuple:
            return self.check([item.strip() for item in text.split(",") if item.strip()])
        if self.type is str and not self.choices:
            return self.check(text)
        text = _COMMENT.sub("", text).strip()
        if self.type is bool:
            word = text.lower()
            if word not in _TRUE + _FALSE:
                raise ValueError
            return word in _TRUE
        if self.choices:
            return self.check(text if text in self.choices else text.lower())
        if "_" in text or not text.isascii():  # "1_000" is a number to Python only
            raise ValueError
        return self.check(self.type(text))

    def _in_range(self, value: float) -> bool:
        above = self.low is None or value >= self.low
        return math.isfinite(value) and above and (self.high is None or value <= self.high)


def setting(
    default: T,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    unit: str | None = None,
    env: str | None = None,
    secret: bool = False,
) -> T:
    """Declares a setting as a dataclass field. `env` is an alias of the canonical variable."""
    row = {"help": help, "low": low, "high": high, "unit": unit, "alias": env, "secret": secret}
    return dataclasses.field(default=default, metadata=row)


def rows(section: type, path: str = "") -> Iterator[Setting]:
    """Every setting below a dataclass, in the order of its fields."""
    hints = typing.get_type_hints(section)
    for field in dataclasses.fields(section):
        here = f"{path}.{field.name}" if path else field.name
        kind = hints[field.name]
        if dataclasses.is_dataclass(kind):
            yield from rows(cast(type, kind), here)
        else:
            yield _row(here, kind, field.default, field.metadata)


def _row(path: str, hint: Any, default: Any, metadata: Mapping[str, Any]) -> Setting:
    optional = False
    choices: tuple[str, ...] = ()
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        optional = True
        (hint,) = (part for part in typing.get_args(hint) if part is not type(None))
    if typing.get_origin(hint) is typing.Literal:
        choices, hint = typing.get_args(hint), str
    if typing.get_origin(hint) is tuple:
        hint = tuple
    canonical = "AKIDB_" + path.replace(".", "_").upper()
    alias = metadata["alias"]
    names = (canonical,) if alias in (None, canonical) else (canonical, alias)
    kept = {key: metadata[key] for key in ("help", "low", "high", "unit", "secret")}
    return Setting(path, hint, default, optional=optional, choices=choices, env=names, **kept)
