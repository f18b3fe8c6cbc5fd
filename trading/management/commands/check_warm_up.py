"""``manage.py check_warm_up``: how many bars does a strategy need before its first decision?"""

from __future__ import annotations

import argparse
import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from strategies.exceptions import MatsError
from trading.backtest.check_wish import LENGTHS, WarmUpWish, parse_check
from trading.backtest.honesty import warm_up
from trading.backtest.warm_up import ENOUGH, SHORT
from trading.interrupts import stop_on_signals
from trading.management.check_options import FOUND, UNKNOWN, add_options, backtest_of, keep_quiet, print_lines
from trading.management.progress_line import ProgressLine


class Command(BaseCommand):
    """Compare lengths of warm-up, in the foreground."""

    help = (
        "Decide upon the last bars with less and less history, and compare with all of it. "
        "Exit code 0: what the strategy declares is enough; 1: it is too short; 2: inconclusive, or it could not be "
        "done."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the options."""
        add_options(parser)
        parser.add_argument(
            "--lengths", default=",".join(map(str, LENGTHS)), help="bars of warm-up, by commas (default: %(default)s)"
        )
        parser.add_argument("--tolerance", type=float, default=0.001, help="drift that is right (default: %(default)s)")
        parser.add_argument("--watch", type=int, default=20, help="last bars to decide upon (default: %(default)s)")

    def handle(self, *args: Any, **options: Any) -> None:
        """Check, print, end with the verdict."""
        keep_quiet(options["verbosity"])
        asked = {name: options[name] for name in ("tolerance", "watch")}
        lengths = [one.strip() for one in options["lengths"].split(",") if one.strip()]
        try:
            wish = parse_check(WarmUpWish, {"backtest": backtest_of(options), "lengths": lengths, **asked})
            with stop_on_signals() as interrupt, ProgressLine(self.stderr) as line:
                answer = warm_up(wish, line.show, interrupt.is_set)
        except MatsError as error:
            raise CommandError(error.message, returncode=UNKNOWN) from error
        except DatabaseError as error:
            raise CommandError(f"The database cannot be read: {error}", returncode=UNKNOWN) from error
        if options["json"]:
            self.stdout.write(json.dumps(answer, indent=2))
        else:
            self._print(answer)
        if answer["verdict"] == SHORT:
            raise CommandError("A declared warm-up is too short.", returncode=FOUND)
        if answer["verdict"] != ENOUGH:
            raise CommandError("The check is inconclusive.", returncode=UNKNOWN)

    def _print(self, answer: dict[str, Any]) -> None:
        for one in answer["strategies"]:
            self.stdout.write(f"\n{one['strategy']}: {one['verdict']}. {one['sentence']}")
            self.stdout.write(
                f"  {one['numbers']} numbers at the last {one['watched']} bars; {one['history']} bars before them."
            )
            print_lines(self.stdout, (f"  {_line(length)}" for length in one["lengths"]))
            print_lines(self.stdout, (f"  ! {text}" for text in [*one["reasons"], *one["notes"]]))
        print_lines(self.stdout, (f"! {note}" for note in answer["notes"]))


def _line(length: dict[str, Any]) -> str:
    bars = f"{length['bars']:>8} bars"
    if not length["compared"]:
        return f"{bars}  not compared: {length['reason']}"
    worst = f" ({length['reason'] or length['worst']})" if length["worst"] else ""
    signals = f", {length['signals']} of {length['spoken']} signals differ" if length["signals"] else ""
    return f"{bars}  {'enough ' if length['enough'] else 'too few'}  drift {length['text']}{worst}{signals}"
