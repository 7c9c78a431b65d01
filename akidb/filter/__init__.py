"""must / should / must_not over payloads: from JSON to conditions, from conditions to a bitmap of rows."""

from akidb.filter.ast import Exists, Filter, Group, Match, Range, is_unconditional
from akidb.filter.bitmaps import from_mask, from_rows, to_mask
from akidb.filter.evaluate import FieldSource, evaluate
from akidb.filter.parse import parse
from akidb.filter.schema import PayloadSchema

__all__ = [
    "Exists",
    "FieldSource",
    "Filter",
    "Group",
    "Match",
    "PayloadSchema",
    "Range",
    "evaluate",
    "from_mask",
    "from_rows",
    "is_unconditional",
    "parse",
    "to_mask",
]
