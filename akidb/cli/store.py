"""akidb store: is this store one that AkiDB can be trusted to?"""

from __future__ import annotations

import asyncio
import sys

import click

from akidb.config import load
from akidb.errors import AkiDBError
from akidb.storage import open_location, open_store
from akidb.storage.conformance import RULES, check
from akidb.telemetry import logging as logs

EXIT_BROKEN = 1
EXIT_NOT_ASKED = 2


@click.group()
def store() -> None:
    """Look at the store itself."""


@store.command(
    "check",
    epilog="Exit status: 0 every rule holds; 1 one does not; 2 the store could not be asked, or wrong arguments.",
)
@click.option("--store", "where", metavar="URL", help="s3://bucket/prefix or a folder; as configured if not given.")
@click.option("--rounds", default=20, show_default=True, type=click.IntRange(1, 10_000), help="Repeats of each race.")
@click.option("--config", metavar="FILE", help="YAML file with settings, as for akidb-api.")
def check_store(where: str | None, rounds: int, config: str | None) -> None:
    """Try every rule that AkiDB needs a store to keep: conditions, also among racers; reads, ranges, lists, dates.

    Works on objects of its own below probe/, which it deletes. With 20 rounds a bucket receives about 1.3 GB.
    """
    logs.configure("warning", "text", stream=sys.stderr)
    try:
        kept = asyncio.run(_check(where, rounds, config))
    except AkiDBError as error:
        click.echo(f"akidb store check: {error}", err=True)
        sys.exit(EXIT_NOT_ASKED)
    sys.exit(0 if kept else EXIT_BROKEN)


async def _check(where: str | None, rounds: int, config: str | None) -> bool:
    found = load(config=config)
    for warning in found.warnings:
        click.echo(f"warning: {warning}", err=True)
    opened = open_store(found.settings) if where is None else open_location(where, found.settings)
    click.echo(f"store: {opened.location}")
    faults = 0
    try:
        async for verdict in check(opened, rounds=rounds):
            faults += verdict.fault is not None
            word, why = ("ok  ", "") if verdict.fault is None else ("FAIL", f": {verdict.fault}")
            click.echo(f"{word} {verdict.rule}{why} ({verdict.took_secs:.1f} s)")
    finally:
        await opened.close()
    if faults:
        click.echo(f"{faults} of {len(RULES)} rules do not hold: AkiDB would lose data on this store; do not use it")
    else:
        click.echo(f"all {len(RULES)} rules hold")
    return not faults
