"""Points between requests and the engine: a batch to upsert, and stored points as answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from akidb.api import body as bodies
from akidb.api.errors import relocated
from akidb.api.schemas import NULL, PointAnswer, PointRequest
from akidb.api.vectors import matrix, shortest
from akidb.codec import find_objects
from akidb.collection.points import check_ids, check_values
from akidb.errors import InvalidInputError
from akidb.filter import PayloadSchema
from akidb.types import CollectionSpec, Point, VectorArray

SLICE = 256
"""Points decoded before their numbers become float32: few enough that Python's floats stay in the CPU's cache."""


class _Envelope(msgspec.Struct, forbid_unknown_fields=True):
    vectors: list[msgspec.Raw]


_ENVELOPE = msgspec.json.Decoder(_Envelope)
_POINT = msgspec.json.Decoder(PointRequest)


@dataclass(frozen=True, slots=True)
class Batch:
    """n points: `ids`, `vectors` of shape (n, dim), `payloads` as JSON text."""

    ids: list[str]
    vectors: VectorArray
    payloads: list[bytes | None]


def parse_batch(body: bytes, spec: CollectionSpec) -> Batch:
    """The points of an upsert, all checked.

    Raises:
        InvalidInputError: what `decode`, `matrix`, `check_ids`, `check_values` and `PayloadSchema.check` refuse, with
            the place in the request.
    """
    bounds = find_objects(body, b"vectors")
    if bounds is None:
        raw = bodies.decode(_ENVELOPE, body).vectors
        return _batch((raw[i : i + SLICE] for i in range(0, len(raw), SLICE)), spec)
    try:
        slices = (bounds[i : i + SLICE].tolist() for i in range(0, len(bounds), SLICE))
        return _batch(([body[start:end] for start, end in part] for part in slices), spec)
    except InvalidInputError:
        bodies.decode(_ENVELOPE, body)  # that the body is no JSON is told first, with the place in the whole of it
        raise


def _batch(slices: Iterable[Sequence[bytes | msgspec.Raw]], spec: CollectionSpec) -> Batch:
    """The points of JSON texts, checked."""
    ids: list[str | int] = []
    payloads: list[bytes | None] = []
    rows: list[VectorArray] = [np.empty((0, spec.dim), np.float32)]
    schema = PayloadSchema.parse(spec.payload_schema)
    for items in slices:
        start = len(ids)
        points = [bodies.decode(_POINT, item, at=("vectors", i)) for i, item in enumerate(items, start)]
        rows.append(matrix([point.vector for point in points], spec.dim, ("vectors",), first=start))
        ids += [point.id for point in points]
        for i, point in enumerate(points, start):
            payloads.append(payload_text(point.payload, schema, ("vectors", i, "payload")))
    vectors = np.concatenate(rows)
    check_values(vectors, spec.metric, ("vectors",))
    return Batch(texts(ids, "vectors", "id"), vectors, payloads)


def texts(ids: Sequence[str | int], where: str, leaf: str | None = None) -> list[str]:
    """Ids as text; id i stands at (where, i) or, with `leaf`, at (where, i, leaf), where each may stand once only.

    Raises:
        InvalidInputError: `invalid_id`, `duplicate_id`.
    """
    try:
        return check_ids(ids, loc=(where,), unique=leaf is not None)
    except InvalidInputError as error:
        if leaf is None or not error.faults:
            raise
        loc = error.faults[0].loc
        raise relocated(error, loc, (*loc, leaf)) from None


def payload_text(
    raw: msgspec.Raw | msgspec.UnsetType, schema: PayloadSchema, loc: tuple[str | int, ...]
) -> bytes | None:
    """The JSON text of a payload, None where there is none.

    Raises:
        InvalidInputError: `invalid_payload`, `payload_schema_mismatch`.
    """
    if raw is msgspec.UNSET or (text := bytes(raw)) == b"null":
        return None
    schema.check(text, loc)
    return text


def answers(points: Sequence[Point], *, with_payload: bool) -> list[PointAnswer]:
    """Stored points as they go out; payloads are spliced in unparsed."""
    vectors = vector_lists([point.vector for point in points])
    return [
        PointAnswer(
            point.id,
            msgspec.Raw(point.payload_json) if with_payload and point.payload_json is not None else NULL,
            vector,
        )
        for point, vector in zip(points, vectors, strict=True)
    ]


def vector_lists(vectors: Sequence[VectorArray | None]) -> list[list[float] | msgspec.UnsetType]:
    """Numbers of each vector for JSON; unset where there is none."""
    present = [vector for vector in vectors if vector is not None]
    if not present:
        return [msgspec.UNSET] * len(vectors)
    flat = shortest(np.concatenate(present))
    out: list[list[float] | msgspec.UnsetType] = []
    at = 0
    for vector in vectors:
        if vector is None:
            out.append(msgspec.UNSET)
        else:
            out.append(flat[at : at + len(vector)])
            at += len(vector)
    return out
