"""A collection's payload_schema: which fields are not indexed, and which types are promised."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from akidb.filter.payload import decode, flatten
from akidb.filter.refusal import Loc, refuse

_TYPES = ("keyword", "integer", "float", "bool")


class PayloadSchema:
    """An understood payload_schema. The empty one indexes every field and promises nothing.

    Args:
        types: per field the type its values have.
        unindexed: fields that are not indexed, nor what lies below them.
    """

    def __init__(self, types: Mapping[str, str] | None = None, unindexed: frozenset[str] = frozenset()) -> None:
        self.types = dict(types or {})
        self.unindexed = unindexed

    @classmethod
    def parse(cls, obj: Any, loc: Loc = ("payload_schema",)) -> PayloadSchema:
        """The schema that a decoded JSON value means; None is the empty one.

        Raises:
            InvalidInputError: `invalid_payload_schema`, with one Fault.
        """
        if obj is None:
            return cls()
        if not isinstance(obj, Mapping):
            _refuse(loc, f"is {type(obj).__name__}, expected an object of fields")
        types: dict[str, str] = {}
        unindexed = set()
        for field, entry in obj.items():
            where = (*loc, str(field))
            if not isinstance(field, str) or not field:
                _refuse(where, "is not the path of a field")
            type_, indexed = _entry(entry, where)
            if type_ is not None:
                types[field] = type_
            if not indexed:
                unindexed.add(field)
        return cls(types, frozenset(unindexed))

    def unindexed_at(self, field: str) -> str | None:
        """The field by which `field` is not indexed, itself or one above it; None if it is indexed."""
        if not self.unindexed:
            return None
        if field in self.unindexed:
            return field
        at = field.find(".")
        while at >= 0:
            if field[:at] in self.unindexed:
                return field[:at]
            at = field.find(".", at + 1)
        return None

    def check(self, payload: bytes, loc: Loc = ("payload",)) -> None:
        """Refuses a payload, or a merge patch of one, that could not be indexed or breaks a promised type.

        Raises:
            InvalidInputError: `invalid_payload` (not JSON, not an object, over 32 levels deep, an integer beyond 64
                bits), `payload_schema_mismatch`.
        """
        for field, value in flatten(decode(payload, loc), loc):
            type_ = self.types.get(field)
            if type_ is not None and not _is_a(value, type_):
                msg = f"has {value!r:.60} in field {field!r}, payload_schema says {type_}"
                _refuse(loc, msg, "payload_schema_mismatch")


def _entry(entry: Any, loc: Loc) -> tuple[str | None, bool]:
    """Type and indexed of one schema entry."""
    if isinstance(entry, str):
        entry = {"type": entry}
    if not isinstance(entry, Mapping):
        _refuse(loc, f"is {type(entry).__name__}, expected a type or an object with type and index")
    for key in entry:
        if key not in ("type", "index"):
            _refuse((*loc, str(key)), "is unknown here, expected type, index")
    type_, indexed = entry.get("type"), entry.get("index", True)
    if type_ not in (*_TYPES, None) or not isinstance(type_, str | None):
        _refuse(loc, f"has type {type_!r:.60}, expected keyword, integer, float or bool")
    if not isinstance(indexed, bool):
        _refuse((*loc, "index"), f"is {indexed!r:.60}, expected true or false")
    return type_, indexed


def _is_a(value: Any, type_: str) -> bool:
    if isinstance(value, bool) or type_ == "bool":
        return isinstance(value, bool) and type_ == "bool"
    if isinstance(value, str) or type_ == "keyword":
        return isinstance(value, str) and type_ == "keyword"
    return type_ == "float" or isinstance(value, int) or value.is_integer()


def _refuse(loc: Loc, msg: str, code: str = "invalid_payload_schema") -> NoReturn:
    refuse(code, loc, msg)
