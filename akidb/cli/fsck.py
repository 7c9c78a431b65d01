"""akidb fsck: are all objects of a store what was put there?"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict

import click

from akidb.config import load
from akidb.database.fsck import Checked, Fault, Fsck
from akidb.errors import AkiDBError
from akidb.storage import as_found, file_cache, open_location, open_store
from akidb.telemetry import logging as logs

EXIT_DAMAGED = 1
EXIT_NOT_ASKED = 2


@click.command(
    epilog="Exit status: 0 all is sound; 1 something is damaged or missing, or not AkiDB's; 2 the store could not be "
    "asked, or wrong arguments."
)
@click.option("--store", "where", metavar="URL", help="s3://bucket/prefix or a folder; as configured if not given.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of lines.")
@click.option("--config", metavar="FILE", help="YAML file with settings, as for akidb-api.")
def fsck(where: str | None, as_json: bool, config: str | None) -> None:
    """Read every object of a store, compare it with its checksums, and name what is damaged or missing.

    Writes nothing and mends nothing; the store may be in use meanwhile. All of its bytes are read.
    """
    logs.configure("warning", "text", stream=sys.stderr)
    try:
        location, checked = asyncio.run(_check(where, as_json, config))
    except AkiDBError as error:
        click.echo(f"akidb fsck: {error}", err=True)
        sys.exit(EXIT_NOT_ASKED)
    if as_json:
        click.echo(json.dumps({"store": location, **asdict(checked)}, indent=1))
    elif checked.faults:
        click.echo(f"damaged or missing, or not AkiDB's: {len(checked.faults):,}; sound: {checked.objects:,}")
    else:
        click.echo(f"all {checked.objects:,} objects are sound ({checked.bytes:,} bytes)")
    sys.exit(EXIT_DAMAGED if checked.faults else 0)


async def _check(where: str | None, as_json: bool, config: str | None) -> tuple[str, Checked]:
    found = load(config=config)
    for warning in found.warnings:
        click.echo(f"warning: {warning}", err=True)
    settings = as_found(found.settings)
    opened = open_store(settings) if where is None else open_location(where, settings)
    cache = file_cache(opened)
    run = Fsck(opened if cache is None else cache.inner)  # a cached copy would tell nothing of the store
    if not as_json:
        click.echo(f"store: {opened.location}")
    try:
        async for fault in run.run():
            if not as_json:
                click.echo(_line(fault))
    finally:
        await opened.close()
    return opened.location, run.checked


def _line(fault: Fault) -> str:
    return f"BAD  {fault.fault}" + (f" (collection {fault.collection})" if fault.collection else "")
