"""Parquet, column by column: vectors go from Arrow's buffers to one float32 array, never through Python objects."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np

from akidb.errors import ConfigurationError, InvalidInputError
from akidb.ingest.batch import Batch, Columns, Reject
from akidb.ingest.checks import id_fault
from akidb.types import VectorArray


def read(path: str, columns: Columns, prefix: str, rows_per_batch: int, skip: int, dim: int | None) -> Iterator[Batch]:
    """Batches of the file at `path` from row `skip` on. Nulls are left out of payloads.

    Raises:
        InvalidInputError: `unreadable_file`, `unknown_column`, or the vector column holds no lists of numbers.
        ConfigurationError: pyarrow is not installed.
    """
    pa = _pyarrow()
    with _opened(path) as file:
        names = _payload_names(path, file.schema_arrow, columns)
        first, start = _row_group_of(file, skip)
        wanted = list(dict.fromkeys([columns.vector, *([columns.id] if columns.id else []), *names]))
        groups = range(first, file.num_row_groups)
        try:
            for found in file.iter_batches(rows_per_batch, row_groups=groups, columns=wanted):
                end = start + found.num_rows
                table = found.slice(max(skip - start, 0))
                if table.num_rows:
                    batch = _batch(table, columns, names, prefix, end, dim)
                    dim = dim or batch.vectors.shape[1] or None
                    yield batch
                start = end
        except (pa.ArrowException, OSError) as error:
            raise InvalidInputError(f"{path}: damaged after row {start}: {error}", code="unreadable_file") from error


def row_count(path: str) -> int:
    """Rows of the file, by its footer."""
    with _opened(path) as file:
        count: int = file.metadata.num_rows
        return count


def _pyarrow() -> Any:
    try:
        import pyarrow as pa
        import pyarrow.parquet
    except ImportError as error:
        raise ConfigurationError(
            "Parquet needs pyarrow: pip install 'akidb[ingest]'", code="missing_package"
        ) from error
    return pa


def _opened(path: str) -> Any:
    pa = _pyarrow()
    try:
        return pa.parquet.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise InvalidInputError(f"{path}: not readable as Parquet: {error}", code="unreadable_file") from error


def _payload_names(path: str, schema: Any, columns: Columns) -> list[str]:
    twice = {name for name in schema.names if schema.names.count(name) > 1}
    if twice:
        raise InvalidInputError(f"{path}: column {min(twice)!r} is there twice", code="unreadable_file")
    for name in (columns.vector, columns.id, *(columns.payload or ())):
        if name is not None and name not in schema.names:
            raise InvalidInputError(
                f"{path}: no column {name!r}, there are {', '.join(schema.names)}", code="unknown_column"
            )
    _require_numbers(path, columns.vector, schema.field(columns.vector).type)
    if columns.payload is not None:
        return list(columns.payload)
    return [name for name in schema.names if name not in (columns.id, columns.vector)]


def _require_numbers(path: str, name: str, kind: Any) -> None:
    from pyarrow import types

    is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    if not is_list or not (types.is_floating(kind.value_type) or types.is_integer(kind.value_type)):
        raise InvalidInputError(f"{path}: column {name!r} is {kind}, expected lists of numbers", code="invalid_vector")


def _row_group_of(file: Any, row: int) -> tuple[int, int]:
    """The row group that holds `row`, and the row it begins with."""
    start = 0
    for group in range(file.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        if row < start + rows:
            return group, start
        start += rows
    return file.num_row_groups, start


def _batch(table: Any, columns: Columns, names: list[str], prefix: str, end: int, dim: int | None) -> Batch:
    first_line = end - table.num_rows + 1
    lines = range(first_line, end + 1)
    ids = [f"{prefix}{line}" for line in lines] if columns.id is None else table[columns.id].to_pylist()
    faults = {row: fault for row, value in enumerate(ids) if (fault := id_fault(value)) is not None}
    vectors, kept = _matrix(table[columns.vector], dim, faults)
    payloads, unwritable = _payloads(table, names)
    made = Batch(
        [str(ids[row]) for row in kept], vectors, [payloads[row] for row in kept], [lines[row] for row in kept], end
    )
    refused = [Reject(lines[row], reason) for row, reason in sorted(faults.items())]
    made = made.only(range(len(kept)), refused) if refused else made
    return (
        made.without({at: unwritable[row] for at, row in enumerate(kept) if row in unwritable}) if unwritable else made
    )


def _matrix(array: Any, dim: int | None, faults: dict[int, str]) -> tuple[VectorArray, list[int]]:
    """The vectors of rows without fault, (n, dim) float32, and which rows they are; adds to `faults`."""
    import pyarrow as pa
    import pyarrow.compute as pc

    lengths = pc.fill_null(pc.list_value_length(array), -1).to_numpy(zero_copy_only=False)
    if dim is None:
        found, counts = np.unique(lengths[lengths > 0], return_counts=True)
        dim = int(found[np.argmax(counts)]) if len(found) else 0
    good = (lengths == dim) & (lengths > 0)
    for row in np.flatnonzero(~good).tolist():
        size = int(lengths[row])
        faults.setdefault(
            row, f"the vector has {size} dimensions, expected {dim}" if size >= 0 else "there is no vector"
        )
    good[list(faults)] = False
    values = array.filter(pa.array(good)).flatten()
    with np.errstate(over="ignore"):
        # A null inside a vector reads as NaN and is rejected as such.
        flat = values.to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
    return flat.reshape(-1, dim), np.flatnonzero(good).tolist()


def _in_microseconds(table: Any) -> Any:
    """With nanoseconds cut off: Python's times, which JSON texts are made of, have none."""
    import pyarrow as pa

    for at, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type) and field.type.unit == "ns":
            column = table.column(at).cast(pa.timestamp("us", field.type.tz), safe=False)
            table = table.set_column(at, field.name, column)
    return table


def _payloads(table: Any, names: list[str]) -> tuple[list[bytes | None], dict[int, str]]:
    """JSON text per row, and why some rows have none."""
    faults: dict[int, str] = {}
    if not names:
        return [None] * table.num_rows, faults
    encoded: list[bytes | None] = []
    selected = _in_microseconds(table.select(names))
    try:
        rows = selected.to_pylist()
    except (ValueError, OverflowError):  # a date past the year 9999; row by row, twenty times slower, it fails alone
        rows = None
    for row in range(selected.num_rows):
        try:
            values = selected.slice(row, 1).to_pylist()[0] if rows is None else rows[row]
            encoded.append(msgspec.json.encode({name: value for name, value in values.items() if value is not None}))
        except (TypeError, ValueError, OverflowError) as error:
            faults[row] = f"the payload can't be written as JSON: {error}"
            encoded.append(None)
    return encoded, faults
