"""``manage.py check_lookahead``: does a strategy know what it cannot know yet?"""

from __future__ import annotations

import argparse
import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from strategies.exceptions import MatsError
from trading.backtest.check_wish import LookaheadWish, parse_check
from trading.backtest.honesty import look_ahead
from trading.backtest.lookahead import CLEAN, LOOKAHEAD
from trading.interrupts import stop_on_signals
from trading.management.check_options import FOUND, UNKNOWN, add_options, backtest_of, keep_quiet, print_lines
from trading.management.progress_line import ProgressLine

_SHOWN = 10


class Command(BaseCommand):
    """Check strategies for lookahead, in the foreground."""

    help = (
        "Run strategies over bars that end where they decided, and compare with the run over all bars. "
        "Exit code 0: clean; 1: lookahead found; 2: inconclusive, or it could not be done."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the options."""
        add_options(parser)
        parser.add_argument("--trades", type=int, default=20, help="trades to look at, 0: all (default: %(default)s)")
        parser.add_argument("--minimum", type=int, default=10, help="trades needed (default: %(default)s)")
        parser.add_argument("--quiet", type=int, default=10, help="moments without signals (default: %(default)s)")

    def handle(self, *args: Any, **options: Any) -> None:
        """Check, print, end with the verdict."""
        keep_quiet(options["verbosity"])
        asked = {name: options[name] for name in ("trades", "minimum", "quiet")}
        try:
            wish = parse_check(LookaheadWish, {"backtest": backtest_of(options), **asked})
            with stop_on_signals() as interrupt, ProgressLine(self.stderr) as line:
                answer = look_ahead(wish, line.show, interrupt.is_set)
        except MatsError as error:
            raise CommandError(error.message, returncode=UNKNOWN) from error
        except DatabaseError as error:
            raise CommandError(f"The database cannot be read: {error}", returncode=UNKNOWN) from error
        if options["json"]:
            self.stdout.write(json.dumps(answer, indent=2))
        else:
            self._print(answer)
        if answer["verdict"] == LOOKAHEAD:
            raise CommandError("Lookahead was found.", returncode=FOUND)
        if answer["verdict"] != CLEAN:
            raise CommandError("The check is inconclusive.", returncode=UNKNOWN)

    def _print(self, answer: dict[str, Any]) -> None:
        for one in answer["strategies"]:
            self.stdout.write(f"\n{one['strategy']}: {one['verdict']}")
            self.stdout.write(
                f"  {one['trades']} trades; looked at {one['entries']} entries, {one['exits']} exits, "
                f"{one['orders']} orders that never filled, {one['quiet']} quiet moments in {one['reruns']} runs."
            )
            shown = one["findings"][:_SHOWN]
            print_lines(self.stdout, (f"  ! {text}" for text in shown))
            if one["found"] > len(shown):
                self.stdout.write(f"  … and {one['found'] - len(shown)} more.")
            print_lines(self.stdout, (f"  ! {text}" for text in one["reasons"]))
        print_lines(self.stdout, (f"! {note}" for note in answer["notes"]))
