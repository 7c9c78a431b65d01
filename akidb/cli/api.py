"""akidb-api: the REST service."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable

import click

import akidb
from akidb.cli.workers import EXIT_CONFIGURATION, supervise
from akidb.config import Configuration, Settings, effective, load
from akidb.errors import AkiDBError, ConfigurationError, InvalidInputError
from akidb.telemetry import logging as logs

log = logging.getLogger("akidb.api")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(akidb.__version__, prog_name="akidb-api")
@click.option("--config", metavar="FILE", help="YAML file with settings; /etc/akidb/akidb.yaml if it is there.")
@click.option("--check-config", is_flag=True, help="Print the effective configuration, secrets masked, and exit.")
@click.option("--bind", metavar="HOST:PORT", help="Address to listen on; 127.0.0.1:8080.")
@click.option("--workers", metavar="N", help="Processes that share the port; 1.")
@click.option(
    "--listener-fd", type=int, hidden=True, help="Socket inherited from the process that supervises this one."
)
def main(
    config: str | None, check_config: bool, bind: str | None, workers: str | None, listener_fd: int | None
) -> None:
    """Serve AkiDB over REST.

    Settings come from a YAML file, from the environment (AKIDB_...), and from these flags, each overriding the one
    before; docs/configuration.md lists them all.
    """
    try:
        found = load(config=config, flags={"api.bind_address": bind, "api.workers": workers})
        akidb.simd_info()  # reads AKIDB_SIMD_LEVEL, which if wrong would fail every write and search
    except (ConfigurationError, InvalidInputError) as error:
        click.echo(f"akidb-api: the configuration is refused:\n{error}", err=True)
        sys.exit(EXIT_CONFIGURATION)
    if check_config:
        _show(found)
        return
    settings = found.settings
    logs.configure(settings.log.level, settings.log.format)
    try:
        if listener_fd is not None:
            listener = socket.socket(fileno=listener_fd)
            listener.setblocking(False)
            _run(settings, listener, worker=True)
            return
        listener = _listen(settings.api.bind_address)
        _introduce(found, listener)
        if settings.api.workers > 1:
            arguments = [*(["--config", config] if config else []), "--bind", settings.api.bind_address]
            sys.exit(supervise(settings.api.workers, arguments, listener))
        _run(settings, listener, worker=False)
    except AkiDBError as error:
        click.echo(f"akidb-api: {error}", err=True)
        sys.exit(EXIT_CONFIGURATION if isinstance(error, ConfigurationError) else 1)


def _show(found: Configuration) -> None:
    click.echo(effective(found), nl=False)
    for warning in found.warnings:
        click.echo(f"warning: {warning}", err=True)


def _listen(address: str) -> socket.socket:
    from akidb.api.server import listen

    return listen(address)


def _introduce(found: Configuration, listener: socket.socket) -> None:
    from akidb.storage import open_store

    settings = found.settings
    host, port = listener.getsockname()[:2]
    where = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    auth = f"on ({len(settings.auth.api_keys)} API keys)" if settings.auth.enabled else "off"
    log.info("AkiDB %s listens on %s, store %s, auth %s", akidb.__version__, where, open_store(settings).location, auth)
    for warning in found.warnings:
        log.warning(warning)


def _run(settings: Settings, listener: socket.socket, *, worker: bool) -> None:
    """Serves in this process until a signal, or, in a worker, until the supervisor is gone."""
    import gc

    import prometheus_client

    from akidb.api.server import EXIT_SECS_MAX, Stop, serve
    from akidb.api.service import Service
    from akidb.telemetry import tracing

    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
    tracing.configure(settings.telemetry, version=akidb.__version__)
    service = Service(settings, akidb.__version__)

    async def run() -> None:
        stop = Stop()
        loop = asyncio.get_running_loop()

        def ask(patient: bool) -> None:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)  # a second signal ends the process at once
            # A thread that never returns, say in a hung file system, must not keep the process past its time.
            last_resort = threading.Timer(EXIT_SECS_MAX, os._exit, (1,))
            last_resort.daemon = True
            last_resort.start()
            stop.ask(patient=patient)

        loop.add_signal_handler(signal.SIGTERM, ask, True)
        if worker:
            # A terminal sends Ctrl-C to the whole group; the supervisor decides what it means for its workers.
            loop.add_signal_handler(signal.SIGINT, lambda: None)
            _watch_supervisor(loop, lambda: ask(False))
        else:
            loop.add_signal_handler(signal.SIGINT, ask, not sys.stdin.isatty())
        gc.freeze()  # what was imported lives as long as the process: never walk it again
        await serve(service, listener, stop)

    asyncio.run(run())
    tracing.shutdown()


def _watch_supervisor(loop: asyncio.AbstractEventLoop, gone: Callable[[], None]) -> None:
    def readable() -> None:
        loop.remove_reader(0)
        gone()

    loop.add_reader(0, readable)


if __name__ == "__main__":
    main()
