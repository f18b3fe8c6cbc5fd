"""``manage.py shadow_replay``: would a strategy's code and parameters have ordered what was ordered live?"""

from __future__ import annotations

import argparse
import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from strategies.exceptions import MatsError
from trading.backtest.check_wish import ShadowWish, parse_check
from trading.backtest.shadow import DIFFERENT, SAME
from trading.backtest.shadow_day import shadow, tell
from trading.interrupts import stop_on_signals
from trading.management.check_options import FOUND, UNKNOWN, keep_quiet, print_lines
from trading.management.progress_line import ProgressLine


class Command(BaseCommand):
    """Replay a live day of a reactive strategy, in the foreground."""

    help = (
        "Decide a live day of a reactive strategy again, over the recorded bars, and hold its orders against the "
        "ledger's. Exit code 0: the same; 1: they differ; 2: inconclusive, or it could not be done."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("strategy", help="symbol of the strategy")
        parser.add_argument("--day", required=True, help="day in New York, such as 2026-03-02")
        parser.add_argument("--alert", action="store_true", help="raise an alert when they differ, end it when not")
        parser.add_argument("--json", action="store_true", help="print the result as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        """Replay, print, end with the verdict."""
        keep_quiet(options["verbosity"])
        try:
            wish = parse_check(ShadowWish, {"strategy": options["strategy"], "day": options["day"]})
            with stop_on_signals() as interrupt, ProgressLine(self.stderr) as line:
                answer = shadow(wish, line.show, interrupt.is_set)
            if options["alert"]:
                tell(answer)
        except MatsError as error:
            raise CommandError(error.message, returncode=UNKNOWN) from error
        except DatabaseError as error:
            raise CommandError(f"The database cannot be read: {error}", returncode=UNKNOWN) from error
        if options["json"]:
            self.stdout.write(json.dumps(answer, indent=2))
        else:
            self._print(answer)
        if answer["verdict"] == DIFFERENT:
            raise CommandError(f"Orders that differ: {answer['differences']}.", returncode=FOUND)
        if answer["verdict"] != SAME:
            raise CommandError("The replay is inconclusive.", returncode=UNKNOWN)

    def _print(self, answer: dict[str, Any]) -> None:
        self.stdout.write(f"\n{answer['strategy']} on {answer['day']}: {answer['verdict']}")
        self.stdout.write(
            f"  {answer['bars']} bars, {answer['signals']} signals, {answer['orders']} orders, "
            f"{answer['differences']} of them differ."
        )
        for row in answer["different"]:
            self.stdout.write(f"  {row['at']} {row['symbol']}: {row['what']}")
            self.stdout.write(f"      live      {row['live'] or '–'}")
            self.stdout.write(f"      replayed  {row['replayed'] or '–'}")
        print_lines(
            self.stdout, (f"  refused in the replay: {count} × {code}" for code, count in answer["refused"].items())
        )
        print_lines(self.stdout, (f"! {text}" for text in [*answer["reasons"], *answer["notes"]]))
