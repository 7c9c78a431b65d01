"""Points between requests and the engine: a batch to upsert, and stored points as answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import msgspec
import numpy as np

from akidb.api import body as bodies
from akidb.api.schemas import NULL, PointAnswer, PointRequest
from akidb.api.vectors import matrix, shortest
from akidb.codec import find_objects
from akidb.errors import AkiDBError, Fault, InvalidInputError, PartialWriteError, relocated
from akidb.types import CollectionSpec, Point, VectorArray

E = TypeVar("E", bound=AkiDBError)

SLICE = 256
"""Points decoded before their numbers become float32: few enough that Python's floats stay in the CPU's cache."""


class _Envelope(msgspec.Struct, forbid_unknown_fields=True):
    vectors: list[msgspec.Raw]
    if_absent: bool = False


_ENVELOPE = msgspec.json.Decoder(_Envelope)
_POINT = msgspec.json.Decoder(PointRequest)


@dataclass(frozen=True, slots=True)
class Batch:
    """n points as they were sent: `ids`, `vectors` of shape (n, dim), `payloads` as JSON text; and their conditions."""

    ids: list[str | int]
    vectors: VectorArray
    payloads: list[bytes | None]
    if_version: list[int | None] | None = None
    if_absent: bool = False


def parse_batch(body: bytes, spec: CollectionSpec) -> Batch:
    """The points of an upsert; what they hold is for the collection to check.

    Raises:
        InvalidInputError: what `decode` and `matrix` refuse, with the place in the request.
    """
    bounds = find_objects(body, b"vectors")
    if bounds is None:
        whole = bodies.decode(_ENVELOPE, body)
        raw = whole.vectors
        batch = _batch((raw[i : i + SLICE] for i in range(0, len(raw), SLICE)), spec)
        return replace(batch, if_absent=whole.if_absent)
    try:
        slices = (bounds[i : i + SLICE].tolist() for i in range(0, len(bounds), SLICE))
        return _batch(([body[start:end] for start, end in part] for part in slices), spec)
    except InvalidInputError:
        bodies.decode(_ENVELOPE, body)  # that the body is no JSON is told first, with the place in the whole of it
        raise


def _batch(slices: Iterable[Sequence[bytes | msgspec.Raw]], spec: CollectionSpec) -> Batch:
    """The points of JSON texts."""
    ids: list[str | int] = []
    payloads: list[bytes | None] = []
    versions: list[int | None] = []
    rows: list[VectorArray] = [np.empty((0, spec.dim), np.float32)]
    for items in slices:
        start = len(ids)
        points = [bodies.decode(_POINT, item, at=("vectors", i)) for i, item in enumerate(items, start)]
        rows.append(matrix([point.vector for point in points], spec.dim, ("vectors",), first=start))
        ids += [point.id for point in points]
        payloads += [payload_text(point.payload) for point in points]
        versions += [point.if_version for point in points]
    conditional = any(version is not None for version in versions)
    return Batch(ids, np.concatenate(rows), payloads, versions if conditional else None)


def differing(error: E) -> E:
    """Conditions of the collection's `upsert` that did not hold, with the places in the request."""
    parts = error.failures.values() if isinstance(error, PartialWriteError) else ()
    for each in (error, *parts):
        for fault in each.faults:
            each.args = (str(each).replace(_path(fault.loc), _path(_in_vectors(fault.loc))),)
        each.faults = tuple(Fault(_in_vectors(fault.loc), fault.msg) for fault in each.faults)
    return error


def _path(loc: tuple[str | int, ...]) -> str:
    return f"{'.'.join(map(str, loc))}:"


def _in_vectors(loc: tuple[str | int, ...]) -> tuple[str | int, ...]:
    return ("vectors", loc[1], loc[0]) if len(loc) == 2 else loc


def in_request(error: InvalidInputError) -> InvalidInputError:
    """A refusal by the collection's `upsert` with the place in the request: of point i, not in its list of ids."""
    for fault in error.faults:
        match fault.loc:
            case ("ids", i):
                return relocated(error, fault.loc, ("vectors", i, "id"))
            case ("payloads", i):
                return relocated(error, fault.loc, ("vectors", i, "payload"))
            case ("if_version", i):
                return relocated(error, fault.loc, ("vectors", i, "if_version"))
    return error


def payload_text(raw: msgspec.Raw | msgspec.UnsetType) -> bytes | None:
    """The JSON text of a payload, None where there is none."""
    return None if raw is msgspec.UNSET or (text := bytes(raw)) == b"null" else text


def answers(points: Sequence[Point], *, with_payload: bool) -> list[PointAnswer]:
    """Stored points as they go out; payloads are spliced in unparsed."""
    vectors = vector_lists([point.vector for point in points])
    return [
        PointAnswer(
            point.id,
            point.version,
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
