"""What a filter is once it has been understood: immutable, hashable conditions (docs/filters.md has the decisions)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

Number: TypeAlias = int | float
Scalar: TypeAlias = str | int | float | bool

INT64_MIN, INT64_MAX, UINT64_MAX = -(1 << 63), (1 << 63) - 1, (1 << 64) - 1

TEXT_KEY_BYTES = 128
"""Longer text is indexed by its first so many UTF-8 bytes and a digest; so bounds of text are no longer than this."""


def canonical(number: Number) -> Number:
    """The one Python value of a number: an int wherever it is a whole one of at most 64 bits, a float otherwise.

    So 1 and 1.0 are the same key of an index, and no integer is ever rounded to a float. Booleans are not numbers here.

    Args:
        number: finite; an int of at most 64 bits, signed or unsigned.
    """
    if isinstance(number, float) and number.is_integer() and INT64_MIN <= number <= UINT64_MAX:
        return int(number)
    return number


@dataclass(frozen=True, slots=True)
class Match:
    """Some value of `field` equals one of these. Kinds are kept apart: Python takes True and 1 for the same key."""

    field: str
    texts: tuple[str, ...] = ()
    numbers: tuple[Number, ...] = ()
    bools: tuple[bool, ...] = ()


@dataclass(frozen=True, slots=True)
class Range:
    """One value of `field` satisfies all bounds that are not None. They are all texts or all canonical numbers."""

    field: str
    gt: Number | str | None = None
    gte: Number | str | None = None
    lt: Number | str | None = None
    lte: Number | str | None = None


@dataclass(frozen=True, slots=True)
class Exists:
    """There is a value at `field` or below it."""

    field: str


@dataclass(frozen=True, slots=True)
class Group:
    """All of `must`, at least one of `should` unless that is empty, none of `must_not`. Without a clause: every row."""

    must: tuple[Filter, ...] = ()
    should: tuple[Filter, ...] = ()
    must_not: tuple[Filter, ...] = ()


Filter: TypeAlias = Group | Match | Range | Exists


def is_unconditional(filter_: Filter) -> bool:
    """Whether no condition on any field stands in it, as in {} or {"must": []}."""
    if not isinstance(filter_, Group):
        return False
    return all(map(is_unconditional, (*filter_.must, *filter_.should, *filter_.must_not)))
