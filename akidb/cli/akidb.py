"""akidb: what is done to a store or a machine now and then. Every subcommand is a module of this folder."""

from __future__ import annotations

import click

from akidb import __version__
from akidb.cli.doctor import doctor
from akidb.cli.fsck import fsck
from akidb.cli.store import store


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="akidb")
def main() -> None:
    """Tools around AkiDB; `akidb-api` serves, `akidb-ingest` loads files."""


main.add_command(doctor)
main.add_command(fsck)
main.add_command(store)

if __name__ == "__main__":
    main()
