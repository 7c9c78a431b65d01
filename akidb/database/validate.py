"""What a collection may be: its name, its dimension, its shards and its index."""

from __future__ import annotations

import re

from akidb.config import Settings
from akidb.errors import Fault, InvalidInputError
from akidb.filter import PayloadSchema
from akidb.types import CODE_BITS, EF_MAX, M_MAX, M_MIN, SHARDS_MAX, CollectionSpec

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")


def validate_spec(spec: CollectionSpec, settings: Settings) -> None:
    """Refuses names, dimensions and index parameters that cannot be. Raises InvalidInputError."""
    limits = settings.api.validation
    faults: list[Fault] = []
    if (
        not isinstance(spec.name, str)
        or not NAME.match(spec.name)
        or len(spec.name) > limits.collection_name_max_length
    ):
        faults.append(
            Fault(
                ("name",),
                f"is {spec.name!r}, expected 1 to {limits.collection_name_max_length} characters: a letter or digit, "
                "then letters, digits, '.', '_', '-'",
            )
        )
    for loc, value, low, high in (
        (("vector_dim",), spec.dim, 1, limits.vector_dimension_max),
        (("shard_count",), spec.shard_count, 1, SHARDS_MAX),
        (("index", "m"), spec.index.m, M_MIN, M_MAX),
        (("index", "ef_construction"), spec.index.ef_construction, 1, EF_MAX),
        (("index", "ef_search"), spec.index.ef_search, 1, EF_MAX),
    ):
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            faults.append(Fault(loc, f"is {value!r}, expected an integer from {low} to {high}"))
    PayloadSchema.parse(spec.payload_schema)
    for loc, word, words in (
        (("index", "type"), spec.index.type, ("auto", "hnsw", "flat")),
        (("index", "quantization"), spec.index.quantization, tuple(CODE_BITS)),
    ):
        if word not in words:
            faults.append(Fault(loc, f"is {word!r}, expected {', '.join(words[:-1])} or {words[-1]}"))
    if faults:
        first = faults[0]
        raise InvalidInputError(
            f"{'.'.join(map(str, first.loc))} {first.msg}", code="invalid_collection", faults=faults
        )
