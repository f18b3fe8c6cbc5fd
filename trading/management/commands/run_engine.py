"""Run the engine: ``manage.py run_engine``."""

from __future__ import annotations

import os
import signal
import sys
import threading
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections
from django.db.migrations.executor import MigrationExecutor

from strategies.exceptions import ConfigError
from trading.engine.lease import EngineHeldError
from trading.engine.manager import StrategyManager
from trading.ib.patches import tune_gc

EXIT_HELD = 3
EXIT_STALE = 4
EXIT_FORCED = 130
SHUTDOWN_TIMEOUT_S = 30.0


class Command(BaseCommand):
    """Connect to TWS or the paper gateway, keep the books, run the strategies."""

    help = (
        "Run the engine: it connects to TWS, IB Gateway or the paper gateway, keeps the ledger, runs strategies.\n\n"
        "It waits for a gateway that is not there yet, replays the day's executions, compares positions and only then\n"
        "lets orders flow and starts the active strategies. One engine per database. Ctrl-C or SIGTERM stops the\n"
        "strategies, drains the queue and ends with 0; a second Ctrl-C ends at once, and nothing is lost by it.\n\n"
        "Exit codes: 0 stopped in order, 1 cannot start, 3 another engine runs, 4 another engine took over."
    )

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        """Keep the line breaks of the help text."""
        return super().create_parser(prog_name, subcommand, formatter_class=RawDescriptionHelpFormatter, **kwargs)

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "--no-autostart", action="store_true", help="do not start the active strategies; wait for commands"
        )
        parser.add_argument(
            "--once",
            action="store_true",
            help="connect, replay the day's executions, compare positions, then stop; starts no strategy",
        )
        parser.add_argument(
            "--shutdown-timeout",
            type=float,
            default=min(SHUTDOWN_TIMEOUT_S, settings.MATS.stop_timeout_s),
            metavar="SECONDS",
            help="how long a shutdown waits for working orders of the strategies (default %(default)g)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Check what must be there, run, stop in order."""
        check_database()
        try:
            engine = StrategyManager()
        except ConfigError as error:
            raise CommandError(error.message) from error
        engine.autostart = not (options["no_autostart"] or options["once"])
        install_signals(engine)
        try:
            engine.start()
        except EngineHeldError as error:
            raise CommandError(error.message, returncode=EXIT_HELD) from error
        except ConfigError as error:
            raise CommandError(error.message) from error
        except DatabaseError as error:
            raise CommandError(f"The database cannot be written: {error}") from error
        tune_gc()
        where = f"{settings.MATS.ib_host}:{settings.MATS.ib_port}"
        self.stdout.write(f"Engine epoch {engine.lease.epoch} runs; gateway {where}. Ctrl-C stops it.")
        if options["once"]:
            wait_once(engine)
        engine.stop_event.wait()
        ended = engine.cleanup(options["shutdown_timeout"])
        for symbol in (symbol for symbol, done in ended.items() if not done):
            self.stderr.write(f"{symbol} did not end in time.")
        if engine.stale:
            raise CommandError("Another engine took over; this one stopped.", returncode=EXIT_STALE)
        self.stdout.write("Engine stopped.")


def check_database() -> None:
    """Refuse a database that cannot be reached or lacks migrations.

    Raises: CommandError saying what to do.
    """
    try:
        executor = MigrationExecutor(connections[DEFAULT_DB_ALIAS])
        missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except DatabaseError as error:
        raise CommandError(f"The database cannot be used: {error}") from error
    if missing:
        raise CommandError(f"The database lacks {len(missing)} migrations; run: python manage.py migrate")


def install_signals(engine: StrategyManager) -> None:
    """First SIGINT or SIGTERM: stop in order. Second SIGINT: end at once."""

    def _stop(number: int, _: Any) -> None:
        if engine.stop_event.is_set() and number == signal.SIGINT:
            sys.stderr.write("Forced to end; the next start replays the day's executions.\n")
            sys.stderr.flush()
            os._exit(EXIT_FORCED)
        engine.stop_event.set()

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, _stop)
        signal.signal(signal.SIGTERM, _stop)


def wait_once(engine: StrategyManager) -> None:
    """Return when the books were compared once, or a stop is wanted."""
    while not engine.stop_event.is_set():
        if engine.gate.wait_open(0.5):
            engine.stop_event.set()
