"""Release what is halted: ``manage.py resume``."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from strategies.exceptions import MatsError
from trading import risk_control
from trading.orders.trading_state import TradingState


class Command(BaseCommand):
    """Check the right, release, tell."""

    help = (
        "Let the account, or one strategy, trade again; the file HALT goes with it. Needs an administrator and a "
        "reason, which the audit trail keeps. Exit codes: 0 released, 1 refused (the line says why)."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--strategy", default="", metavar="SYMBOL", help="only this one; default: the account")
        parser.add_argument("--reduce-only", action="store_true", help="let only reductions pass for now")
        parser.add_argument("--reason", required=True, help="why")
        parser.add_argument("--user", required=True, metavar="NAME", help="an administrator")

    def handle(self, *args: Any, **options: Any) -> None:
        """Release, tell."""
        user = User.objects.filter(username=options["user"]).first()
        if not risk_control.may_release(user):
            raise CommandError(f"{options['user']} is no administrator; only one may release.")
        state = TradingState.REDUCING if options["reduce_only"] else TradingState.ACTIVE
        try:
            row = risk_control.set_trading_state(
                options["strategy"], state, reason=options["reason"], actor=options["user"], source="cli"
            )
        except (MatsError, OSError, DatabaseError) as error:
            raise CommandError(f"Nothing was released: {error}") from error
        self.stdout.write(f"{options['strategy'] or 'The account'} is {row.state}.")
