"""akidb store: is this store one that AkiDB can be trusted to?"""

from __future__ import annotations

import asyncio
import sys

import click

from akidb.config import load
from akidb.database import Database
from akidb.database.format import ensure_format
from akidb.database.garbage import Round
from akidb.errors import AkiDBError
from akidb.storage import as_found, as_judged, open_location, open_store
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

    Works on objects of its own below probe/, which it deletes, and makes the bucket as a start would. With 20 rounds a
    bucket receives about 1.3 GB.
    """
    logs.configure("warning", "text", stream=sys.stderr)
    try:
        kept = asyncio.run(_check(where, rounds, config))
    except AkiDBError as error:
        click.echo(f"akidb store check: {error}", err=True)
        sys.exit(EXIT_NOT_ASKED)
    sys.exit(0 if kept else EXIT_BROKEN)


@store.command(
    "gc",
    epilog="Exit status: 0 done; 1 something was refused or failed; 2 the store could not be asked.",
)
@click.option("--store", "where", metavar="URL", help="s3://bucket/prefix or a folder; as configured if not given.")
@click.option("--now", is_flag=True, help="Also where the last round is less than storage.gc_interval_secs ago; work "
              "that other nodes began before may have to begin anew.")  # fmt: skip
@click.option("--force", is_flag=True, help="Delete even where more than half of the bytes would go.")
@click.option("--config", metavar="FILE", help="YAML file with settings, as for akidb-api.")
def collect_garbage(where: str | None, now: bool, force: bool, config: str | None) -> None:
    """Delete what no collection and no snapshot names any more, as nodes do in the background.

    In a bucket an object goes two to three rounds after it was last named, so one call alone frees little; what is too
    young to go in this round is counted. Slots of the log wait an hour besides, however soon rounds come.
    """
    logs.configure("warning", "text", stream=sys.stderr)
    try:
        clean = asyncio.run(_collect(where, now, force, config))
    except AkiDBError as error:
        click.echo(f"akidb store gc: {error}", err=True)
        sys.exit(EXIT_NOT_ASKED)
    sys.exit(0 if clean else EXIT_BROKEN)


async def _collect(where: str | None, now: bool, force: bool, config: str | None) -> bool:
    found = load(config=config)
    for warning in found.warnings:
        click.echo(f"warning: {warning}", err=True)
    settings = as_found(found.settings)
    opened = open_store(settings) if where is None else open_location(where, settings)
    click.echo(f"store: {opened.location}")
    try:
        await ensure_format(opened, create=False)  # a name that is mistyped becomes no store by being cleaned
        database = await Database.open(opened, settings)
    except BaseException:
        await opened.close()
        raise
    try:
        rounds = await database.collect_garbage(interval_secs=0 if now else None, force=force)
    finally:
        await database.close()
    for each in rounds:
        click.echo(f"{each.what}: {_outcome(each)}")
    return not any(each.error or each.done.refused for each in rounds)


def _outcome(each: Round) -> str:
    if each.error is not None:
        return f"failed: {each.error}"
    if each.done.refused is not None:
        return f"refused: {each.done.detail}"
    if each.done.due_secs:
        return f"not due for {each.done.due_secs / 60:,.0f} min, see --now"
    deleted = f"deleted {each.done.objects} objects, {each.done.bytes:,} bytes"
    if not each.done.young_objects:
        return deleted
    return f"{deleted}; too young yet: {each.done.young_objects} objects, {each.done.young_bytes:,} bytes"


async def _check(where: str | None, rounds: int, config: str | None) -> bool:
    found = load(config=config)
    for warning in found.warnings:
        click.echo(f"warning: {warning}", err=True)
    settings = as_judged(found.settings)
    opened = open_store(settings) if where is None else open_location(where, settings)
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
