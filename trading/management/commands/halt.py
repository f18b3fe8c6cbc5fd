"""Halt trading: ``manage.py halt``. Works without web, engine and database."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from strategies.exceptions import MatsError
from trading import risk_control
from trading.orders.trading_state import TradingState


class Command(BaseCommand):
    """Write the halt file, then the state."""

    help = (
        "Halt the account, or one strategy: nothing new is sent, cancels pass. The account is halted by the file HALT "
        "in MATS_HOME, written before anything else: the engine sees it within 100 ms, also when the database is "
        "locked. Ends with 0 when the halt is in force and on record, 1 when it could only be written to the file or "
        "not at all. Release it with: manage.py resume."
    )
    requires_system_checks: list[str] = []  # nothing may stand in its way

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--strategy", default="", metavar="SYMBOL", help="only this one (needs the database)")
        parser.add_argument("--reduce-only", action="store_true", help="let orders pass that only reduce")
        parser.add_argument("--reason", default="halted by hand", help="why; default: %(default)s")
        parser.add_argument("--user", default="cli", metavar="NAME", help="in whose name; default: %(default)s")

    def handle(self, *args: Any, **options: Any) -> None:
        """Halt, tell."""
        owner, reason = options["strategy"], options["reason"]
        state = TradingState.REDUCING if options["reduce_only"] else TradingState.HALTED
        if not owner and state is TradingState.HALTED:
            self._write_file(reason, options["user"])
        if state is TradingState.REDUCING and risk_control.is_looser(owner, state):
            raise CommandError("It is halted; reduce-only would be looser. Release it with: manage.py resume.")
        try:
            row = risk_control.set_trading_state(owner, state, reason=reason, actor=options["user"], source="cli")
        except MatsError as error:
            raise CommandError(error.message) from error
        except DatabaseError as error:
            raise CommandError(f"The state is not on record ({error}); the file alone halts the account.") from error
        self.stdout.write(f"{owner or 'The account'} is {row.state}: {row.reason}")

    def _write_file(self, reason: str, user: str) -> None:
        file = risk_control.halt_file()
        try:
            file.write(reason, user)
        except OSError as error:
            raise CommandError(f"{file.path} cannot be written: {error}") from error
        self.stdout.write(f"{file.path} is written; the engine sends nothing new.")
        self.stdout.flush()
