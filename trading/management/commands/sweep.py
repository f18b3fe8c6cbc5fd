"""``manage.py sweep``: run a strategy with many parameter sets and print which did best, and how far to believe it."""

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

_TOP = 15


class Command(BaseCommand):
    """Run a sweep here, in the foreground."""

    help = (
        "Try many parameter sets of a strategy. Example: manage.py sweep simple_ma_cross.py --symbols AAPL "
        '--source sample --start 2000-03-01 --end 2013-03-01 --params \'{"interval": "1d", "min_quality": 0}\' '
        "--vary fast_period=5:20:5 --vary slow_period=20:60:10. "
        "Ctrl-C ends it where it is and prints what came of it so far; a sweep cannot be resumed."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the options."""
        add_options(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run, print."""
        from trading.backtest import study_json, study_store
        from trading.backtest.sweep import prepare, run_sweep
        from trading.backtest.sweep_wish import parse_sweep

        keep_quiet(options["verbosity"])
        try:
            study = prepare(parse_sweep(wish_of(options)))
            with stop_on_signals() as interrupt, ProgressLine(self.stderr) as line:
                result = run_sweep(
                    study, progress=line.show, should_stop=interrupt.is_set, scheduler=options["scheduler"]
                )
            made = study_json.sweep_as_json(study.wish, result)
            if options["table"]:
                study_store.write_table(Path(options["table"]), study_store.table_of(result.trials))
            if options["save"]:
                made["run"] = study_store.keep_sweep(study, result, actor="command line").name
        except MatsError as error:
            raise CommandError(error.message) from error
        for note in study.launch.notes:
            self.stderr.write(f"! {note}")
        if options["json"]:
            self.stdout.write(json.dumps(made, indent=2))
        else:
            self._print(made)
        if made["best"] is None:
            raise CommandError(made["reason"], returncode=2)

    def _print(self, made: dict[str, Any]) -> None:
        if made["rows"]:
            titles = ["set", *made["params"], *(title for _, title in SHOWN)]
            rows = [
                [
                    str(row["number"]),
                    *(json.dumps(row["params"][name]) for name in made["params"]),
                    *(figure_text(name, row["metrics"].get(name)) for name, _ in SHOWN),
                ]
                for row in made["rows"][:_TOP]
            ]
            for text in table_lines([titles, *rows]):
                self.stdout.write(text)
        print_ending(self.stdout, made)
        self.stdout.write(f"Probability of overfitting: {measure_text(made['overfitting'])}")
        self.stdout.write(f"Deflated Sharpe ratio:      {measure_text(made['deflated'])}")
        if made.get("run"):
            self.stdout.write(f"Kept as {made['run']}.")
        if made["best"]:
            self.stdout.write(f"Best by {made['objective']}: {json.dumps(made['best']['params'])}")
