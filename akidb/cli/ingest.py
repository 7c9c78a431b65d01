"""akidb-ingest: files into a collection."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

import akidb
from akidb.config import load
from akidb.errors import AkiDBError
from akidb.ingest import Columns, Job, Place, Source
from akidb.telemetry import logging as logs
from akidb.types import Metric

EXIT_FAILED = 1
EXIT_ARGUMENTS = 2
EXIT_REJECTS = 3
EXIT_INTERRUPTED = 130

_ARGUMENT_CODES = frozenset(
    ("no_such_file", "unknown_format", "rejects_is_input", "rejects_not_writable", "bad_location", "not_a_store")
)
"""What is wrong before anything begins, and would be wrong again."""

_EPILOG = """Exit status: 0 all rows are stored; 1 failed, the same command goes on where this one stopped; 2 wrong
arguments; 3 done, with bad rows in the rejects file; 130 interrupted, as 1."""


class Bar:
    """A progress bar with rate and time left; where stderr is no terminal, only the first and the last line."""

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None
        self._started = time.monotonic()

    def opened(self, location: str, sources: Sequence[Source], rows: int | None) -> None:
        click.echo(f"store: {location}")
        click.echo(f"files: {sources[0].path}" + (f" and {len(sources) - 1} more" if len(sources) > 1 else ""))
        self._bar = tqdm(total=rows, unit=" rows", unit_scale=True, disable=None, dynamic_ncols=True)

    def resumed(self, source: Source, place: Place) -> None:
        before = f"{place.stored:,} points were stored and {place.rejected:,} rows rejected before"
        tqdm.write(f"goes on after row {place.row:,} of {source.path}: {before}; --restart begins anew")

    def rows(self, count: int) -> None:
        if self._bar is not None:
            self._bar.update(count)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def summary(self, place: Place, job: Job) -> str:
        text = f"{place.stored:,} points stored in {job.collection!r}, {time.monotonic() - self._started:.1f} s"
        return text + (f"; {place.rejected:,} rows rejected, see {job.rejects}" if place.rejected else "")


@click.command(context_settings={"help_option_names": ["-h", "--help"]}, epilog=_EPILOG)
@click.version_option(akidb.__version__, prog_name="akidb-ingest")
@click.option("--collection", required=True, metavar="NAME", help="Where the points go.")
@click.option(
    "--file", "where", required=True, multiple=True, metavar="PATH",
    help="A file, a folder of files, or - for standard input; may be given several times, taken in that order.",
)  # fmt: skip
@click.option(
    "--format", "kind", type=click.Choice(["parquet", "jsonl", "csv"]), help="By the file's ending if not given."
)
@click.option("--id-column", metavar="COLUMN", help="Ids; without it an id is the file's hash and the line.")
@click.option("--vector-column", default="vector", show_default=True, metavar="COLUMN")
@click.option("--payload-columns", metavar="A,B,...", help="All but id and vector if not given; '' for none.")
@click.option("--batch-size", default=1000, show_default=True, type=click.IntRange(1, 100_000), help="Rows per write.")
@click.option(
    "--parallel", default=4, show_default=True, type=click.IntRange(1, 64), help="Writes under way at a time."
)
@click.option(
    "--to", metavar="WHERE", help="A folder, s3://bucket/prefix or http://host:port; as configured if not given."
)
@click.option("--api-key", envvar="AKIDB_API_KEY", help="For a server (or AKIDB_API_KEY).")
@click.option("--create", is_flag=True, help="Make the collection if it is not there.")
@click.option("--distance", type=click.Choice([metric.value for metric in Metric], case_sensitive=False),
              help="Of a collection that is made; Cosine.")  # fmt: skip
@click.option("--rejects", metavar="PATH", type=click.Path(dir_okay=False, path_type=Path),
              help="Where bad rows are listed; NAME.rejects.jsonl.")  # fmt: skip
@click.option("--restart", is_flag=True, help="Begin at the first row, also where an earlier run was stopped.")
@click.option("--config", metavar="FILE", help="YAML file with settings, as for akidb-api.")
def main(
    collection: str,
    where: tuple[str, ...],
    kind: Any,
    id_column: str | None,
    vector_column: str,
    payload_columns: str | None,
    batch_size: int,
    parallel: int,
    to: str | None,
    api_key: str | None,
    create: bool,
    distance: str | None,
    rejects: Path | None,
    restart: bool,
    config: str | None,
) -> None:
    """Store the rows of Parquet, JSON Lines or CSV files as points.

    A row with an id that is there replaces its point, and the last row of an id wins. A run that was stopped goes on
    where it was if the same command is given again. Rows that cannot be stored are listed with line and reason.
    """
    if where.count("-") > 1:
        raise click.UsageError("standard input can be read once: --file - stands twice")
    if "-" in where and id_column is None:
        raise click.UsageError("standard input needs --id-column: ids made from a file's hash need a file")
    payload = None if payload_columns is None else tuple(name for name in payload_columns.split(",") if name)
    job = Job(
        collection=collection,
        where=where,
        columns=Columns(vector_column, id_column, payload),
        rejects=rejects or Path(f"{collection}.rejects.jsonl"),
        format=kind,
        to=to,
        api_key=api_key,
        metric=None if distance is None else Metric.parse(distance),
        create=create,
        rows_per_batch=batch_size,
        parallel=parallel,
        restart=restart,
    )
    bar = Bar()
    try:
        found = load(config=config)
        for warning in found.warnings:
            click.echo(f"warning: {warning}", err=True)
        logs.configure("warning", "text", stream=sys.stderr)
        place = asyncio.run(job.run(found.settings, bar))
    except AkiDBError as error:
        bar.close()
        click.echo(f"akidb-ingest: {error}", err=True)
        sys.exit(EXIT_ARGUMENTS if error.code in _ARGUMENT_CODES else EXIT_FAILED)
    except KeyboardInterrupt:
        bar.close()
        click.echo("akidb-ingest: interrupted; the same command goes on from here", err=True)
        sys.exit(EXIT_INTERRUPTED)
    bar.close()
    click.echo(bar.summary(place, job))
    sys.exit(EXIT_REJECTS if place.rejected else 0)


if __name__ == "__main__":
    main()
