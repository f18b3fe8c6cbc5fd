"""Compare the books with IB now: ``manage.py reconcile``."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from portfolio.books_queries import breaks
from portfolio.ledger.money import plain
from trading.management.commands.book import run, told


class Command(BaseCommand):
    """Enqueue, wait, print the outcome and the open breaks."""

    help = (
        "Have the running engine ask IB for the day's executions and its positions, compare, and say what differs. "
        "Exit codes: 0 compared (also with breaks, which it lists), 1 no engine, no connection or no answer."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--user", metavar="NAME", help="in whose name (default: cli)")
        parser.add_argument("--wait", type=float, default=90.0, metavar="SECONDS", help="default %(default)g")

    def handle(self, *args: Any, **options: Any) -> None:
        """Ask, wait, tell."""
        self.stdout.write(told(run("reconcile", {}, options["user"], options["wait"])))
        rows = list(breaks(history=False).order_by("id"))
        for row in rows:
            what = row.currency if row.instrument is None else f"{row.instrument} ({row.instrument_id})"
            self.stdout.write(
                f"break {row.pk}: {what}: IB {plain(row.ib_quantity)}, books {plain(row.ledger_quantity)}"
            )
        if not rows:
            self.stdout.write("No open breaks.")
