"""How this package says no: one message, one fault, one path."""

from __future__ import annotations

from typing import NoReturn, TypeAlias

from akidb.errors import Fault, InvalidInputError

Loc: TypeAlias = tuple[str | int, ...]


def refuse(code: str, loc: Loc, msg: str) -> NoReturn:
    """Raises InvalidInputError with a Fault at `loc`; `msg` says what is there and what was expected."""
    where = ".".join(map(str, loc))
    raise InvalidInputError(f"{where}: {msg}", code=code, faults=[Fault(loc, msg)])
