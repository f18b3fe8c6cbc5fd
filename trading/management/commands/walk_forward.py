"""``manage.py walk_forward``: search in each window of the past, trade the best set on the days after it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from strategies.exceptions import MatsError
from trading.interrupts import stop_on_signals
from trading.management.check_options import keep_quiet
from trading.management.progress_line import ProgressLine
from trading.management.study_options import (
    SHOWN,
    add_options,
    figure_text,
    measure_text,
    print_ending,
    table_lines,
    wish_of,
)


class Command(BaseCommand):
    """Run a walk-forward here, in the foreground."""

    help = (
        "Search parameters in a window, trade the best set out of sample on the days after it, move on. Example: "
        "manage.py walk_forward simple_ma_cross.py --symbols AAPL --source sample --start 2000-03-01 --end 2013-03-01 "
        '--params \'{"interval": "1d", "min_quality": 0}\' --vary fast_period=5:20:5 --vary slow_period=20:60:10 '
        "--in-sample-days 1095 --out-of-sample-days 365. Only what is out of sample counts; it is told apart. "
        "Ctrl-C ends it where it is and prints the windows that are done; a walk-forward cannot be resumed."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the options."""
        add_options(parser)
        parser.add_argument("--in-sample-days", type=int, required=True, help="calendar days to search in")
        parser.add_argument("--out-of-sample-days", type=int, required=True, help="calendar days to trade after it")
        parser.add_argument("--anchored", action="store_true", help="begin every search with the period, not roll it")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run, print."""
        from trading.backtest import study_store
        from trading.backtest.sweep import prepare
        from trading.backtest.sweep_wish import parse_walk_forward
        from trading.backtest.walk_forward import run_walk_forward
        from trading.backtest.walk_json import walk_forward_as_json

        keep_quiet(options["verbosity"])
        asked = {name: options[name] for name in ("in_sample_days", "out_of_sample_days", "anchored")}
        try:
            wish = parse_walk_forward({**wish_of(options), **asked})
            study = prepare(wish)
            with stop_on_signals() as interrupt, ProgressLine(self.stderr) as line:
                result = run_walk_forward(
                    study, wish, progress=line.show, should_stop=interrupt.is_set, scheduler=options["scheduler"]
                )
            made = walk_forward_as_json(wish, result)
            if options["table"]:
                study_store.write_table(Path(options["table"]), study_store.walk_forward_table(result))
            if options["save"]:
                made["run"] = study_store.keep_walk_forward(study, wish, result, actor="command line").name
        except MatsError as error:
            raise CommandError(error.message) from error
        for note in study.launch.notes:
            self.stderr.write(f"! {note}")
        if options["json"]:
            self.stdout.write(json.dumps(made, indent=2))
        else:
            self._print(made)
        if made["traded"] is None:
            raise CommandError(made["reason"], returncode=2)

    def _print(self, made: dict[str, Any]) -> None:
        titles = ["traded", "chosen in sample", *(f"{title} {where}" for _, title in SHOWN for where in ("in", "out"))]
        rows = [
            [
                " – ".join(piece["out_of_sample"]),
                json.dumps(piece["chosen"]["params"]) if piece["chosen"] else piece["reason"],
                *(
                    figure_text(name, (found or {}).get(name))
                    for name, _ in SHOWN
                    for found in ((piece["chosen"] or {}).get("metrics"), piece["traded"])
                ),
            ]
            for piece in made["pieces"]
        ]
        for text in table_lines([titles, *rows]):
            self.stdout.write(text)
        for piece in made["pieces"]:
            if piece["error"]:
                self.stdout.write(f"! window {piece['number']}: {piece['error']}")
        print_ending(self.stdout, made)
        if made["traded"]:
            told = ", ".join(f"{title} {figure_text(name, made['traded'][name])}" for name, title in SHOWN)
            self.stdout.write(f"Out of sample, all windows: {told}")
        self.stdout.write(
            f"{made['windows_that_earned']} of {made['traded_windows']} windows earned; "
            f"efficiency {measure_text(made['efficiency'])}."
        )
        if made.get("run"):
            self.stdout.write(f"Kept as {made['run']}.")
